// Lines between the matching points of two photos.

import { shape } from "./dom.js";

/**
 * Replace the lines over two photos.
 * @param drawing svg element that covers both photos.
 * @param lines [[x1, y1, x2, y2], ...]: (x1, y1) in pixels of the first photo, (x2, y2) in pixels of the second.
 * @param first {element, width, height}: element that shows the first photo, and the size of the photo in pixels.
 * @param second {element, width, height} of the second photo.
 */
export function drawLines(drawing, lines, first, second) {
  const origin = drawing.getBoundingClientRect();
  const [a, b] = [first, second].map(({ element, width, height }) => {
    const rect = element.getBoundingClientRect();
    return (x, y) => [
      rect.left - origin.left + (x / width) * rect.width,
      rect.top - origin.top + (y / height) * rect.height,
    ];
  });
  drawing.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  drawing.replaceChildren(
    ...lines.map(([x1, y1, x2, y2]) => match(a(x1, y1), b(x2, y2), hue(x1 / first.width, y1 / first.height))),
  );
}

function match([x1, y1], [x2, y2], color) {
  const group = shape("g", { class: "match", stroke: color, fill: color });
  group.append(
    shape("line", { x1, y1, x2, y2 }),
    shape("circle", { cx: x1, cy: y1, r: 3 }),
    shape("circle", { cx: x2, cy: y2, r: 3 }),
  );
  return group;
}

/** Color by position: neighboring points have similar colors, so that the eye can follow a bundle of lines. */
function hue(across, down) {
  return `hsl(${Math.round(20 + 300 * (0.75 * across + 0.25 * down))} 90% 62%)`;
}
