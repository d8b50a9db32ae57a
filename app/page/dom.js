// Helpers for DOM elements.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export function part(id) {
  return document.getElementById(id);
}

/** A new element; `children` are nodes or strings. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** A new SVG element. */
export function shape(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** An icon from `icons.svg`, hidden from screen readers. */
export function icon(name) {
  const drawing = shape("svg", { class: "icon", "aria-hidden": "true" });
  drawing.append(shape("use", { href: `icons.svg#${name}` }));
  return drawing;
}

/** Show a sentence in `frame` in place of `img` while its photo cannot be loaded, for example because the file is gone. */
export function sayIfMissing(img, frame) {
  const note = make("span", "unavailable", "Photo not available. Was its file moved or deleted?");
  const show = (missing) => {
    frame.classList.toggle("missing", missing);
    if (missing) frame.append(note);
    else note.remove();
  };
  img.addEventListener("load", () => show(false));
  img.addEventListener("error", () => show(true));
}

/** Debounce: a function that calls `work` after `milliseconds` without a further call. Its `cancel()` drops the call. */
export function settled(work, milliseconds) {
  let timer = 0;
  const call = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}
