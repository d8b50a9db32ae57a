// Justified rows: photos of equal height that fill the width. Pure arithmetic; all lengths are in CSS pixels.

const ASPECTS = [0.45, 3.2]; // width divided by height; narrower and wider photos are cropped; arbitrary
const TALLEST = 1.35; // greatest height of a justified last row, as a multiple of the target height; arbitrary

/**
 * Sizes of photos in justified rows.
 * @param aspects array of width divided by height per photo.
 * @param space {width, gap, height}: width of the grid, gap between neighbors, and target height of a row.
 * @returns [{width, height}, ...], one per photo.
 */
export function justified(aspects, { width, gap, height }) {
  const sizes = [];
  let row = [];
  for (const aspect of aspects.map(within)) {
    const before = heightOf(row, width, gap);
    const after = heightOf([...row, aspect], width, gap);
    // The row is full if one more photo would take it farther below the target height than it is above now.
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

/** The height at which a row fills the width; infinite for an empty row. */
function heightOf(row, width, gap) {
  const sum = row.reduce((total, aspect) => total + aspect, 0);
  return sum ? Math.max(1, width - gap * (row.length - 1)) / sum : Infinity;
}

/** Sizes of a row. Widths are rounded down to 1/64 pixel, the unit of browsers, so that the row does not wrap. */
function sizesOf(row, height, width, gap) {
  let left = width - gap * (row.length - 1);
  return row.map((aspect, i) => {
    const wide = i === row.length - 1 ? left : Math.round(aspect * height);
    left -= wide;
    return { width: Math.floor(64 * wide) / 64, height };
  });
}
