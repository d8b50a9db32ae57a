// Sample photos of the index to start a search from.

import { fetchImage } from "./api.js";
import { part } from "./dom.js";
import { grid } from "./grid.js";
import { sampleTile } from "./tile.js";

const ASKED = 18; // some numbers may have been removed from the index
const SHOWN = 12;

/**
 * Show photos from all over an index.
 * @param count images in the index.
 * @param addressOf gives the address of a search with an image_id.
 * @param onSearch called with the image that was picked.
 */
export async function showSamples(count, addressOf, onSearch) {
  const imageIds = new Set(Array.from({ length: ASKED }, (_, i) => Math.floor(((i + 0.5) * count) / ASKED)));
  const asked = await Promise.allSettled([...imageIds].map((imageId) => fetchImage(imageId)));
  const images = landmarksFirst(asked.filter(({ status }) => status === "fulfilled").map(({ value }) => value));
  part("samples-grid").replaceChildren(
    grid(images.slice(0, SHOWN).map((image) => sampleTile(image, addressOf(image.image_id), onSearch))),
  );
  part("samples").hidden = !images.length;
}

/** The images, the first one of each landmark before all others. */
function landmarksFirst(images) {
  const seen = new Set();
  const first = images.filter(({ landmark }) => landmark && !seen.has(landmark) && seen.add(landmark));
  return [...first, ...images.filter((image) => !first.includes(image))];
}
