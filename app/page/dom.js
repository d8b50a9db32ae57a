// Small helpers for making elements.

const SVG = "http://www.w3.org/2000/svg";

/** The element of the page with this id. */
export function part(id) {
  return document.getElementById(id);
}

/** A new element; `children` are nodes or texts. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** A new element of an SVG drawing, with these attributes. */
export function shape(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** A drawing of `icons.svg`, which says nothing to a screen reader. */
export function icon(name) {
  const drawing = shape("svg", { class: "icon", "aria-hidden": "true" });
  drawing.append(shape("use", { href: `icons.svg#${name}` }));
  return drawing;
}

/** Call `work` once no further call came for some milliseconds; the function has `cancel()`. */
export function settled(work, milliseconds) {
  let timer = 0;
  const call = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}
