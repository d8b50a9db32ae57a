// The access token of a service that requires one: asked for when it is needed, and stored until the browser is closed.
//
// It is stored in a cookie, which the browser also sends when it loads images. A cookie grants reading, never writing.

import { part } from "./dom.js";

const COOKIE = "glam_token";

let asking = null; // the promise of the question that is open
let declined = false; // and nobody is asked again for the same thing

/** The token, or "" when none was given. */
export function token() {
  const cookies = document.cookie.split("; ").map((one) => one.split(/=(.*)/s));
  return cookies.find(([name]) => name === COOKIE)?.[1] ?? "";
}

/**
 * Ask for a token.
 * @param refused the token with which a request was refused; when another has come since, nobody is asked.
 * @returns a promise of whether there is a token to try again with.
 */
export function askForToken(refused) {
  if (token() !== refused) return Promise.resolve(Boolean(token()));
  if (declined) return Promise.resolve(false);
  asking ??= ask(refused).then((given) => {
    asking = null;
    declined = !given;
    return given;
  });
  return asking;
}

/** Whoever declined may be asked again: there is something new that needs a token. */
export function mayAskAgain() {
  declined = false;
}

function ask(refused) {
  const dialog = part("token-dialog");
  const field = part("token");
  part("token-wrong").hidden = !refused;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      const value = field.value.trim();
      field.value = "";
      const given = dialog.returnValue === "given" && value !== "";
      if (given) keep(value);
      resolve(given);
    };
    dialog.addEventListener("close", closed, { once: true });
  });
}

/** Without an age, a cookie is gone when the browser is closed. */
function keep(value) {
  const folder = location.pathname.replace(/[^/]*$/, "");
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${COOKIE}=${value}; Path=${folder}; SameSite=Strict${secure}`;
}
