// Input of photos: chosen, taken with the camera, dropped, or pasted; and dropped or pasted links to a search.

const IMAGE_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic)$/i;

/**
 * Listen for photos.
 * @param inputs array of file inputs.
 * @param overlay element to show while a file or link is dragged over the window.
 * @param onFile called with the File of a photo.
 * @param onLink called with the URL of a search on this page.
 * @param onProblem called with a sentence if a file is not an image.
 */
export function listenForPhotos({ inputs, overlay, onFile, onLink, onProblem }) {
  const take = (list) => {
    const all = [...list];
    const image = all.find(looksLikeImage);
    if (image) onFile(image);
    else if (all.length) onProblem(`${all[0].name || "This file"} is not an image. Choose a photo, such as a JPEG or PNG file.`);
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
  // Entering a child fires dragleave on the window, too. The overlay covers everything, so it has the listener.
  window.addEventListener("dragenter", (event) => {
    if (accepts(event)) overlay.hidden = false;
  });
  overlay.addEventListener("dragleave", () => {
    overlay.hidden = true;
  });
  window.addEventListener("dragover", (event) => {
    if (accepts(event)) event.preventDefault(); // otherwise the browser opens the file
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

/** The URL in a drop or a paste if it is a search on this page; otherwise null. */
function linkOf(transfer) {
  const text = transfer.getData("text/uri-list") || transfer.getData("text/plain");
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  return url.origin === location.origin && url.pathname === location.pathname ? url : null;
}
