// The button that shares the address of the search.

import { part } from "./dom.js";

const SHOWN_FOR = 2500; // milliseconds; arbitrary

/** On a touch screen, share the address; elsewhere, copy it. */
export function listenForSharing() {
  part("share").addEventListener("click", async () => {
    try {
      if (navigator.share && matchMedia("(pointer: coarse)").matches) {
        await navigator.share({ title: document.title, url: location.href });
      } else {
        await navigator.clipboard.writeText(location.href);
        say("Copied");
      }
    } catch (error) {
      if (error.name !== "AbortError") say("Copy the link from the address bar"); // no permission, or no https
    }
  });
}

function say(words) {
  part("share-text").textContent = words;
  setTimeout(() => {
    part("share-text").textContent = "Copy link";
  }, SHOWN_FOR);
}
