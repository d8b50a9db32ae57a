// The access token, for a service that requires one: requested in a dialog, and stored until the browser is closed.
//
// It is stored in a cookie because the browser sends cookies, but no custom headers, when it loads images. The service
// accepts the cookie for reading only.

import { part } from "./dom.js";

const COOKIE = "glam_token";

let asking = null; // promise of the open dialog
let declined = false; // whether the user has canceled the dialog; it stays closed until `mayAskAgain`

/** The stored token; "" if there is none. */
export function token() {
  const cookies = document.cookie.split("; ").map((one) => one.split(/=(.*)/s));
  return cookies.find(([name]) => name === COOKIE)?.[1] ?? "";
}

/**
 * Ask the user for a token.
 * @param refused token of the rejected request. If another one has been stored since, the dialog stays closed.
 * @returns promise of a boolean: whether there is another token to try.
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

/** Allow the dialog again after the user has canceled it. */
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

/** Store a token in a cookie without an expiry date, which the browser deletes when it is closed. */
function keep(value) {
  const folder = location.pathname.replace(/[^/]*$/, "");
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${COOKIE}=${value}; Path=${folder}; SameSite=Strict${secure}`;
}
