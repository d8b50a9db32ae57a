// Attention maps: from the API's answer to colors on a canvas. A map is a Uint8Array of height * width bytes.

/** The four maps, with what each shows. The order is that of the model: what is near, then the whole. */
export const MAPS = {
  local_channel: {
    name: "Local channel",
    tells: "Where the channels respond that local channel attention weights most.",
  },
  local_spatial: {
    name: "Local spatial",
    tells: "The places that local spatial attention strengthens, from what lies around each.",
  },
  global_channel: {
    name: "Global channel",
    tells: "Where the channels respond after global channel attention has mixed them.",
  },
  global_spatial: {
    name: "Global spatial",
    tells: "Point at a place, or move the ring with the arrow keys: bright is where that place looks.",
  },
};

const RAMP = [
  [0, [12, 14, 26, 170]],
  [0.35, [40, 22, 60, 140]],
  [0.65, [150, 40, 60, 90]],
  [0.85, [240, 130, 40, 95]],
  [1, [255, 214, 90, 120]],
]; // value -> red, green, blue and opacity: what is not looked at lies in the dark, what is glows

const FINER = 6; // pixels that a cell is drawn with, each way: values are blended, not colors

const COLORS = Array.from({ length: 256 }, (_, byte) => color(byte / 255));

/**
 * The API's answer with its maps as bytes: {height, width, box: {x1, y1, x2, y2}, maps: {name: Uint8Array or null}}.
 */
export function decode(answer) {
  const [x1, y1, x2, y2] = answer.box;
  const maps = Object.fromEntries(Object.keys(MAPS).map((name) => [name, answer[name] ? bytes(answer[name]) : null]));
  return { height: answer.height, width: answer.width, box: { x1, y1, x2, y2 }, maps };
}

/** Where the place at a cell looks: a map, out of the global spatial one, which has one for every cell. */
export function looksFrom({ height, width, maps }, { column, row }) {
  const length = height * width;
  const start = (row * width + column) * length;
  return maps.global_spatial.subarray(start, start + length);
}

/** The cell of a map that holds most: {column, row}. */
export function peak(map, width) {
  const at = map.reduce((best, value, i) => (value > map[best] ? i : best), 0);
  return { column: at % width, row: Math.floor(at / width) };
}

/** Where a cell lies, in words: "upper left", "middle". */
export function whereabouts({ column, row }, { height, width }) {
  const third = (place, length, names) => names[Math.min(2, Math.floor((3 * (place + 0.5)) / length))];
  const words = [third(row, height, ["upper", "", "lower"]), third(column, width, ["left", "", "right"])].filter(Boolean);
  return words.join(" ") || "middle";
}

/** Draw a map on a canvas; CSS makes it as large as the photo. */
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

/** The value of a map at a point between the middles of its cells. */
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
