// Names on the page: pure functions from values of the API to the words that people read.

/** A landmark as people write it: "golden_gate_bridge" is Golden Gate Bridge. Existing capitals are kept. */
export function landmarkName(landmark) {
  const words = (landmark ?? "").replaceAll("_", " ").trim();
  return words === words.toLowerCase() ? words.replace(/(^|\s)\S/gu, (start) => start.toUpperCase()) : words;
}

/** The last part of the path of an image. */
export function fileName(image) {
  return image.path.split("/").at(-1);
}

/** Name of an image: the landmark that it shows, otherwise its file. */
export function imageName(image) {
  return landmarkName(image.landmark) || fileName(image);
}

/** 0.974 is 97%; a share below 1 is never rounded up to 100%. */
export function percent(share) {
  return `${share < 1 ? Math.min(99, Math.round(100 * share)) : 100}%`;
}

/** Score and confidence of a result: "score 0.84, confidence 97%". */
export function scoreText({ score, confidence }) {
  const sure = Number.isFinite(confidence) ? `, confidence ${percent(confidence)}` : "";
  return `score ${score.toFixed(2)}${sure}`;
}

/** 1234567 bytes are 1.2 MB. */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
}

/** "1 photo", "40 photos". */
export function photoCount(count) {
  return `${count.toLocaleString("en")} photo${count === 1 ? "" : "s"}`;
}

/** Name of a column of the index on the page. */
export function columnName(column) {
  const own = { landmark: "Landmark", width: "Width", height: "Height", bytes: "Size of the file", modified: "Changed" };
  const words = column.replaceAll("_", " ").trim();
  return own[column] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** "1 second", "3 seconds". */
export function seconds(count) {
  return `${count} second${count === 1 ? "" : "s"}`;
}
