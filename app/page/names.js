// How things are called on the page: pure functions from what the API says to what people read.

/** A label as people write it: "golden_gate_bridge" is Golden Gate Bridge. Capitals that are there are kept as they are. */
export function placeName(label) {
  const words = (label ?? "").replaceAll("_", " ").trim();
  return words === words.toLowerCase() ? words.replace(/(^|\s)\S/gu, (start) => start.toUpperCase()) : words;
}

/** The last part of the path of an image. */
export function fileName(image) {
  return image.path.split("/").at(-1);
}

/** What to call an image: the place it shows, else its file. */
export function imageName(image) {
  return placeName(image.label) || fileName(image);
}

/** 0.974 is 97%; a certainty that is not whole is never rounded up to one. */
export function percent(share) {
  return `${share < 1 ? Math.min(99, Math.round(100 * share)) : 100}%`;
}

/** What is told of a result's likeness: "score 0.84, confidence 97%". */
export function likeness({ score, confidence }) {
  const sure = Number.isFinite(confidence) ? `, confidence ${percent(confidence)}` : "";
  return `score ${score.toFixed(2)}${sure}`;
}

/** 1234567 bytes are 1.2 MB. */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
}

/** "1 photograph", "40 photographs". */
export function photographs(count) {
  return `${count.toLocaleString("en")} photograph${count === 1 ? "" : "s"}`;
}

/** What a column of the index is called on the page. */
export function columnName(column) {
  const own = { label: "Landmark", width: "Width", height: "Height", bytes: "Size of the file", modified: "Changed" };
  const words = column.replaceAll("_", " ").trim();
  return own[column] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** "1 second", "3 seconds". */
export function seconds(count) {
  return `${count} second${count === 1 ? "" : "s"}`;
}
