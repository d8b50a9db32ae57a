// Rows of photos that are equally high and fill the width: pure arithmetic. All lengths are CSS pixels.

const ASPECTS = [0.45, 3.2]; // narrower and wider photos are cropped
const TALLEST = 1.35; // of the target height, for a last row that nearly fills the width

/**
 * Sizes of photos laid out in rows.
 * @param aspects width divided by height of each photo.
 * @param space {width, gap, height}: of the whole, between two neighbors, and the height that rows aim at.
 * @returns [{width, height}, ...], as many as aspects; a row ends where the next one would not fit.
 */
export function justified(aspects, { width, gap, height }) {
  const sizes = [];
  let row = [];
  for (const aspect of aspects.map(within)) {
    const before = heightOf(row, width, gap);
    const after = heightOf([...row, aspect], width, gap);
    // The row is full when one more would take it farther below the target than it is above.
    if (row.length && after < height && before / height < height / after) {
      sizes.push(...sizesOf(row, before, width, gap));
      row = [];
    }
    row.push(aspect);
  }
  const last = heightOf(row, width, gap);
  if (last <= TALLEST * height) sizes.push(...sizesOf(row, last, width, gap));
  else sizes.push(...row.map((aspect) => ({ width: Math.min(aspect * height, width), height })));
  return sizes;
}

function within(aspect) {
  return Math.min(Math.max(aspect || 1, ASPECTS[0]), ASPECTS[1]);
}

/** The height at which a row fills the width; endless for an empty row. */
function heightOf(row, width, gap) {
  const sum = row.reduce((total, aspect) => total + aspect, 0);
  return sum ? Math.max(1, width - gap * (row.length - 1)) / sum : Infinity;
}

/** Widths in whole 64ths, as browsers lay out, and never wider together than the row. */
function sizesOf(row, height, width, gap) {
  let left = width - gap * (row.length - 1);
  return row.map((aspect, i) => {
    const wide = i === row.length - 1 ? left : Math.round(aspect * height);
    left -= wide;
    return { width: Math.floor(64 * wide) / 64, height };
  });
}
