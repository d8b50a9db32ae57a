// Boxes on an image: pure functions. A box {x1, y1, x2, y2} and a size {width, height} are in pixels of the upright image.

/** Shortest side of a box: small enough for a window of a building, large enough to search with. Arbitrary. */
export function shortestSide({ width, height }) {
  return Math.min(Math.max(8, Math.round(0.03 * Math.max(width, height))), width, height);
}

/** The box between two opposite corners, kept within the image and no smaller than `shortestSide`. */
export function spanned(from, to, size) {
  const [x1, x2] = interval(from.x, to.x, size.width, shortestSide(size));
  const [y1, y2] = interval(from.y, to.y, size.height, shortestSide(size));
  return { x1, y1, x2, y2 };
}

/** The box moved by (dx, dy) pixels, within the image. */
export function moved(box, dx, dy, size) {
  const x = clamp(dx, -box.x1, size.width - box.x2);
  const y = clamp(dy, -box.y1, size.height - box.y2);
  return { x1: box.x1 + x, y1: box.y1 + y, x2: box.x2 + x, y2: box.y2 + y };
}

/**
 * The box with some edges moved by (dx, dy) pixels. `edges` is a compass direction, such as "n" or "se".
 * An edge stops at the edge of the image and at `shortestSide` from the opposite edge.
 */
export function resized(box, edges, dx, dy, size) {
  const least = shortestSide(size);
  const next = { ...box };
  if (edges.includes("w")) next.x1 = clamp(box.x1 + dx, 0, box.x2 - least);
  if (edges.includes("e")) next.x2 = clamp(box.x2 + dx, box.x1 + least, size.width);
  if (edges.includes("n")) next.y1 = clamp(box.y1 + dy, 0, box.y2 - least);
  if (edges.includes("s")) next.y2 = clamp(box.y2 + dy, box.y1 + least, size.height);
  return next;
}

/** A box in the middle of the image, with 60% of each side. */
export function central({ width, height }) {
  return rounded({ x1: 0.2 * width, y1: 0.2 * height, x2: 0.8 * width, y2: 0.8 * height });
}

/** The box rounded to whole pixels. */
export function rounded({ x1, y1, x2, y2 }) {
  return { x1: Math.round(x1), y1: Math.round(y1), x2: Math.round(x2), y2: Math.round(y2) };
}

/** Whether two boxes are equal; each may be null. */
export function same(a, b) {
  return a === b || (!!a && !!b && a.x1 === b.x1 && a.y1 === b.y1 && a.x2 === b.x2 && a.y2 === b.y2);
}

function interval(a, b, length, least) {
  const low = clamp(Math.min(a, b), 0, length - least);
  return [low, clamp(Math.max(a, b), low + least, length)];
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
