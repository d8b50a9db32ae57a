// The ways a photograph comes in: chosen, taken, dropped or pasted.

const IMAGE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic)$/i;

/**
 * Listen for photographs.
 * @param inputs file inputs.
 * @param overlay element shown while a file is dragged over the window.
 * @param onFile called with the File that came in.
 * @param onProblem called with a sentence when what came in is no image.
 */
export function listenForPhotographs({ inputs, overlay, onFile, onProblem }) {
  const take = (list) => {
    const all = [...list];
    const image = all.find(looksLikeImage);
    if (image) onFile(image);
    else if (all.length) onProblem(`${all[0].name || "What was given"} is not an image.`);
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
  listenForDrops(overlay, take);
}

function listenForDrops(overlay, take) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  // dragleave also fires on the way into a child, so the overlay, once shown, covers everything and does the listening.
  window.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) overlay.hidden = false;
  });
  overlay.addEventListener("dragleave", () => {
    overlay.hidden = true;
  });
  window.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault(); // else the browser would open the file instead
  });
  window.addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}

function looksLikeImage(file) {
  return file.type.startsWith("image/") || (!file.type && IMAGE_NAME.test(file.name));
}
