// The ways a photo comes in: chosen, taken, dropped or pasted; and a link to one of the index, dropped or pasted.

const IMAGE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic)$/i;

/**
 * Listen for photos.
 * @param inputs file inputs.
 * @param overlay element shown while something is dragged over the window.
 * @param onFile called with the File that came in.
 * @param onLink called with the URL of a search of this page that came in.
 * @param onProblem called with a sentence when what came in is neither.
 */
export function listenForPhotos({ inputs, overlay, onFile, onLink, onProblem }) {
  const take = (list) => {
    const all = [...list];
    const image = all.find(looksLikeImage);
    if (image) onFile(image);
    else if (all.length) onProblem(`${all[0].name || "What was given"} is not an image.`);
  };
  const takeTransfer = (transfer) => {
    const link = linkOf(transfer);
    if (transfer.files.length) take(transfer.files);
    else if (link) onLink(link);
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData && !event.target.closest?.("input")) takeTransfer(event.clipboardData);
  });
  listenForDrops(overlay, takeTransfer);
}

function listenForDrops(overlay, take) {
  const accepts = ({ dataTransfer }) => ["Files", "text/uri-list"].some((kind) => dataTransfer?.types.includes(kind));
  // dragleave also fires on the way into a child, so the overlay, once shown, covers everything and does the listening.
  window.addEventListener("dragenter", (event) => {
    if (accepts(event)) overlay.hidden = false;
  });
  overlay.addEventListener("dragleave", () => {
    overlay.hidden = true;
  });
  window.addEventListener("dragover", (event) => {
    if (accepts(event)) event.preventDefault(); // else the browser would open the file instead
  });
  window.addEventListener("dragend", () => {
    overlay.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!accepts(event)) return;
    event.preventDefault();
    take(event.dataTransfer);
  });
}

function looksLikeImage(file) {
  return file.type.startsWith("image/") || (!file.type && IMAGE_NAME.test(file.name));
}

/** The address of a search of this very page that a drop or a paste carries, or null. */
function linkOf(transfer) {
  const text = transfer.getData("text/uri-list") || transfer.getData("text/plain");
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  return url.origin === location.origin && url.pathname === location.pathname ? url : null;
}
