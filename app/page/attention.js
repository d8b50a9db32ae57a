// Attention maps: from the API's answer to colors on a canvas. A map is a Uint8Array of height * width bytes.

/** Name and explanation of each map, in the order of the model. */
export const MAPS = {
  local_channel: {
    name: "Local channel",
    tells: "In each photo, bright areas contain the features that the model weights most.",
  },
  local_spatial: {
    name: "Local spatial",
    tells: "In each photo, bright areas are the spots that the model emphasizes, judging by what is around them.",
  },
  global_channel: {
    name: "Global channel",
    tells: "In each photo, bright areas contain the features that are strongest after the model has combined related ones.",
  },
  global_spatial: {
    name: "Global spatial",
    tells: "Move the ring to a spot to see which other parts of the photo it is linked with.",
  },
};

const RAMP = [
  [0, [12, 14, 26, 170]],
  [0.35, [40, 22, 60, 140]],
  [0.65, [150, 40, 60, 90]],
  [0.85, [240, 130, 40, 95]],
  [1, [255, 214, 90, 120]],
]; // value -> red, green, blue, and opacity: low values darken the photo, high ones glow

const FINER = 6; // pixels per cell in each direction, to interpolate values instead of colors; arbitrary

const COLORS = Array.from({ length: 256 }, (_, byte) => color(byte / 255));

/** Decode an answer of the API: {height, width, box: {x1, y1, x2, y2}, maps: {name: Uint8Array or null}}. */
export function decode(answer) {
  const [x1, y1, x2, y2] = answer.box;
  const maps = Object.fromEntries(Object.keys(MAPS).map((name) => [name, answer[name] ? bytes(answer[name]) : null]));
  return { height: answer.height, width: answer.width, box: { x1, y1, x2, y2 }, maps };
}

/** The map of one cell in the global spatial attention, which has a map for every cell. */
export function looksFrom({ height, width, maps }, { column, row }) {
  const length = height * width;
  const start = (row * width + column) * length;
  return maps.global_spatial.subarray(start, start + length);
}

/** {column, row} of the largest value of a map. */
export function peak(map, width) {
  const at = map.reduce((best, value, i) => (value > map[best] ? i : best), 0);
  return { column: at % width, row: Math.floor(at / width) };
}

/** Position of a cell in words, such as "upper left" or "middle". */
export function whereabouts({ column, row }, { height, width }) {
  const third = (place, length, names) => names[Math.min(2, Math.floor((3 * (place + 0.5)) / length))];
  const words = [third(row, height, ["upper", "", "lower"]), third(column, width, ["left", "", "right"])].filter(Boolean);
  return words.join(" ") || "middle";
}

/** Draw a map on a canvas; CSS scales the canvas to the photo. */
export function paint(canvas, map, { height, width }) {
  canvas.width = FINER * width;
  canvas.height = FINER * height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, at = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1, at += 4) {
      const value = between(map, width, height, (x + 0.5) / FINER - 0.5, (y + 0.5) / FINER - 0.5);
      pixels.data.set(COLORS[Math.round(value)], at);
    }
  }
  context.putImageData(pixels, 0, 0);
}

/** The value of a map at a point, interpolated between the centers of its cells. */
function between(map, width, height, x, y) {
  const [left, top] = [Math.max(0, Math.floor(x)), Math.max(0, Math.floor(y))];
  const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
  const [across, down] = [Math.max(0, x - left), Math.max(0, y - top)];
  const line = (row) => map[row * width + left] * (1 - across) + map[row * width + right] * across;
  return line(top) * (1 - down) + line(bottom) * down;
}

function color(value) {
  const next = RAMP.findIndex(([at]) => at >= value);
  if (next === 0) return RAMP[0][1];
  const [[low, from], [high, to]] = [RAMP[next - 1], RAMP[next]];
  const share = (value - low) / (high - low);
  return from.map((one, i) => Math.round(one + share * (to[i] - one)));
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}
