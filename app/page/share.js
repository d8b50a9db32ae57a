// The button that hands on the address of the search.

import { part } from "./dom.js";

const SHOWN_FOR = 2500; // milliseconds

/** Let the button share the address, or copy it where there is nothing to share with. */
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
      if (error.name !== "AbortError") say("Copy it from the address bar"); // no permission, or no https
    }
  });
}

function say(words) {
  part("share-text").textContent = words;
  setTimeout(() => {
    part("share-text").textContent = "Copy link";
  }, SHOWN_FOR);
}
