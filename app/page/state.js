// The state of the page, stored in its address: pure functions between a view and an address.
//
// A view is {image, upload, box, filters, rerank, group, compare, show}:
//   image    image_id of the indexed query, or null
//   upload   key of the uploaded query (see uploads.js), or null
//   box      {x1, y1, x2, y2} in pixels of that image, or null for the whole image
//   filters  see expression.js
//   rerank   whether the top results are re-ranked
//   group    whether the results are grouped by landmark
//   compare  image_id of the result to compare with the query, or null
//   show     what the comparison shows: one of SHOWS

import { NO_FILTERS } from "./expression.js";

// Old addresses have "photographs" for the first; `parse` maps any unknown value to it.
export const SHOWS = ["photos", "matches", "local_channel", "local_spatial", "global_channel", "global_spatial"];

export const RERANK = "default"; // value of the API's `rerank` parameter

export const NOTHING = Object.freeze({
  image: null,
  upload: null,
  box: null,
  filters: NO_FILTERS,
  rerank: false,
  group: false,
  compare: null,
  show: SHOWS[0],
});

const DEPRECATED_COLUMNS = new Map([["id", "image_id"], ["label", "landmark"]]); // old names in old links

export function hasQuery(view) {
  return view.image !== null || view.upload !== null;
}

/** The view in a query string. Invalid fields are ignored. */
export function parse(search) {
  const fields = new URLSearchParams(search);
  const image = parseId(fields.get("image"));
  const upload = image === null && /^[a-z0-9]{8,40}$/.test(fields.get("upload") ?? "") ? fields.get("upload") : null;
  if (image === null && upload === null) return NOTHING;
  return {
    image,
    upload,
    box: parseBox(fields.get("box")),
    filters: parseFilters(fields),
    rerank: fields.get("rerank") === RERANK,
    group: fields.get("group") === "landmark",
    compare: parseId(fields.get("compare")),
    show: SHOWS.includes(fields.get("show")) ? fields.get("show") : SHOWS[0],
  };
}

/** The query string of a view, with its question mark; "" for a view without a query. */
export function format(view) {
  if (!hasQuery(view)) return "";
  const fields = new URLSearchParams(view.image !== null ? { image: view.image } : { upload: view.upload });
  const { box } = view;
  if (box) fields.set("box", [box.x1, box.y1, box.x2, box.y2].join(","));
  for (const [name, chosen] of Object.entries(view.filters.columns)) {
    for (const value of chosen.values ?? []) fields.append(`is.${name}`, value);
    for (const end of ["from", "to"]) if ((chosen[end] ?? null) !== null) fields.set(`${end}.${name}`, chosen[end]);
  }
  if (view.filters.where.trim()) fields.set("where", view.filters.where.trim());
  if (view.rerank) fields.set("rerank", RERANK);
  if (view.group) fields.set("group", "landmark");
  if (view.compare !== null) fields.set("compare", view.compare);
  if (view.compare !== null && view.show !== SHOWS[0]) fields.set("show", view.show);
  return `?${fields.toString().replaceAll("%2C", ",")}`;
}

/** Whether a query string has deprecated column names; `format(parse(search))` has the current ones. */
export function isDeprecated(search) {
  return [...new URLSearchParams(search).keys()].some((field) => DEPRECATED_COLUMNS.has(columnOf(field)?.name));
}

function parseId(text) {
  return /^\d{1,15}$/.test(text ?? "") ? Number(text) : null;
}

function parseBox(text) {
  const numbers = (text ?? "").split(",").map(Number);
  if (!text || numbers.length !== 4 || !numbers.every(Number.isFinite)) return null;
  const [x1, y1, x2, y2] = numbers;
  return { x1, y1, x2, y2 };
}

/** {kind: "is", "from" or "to", name} of a field that filters a column; undefined for any other field. */
function columnOf(field) {
  return /^(?<kind>is|from|to)\.(?<name>.+)$/s.exec(field)?.groups;
}

function parseFilters(fields) {
  const columns = {};
  for (const [field, value] of fields) {
    const { kind, name: written } = columnOf(field) ?? {};
    const name = DEPRECATED_COLUMNS.get(written) ?? written;
    if (kind === "is") {
      columns[name] = { values: [...(columns[name]?.values ?? []), value] };
    } else if (kind && value !== "" && Number.isFinite(Number(value)) && !columns[name]?.values) {
      columns[name] = { from: null, to: null, ...columns[name], [kind]: Number(value) };
    }
  }
  return { columns, where: fields.get("where") ?? "" };
}
