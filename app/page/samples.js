// A few photographs of the index to begin with, for those who have none at hand.

import { fetchImage } from "./api.js";
import { part } from "./dom.js";
import { grid } from "./grid.js";
import { sampleTile } from "./tile.js";

const ASKED = 18; // some numbers may have been removed from the index
const SHOWN = 12;

/**
 * Show photographs from all over an index.
 * @param count images in the index.
 * @param addressOf gives the address of a search with an image id.
 * @param onSearch called with the image that was picked.
 */
export async function showSamples(count, addressOf, onSearch) {
  const ids = new Set(Array.from({ length: ASKED }, (_, i) => Math.floor(((i + 0.5) * count) / ASKED)));
  const asked = await Promise.allSettled([...ids].map((id) => fetchImage(id)));
  const images = ofManyPlaces(asked.filter(({ status }) => status === "fulfilled").map(({ value }) => value));
  part("samples-grid").replaceChildren(
    grid(images.slice(0, SHOWN).map((image) => sampleTile(image, addressOf(image.id), onSearch))),
  );
  part("samples").hidden = !images.length;
}

/** The images with the first of each place before all others. */
function ofManyPlaces(images) {
  const seen = new Set();
  const first = images.filter(({ label }) => label && !seen.has(label) && seen.add(label));
  return [...first, ...images.filter((image) => !first.includes(image))];
}
