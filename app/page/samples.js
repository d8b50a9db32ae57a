// Sample photos of the index to start a search from.

import { fetchImage } from "./api.js";
import { part } from "./dom.js";
import { grid } from "./grid.js";
import { sampleTile } from "./tile.js";

const ASKED = 18; // more than are shown, because some image_ids may have been removed from the index; arbitrary
const SHOWN = 12; // arbitrary

/**
 * Show photos from evenly spaced positions in the index.
 * @param count number of images in the index.
 * @param addressOf function from an image_id to the address of a search with it.
 * @param onSearch called with the chosen image.
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

/** The images, with the first one of each landmark before the others. */
function landmarksFirst(images) {
  const seen = new Set();
  const first = images.filter(({ landmark }) => landmark && !seen.has(landmark) && seen.add(landmark));
  return [...first, ...images.filter((image) => !first.includes(image))];
}
