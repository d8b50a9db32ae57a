// A list of photos in justified rows, laid out again when its width changes.

import { make } from "./dom.js";
import { justified } from "./justified.js";

const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) layOut(target);
});

/** A list of tiles; `data-aspect` of a tile is the width of its photo divided by the height. */
export function grid(tiles) {
  const list = make("ul", "grid");
  list.setAttribute("role", "list"); // Safari removes the role from lists without bullets
  list.append(...tiles);
  observer.observe(list);
  return list;
}

function layOut(list) {
  const width = list.clientWidth;
  if (!width) return;
  const style = getComputedStyle(list);
  const gap = Number.parseFloat(style.columnGap) || 0;
  const height = Number.parseFloat(style.getPropertyValue("--row")) * Number.parseFloat(style.fontSize);
  const tiles = [...list.children];
  const sizes = justified(tiles.map((tile) => Number(tile.dataset.aspect)), { width, gap, height });
  tiles.forEach((tile, i) => {
    tile.style.width = `${sizes[i].width}px`;
    tile.style.setProperty("--height", `${sizes[i].height}px`);
  });
}
