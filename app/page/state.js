// What is being searched with, kept in the browser's history so that Back and links work.
//
// A query is {image: id, box} or {file, key, box}; box is {x1, y1, x2, y2} or null. An indexed image stands in the address
// (?image=7&box=10,20,110,90). An uploaded one cannot: its file is kept here, and the history entry holds its key.

const KEPT_FILES = 8;

const files = new Map(); // key -> File; the oldest goes first
let filesMade = 0;

/** A query for an uploaded file, which is kept for the Back button. */
export function queryForFile(file) {
  filesMade += 1;
  const key = `${Date.now()}-${filesMade}`; // no key of an earlier visit may come again
  files.set(key, file);
  if (files.size > KEPT_FILES) files.delete(files.keys().next().value);
  return { file, key, box: null };
}

/** A query for an indexed image. */
export function queryForImage(id) {
  return { image: id, box: null };
}

/** The query that the present history entry stands for, or null. */
export function currentQuery() {
  const { key, box } = history.state ?? {};
  if (files.has(key)) return { file: files.get(key), key, box };
  const fields = new URLSearchParams(location.search);
  const image = fields.get("image") ?? "";
  return /^\d+$/.test(image) ? { image: Number(image), box: parseBox(fields.get("box")) } : null;
}

/** Make a query the present one, as a new entry of the history. */
export function enter(query) {
  history.pushState(stateOf(query), "", addressOf(query));
}

/** Change the box of the present query; Back does not step through every change of a box. */
export function amend(query) {
  history.replaceState(stateOf(query), "", addressOf(query));
}

/** The address of a query; for an upload, and for none (null), that of the page. */
export function addressOf(query) {
  if (query?.image === undefined) return location.pathname;
  const box = query.box ? `&box=${[query.box.x1, query.box.y1, query.box.x2, query.box.y2].join(",")}` : "";
  return `${location.pathname}?image=${query.image}${box}`;
}

function stateOf(query) {
  return query?.key ? { key: query.key, box: query.box } : null;
}

function parseBox(text) {
  const numbers = (text ?? "").split(",").map(Number);
  if (!text || numbers.length !== 4 || !numbers.every(Number.isFinite)) return null;
  const [x1, y1, x2, y2] = numbers;
  return { x1, y1, x2, y2 };
}
