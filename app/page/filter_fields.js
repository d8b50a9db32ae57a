// Filter fields: checkboxes for a text column, a range for a number column.

import { make } from "./dom.js";
import { columnName, landmarkName, plainNumber } from "./names.js";

const MANY = 10; // a list of more choices has a search field; arbitrary
const NANOSECONDS = 1e9; // per second; `modified` is in nanoseconds since 1970
const DAY = 24 * 60 * 60; // seconds

let made = 0;

/**
 * A field for a column of `api/filters`; null if all images have the same value.
 * @param onChoose called with {values} or {from, to}.
 * @returns {element, set}: `set` shows a choice; null for none.
 */
export function columnField(column, onChoose) {
  if (column.kind === "text") return column.values?.length > 1 ? choices(column, onChoose) : null;
  return column.least < column.most ? range(column, onChoose) : null;
}

/** A choice as text, such as "Petra, Stonehenge" or "100 to 300". */
export function chosenText(name, { values, from = null, to = null }) {
  if (values) return values.map((value) => valueName(name, value)).join(", ");
  const [least, most] = [from, to].map((end) => end !== null && (name === "modified" ? dayOf(end) : plainNumber(end)));
  if (from === null) return `up to ${most}`;
  return to === null ? `from ${least}` : `${least} to ${most}`;
}

function valueName(column, value) {
  return (column === "landmark" ? landmarkName(value) : value) || "none";
}

function choices({ name, values }, onChoose) {
  const boxes = values.map(({ value, count }) => choice(name, value, count));
  const list = make("div", "choices", ...boxes);
  const element = fieldset(name, list);
  if (values.length > MANY) list.before(narrower(name, boxes));
  const inputs = () => [...list.querySelectorAll("input")];
  list.addEventListener("change", () => onChoose({ values: inputs().filter((one) => one.checked).map((one) => one.value) }));
  const set = (chosen) => {
    const values = chosen?.values ?? [];
    const listed = new Set(inputs().map((one) => one.value));
    for (const value of values) if (!listed.has(value)) list.append(choice(name, value)); // a rare value, from a link
    for (const input of inputs()) input.checked = values.includes(input.value);
  };
  return { element, set };
}

function choice(name, value, count = "") {
  const box = make("input");
  box.type = "checkbox";
  box.value = value;
  return make("label", "choice", box, make("span", "", valueName(name, value)), make("span", "count", String(count)));
}

/** A search field that hides the choices that do not contain its text. */
function narrower(name, boxes) {
  const field = make("input", "field");
  field.type = "search";
  field.placeholder = `Search ${boxes.length} values`;
  field.setAttribute("aria-label", `Search the values of ${columnName(name)}`);
  field.addEventListener("input", () => {
    const text = field.value.trim().toLowerCase();
    for (const box of boxes) box.hidden = !box.textContent.toLowerCase().includes(text);
  });
  return field;
}

function range({ name, least, most }, onChoose) {
  const ends = name === "modified" ? days(least, most) : numbers(name, least, most);
  const [from, to] = ends.inputs;
  const element = fieldset(name, make("div", "range", labeled("from", from), labeled("to", to)));
  element.addEventListener("change", () => {
    if (from.validity.valid && to.validity.valid) onChoose({ from: ends.read(from, 0), to: ends.read(to, 1) });
  });
  const set = (chosen) => {
    ends.write(from, chosen?.from ?? null, 0);
    ends.write(to, chosen?.to ?? null, 1);
  };
  return { element, set };
}

function numbers(name, least, most) {
  const inputs = [least, most].map((end) => {
    const input = make("input", "field");
    input.type = "number";
    input.step = "any";
    input.placeholder = String(end);
    return input;
  });
  const read = (input) => (input.value === "" ? null : Number(input.value));
  const write = (input, value) => {
    input.value = value ?? "";
  };
  return { inputs, read, write };
}

function days(least, most) {
  const inputs = [least, most].map((end) => {
    const input = make("input", "field");
    input.type = "date";
    input.title = dayOf(end);
    return input;
  });
  // The last day of the range counts until its last second.
  const read = (input, end) => (input.value === "" ? null : (Date.parse(input.value) / 1000 + end * (DAY - 1)) * NANOSECONDS);
  const write = (input, value) => {
    input.value = value === null ? "" : dayOf(value);
  };
  return { inputs, read, write };
}

function dayOf(nanoseconds) {
  return new Date((nanoseconds / NANOSECONDS) * 1000).toISOString().slice(0, 10);
}

function labeled(text, input) {
  made += 1;
  input.id = `range-${made}`;
  const label = make("label", "", text);
  label.htmlFor = input.id;
  return make("span", "end", label, input);
}

function fieldset(name, ...children) {
  return make("fieldset", "filter", make("legend", "", columnName(name)), ...children);
}
