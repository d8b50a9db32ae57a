// Display names: pure functions from values of the API to text.

/** Display name of a landmark: "golden_gate_bridge" becomes "Golden Gate Bridge". Existing capitals stay. */
export function landmarkName(landmark) {
  const words = (landmark ?? "").replaceAll("_", " ").trim();
  return words === words.toLowerCase() ? words.replace(/(^|\s)\S/gu, (start) => start.toUpperCase()) : words;
}

/** The last part of the path of an image. */
export function fileName(image) {
  return image.path.split("/").at(-1);
}

/** Display name of an image: its landmark, or its file name if the landmark is unknown. */
export function imageName(image) {
  return landmarkName(image.landmark) || fileName(image);
}

/** A fraction as a percentage: 0.974 becomes "97%". Only 1 becomes "100%". */
export function percent(share) {
  return `${share < 1 ? Math.min(99, Math.round(100 * share)) : 100}%`;
}

/** Score and confidence of a result, such as "score 0.84, confidence 97%". */
export function scoreText({ score, confidence }) {
  const sure = Number.isFinite(confidence) ? `, confidence ${percent(confidence)}` : "";
  return `score ${score.toFixed(2)}${sure}`;
}

/** A file size: 1234567 bytes become "1.2 MB". */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;
}

/** "1 photo", "40 photos". */
export function photoCount(count) {
  return `${count.toLocaleString("en")} photo${count === 1 ? "" : "s"}`;
}

/** A number without a separator below 10,000, because it may be a year. */
export function plainNumber(value) {
  return value.toLocaleString("en", { useGrouping: "min2" });
}

/** Display name of a column of the index. */
export function columnName(column) {
  const own = {
    landmark: "Landmark",
    width: "Width (pixels)",
    height: "Height (pixels)",
    bytes: "File size (bytes)",
    modified: "File modified",
  };
  const words = column.replaceAll("_", " ").trim();
  return own[column] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/** "1 second", "3 seconds". */
export function seconds(count) {
  return `${count} second${count === 1 ? "" : "s"}`;
}
