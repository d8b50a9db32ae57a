// A tile of the grid: one photo.

import { thumbnailUrl } from "./api.js";
import { icon, make, sayIfMissing } from "./dom.js";
import { fileName, imageName, landmarkName, percent, scoreText } from "./names.js";

const THUMBNAIL = 480; // pixels of the longest side: sharp at the row height of the grid on screens of double density

/**
 * A tile for a result ({rank, score, confidence, image}).
 * @param links {compare, search}: addresses of its comparison and of a search with it.
 * @param onOpen called with the result when the first link is clicked.
 * @param onSearch called with the result when the second link is clicked.
 */
export function resultTile(result, links, { onOpen, onSearch }) {
  const { rank, image } = result;
  const open = link("open", links.compare, () => onOpen(result));
  open.dataset.rank = rank;
  open.dataset.imageId = image.image_id;
  open.title = image.path;
  open.setAttribute("aria-label", `Compare with result ${rank}: ${imageName(image)}, ${scoreText(result)}`);
  open.append(picture(image, result.confidence), caption(result));
  const reuse = link("reuse", links.search, () => onSearch(result));
  reuse.title = "Search with this photo";
  reuse.setAttribute("aria-label", `Search with result ${rank}: ${imageName(image)}`);
  reuse.append(icon("search"));
  return tile("tile", image, open, reuse);
}

/** A tile that starts a search with an image of the index. */
export function sampleTile(image, address, onSearch) {
  const open = link("open", address, () => onSearch(image));
  open.setAttribute("aria-label", `Search with ${imageName(image)}`);
  open.append(picture(image), make("span", "caption", make("strong", "landmark", imageName(image))));
  return tile("tile", image, open);
}

/** A gray placeholder for a photo. */
export function placeholderTile(aspect) {
  return tile("tile placeholder", { width: aspect, height: 1 }, make("span", "picture"));
}

function tile(className, { width, height }, ...children) {
  const item = make("li", className, ...children);
  item.dataset.aspect = (width / height || 1).toFixed(4);
  return item;
}

function link(className, address, follow) {
  const made = make("a", className);
  made.href = address;
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return; // the browser opens a new tab
    event.preventDefault();
    follow();
  });
  return made;
}

function picture(image, confidence) {
  const img = make("img");
  const frame = make("span", "picture", img);
  img.alt = imageName(image);
  img.loading = "lazy";
  img.decoding = "async";
  img.draggable = false; // dragging moves the link instead
  sayIfMissing(img, frame);
  img.src = thumbnailUrl(image.image_id, THUMBNAIL);
  if (Number.isFinite(confidence)) frame.append(bar(confidence));
  return frame;
}

function bar(confidence) {
  const made = make("span", "sure");
  made.style.setProperty("--share", confidence.toFixed(3));
  return made;
}

function caption({ score, confidence, image }) {
  const landmark = landmarkName(image.landmark);
  const number = make("span", "score", score.toFixed(2));
  number.title = "Score: similarity of the two photos, at most 1";
  const lines = [make("strong", "landmark", landmark || fileName(image)), number];
  if (landmark) lines.push(make("span", "file", fileName(image)));
  if (Number.isFinite(confidence)) {
    const sure = make("span", "confidence", percent(confidence));
    sure.title = "Confidence: the chance that a collection of unrelated photos of this size would have no match this strong";
    lines.push(sure);
  }
  return make("span", "caption", ...lines);
}
