// The photographs that were found: a justified grid, in order of score or by landmark.

import { thumbnailUrl } from "./api.js";

const STEP = 40; // results shown at first, and more on each click
const PLACEHOLDERS = 12;
const THUMBNAIL = 480; // pixels of the longest side: sharp at the grid's row height on screens of twice the density
const ASPECTS = [0.5, 2.4]; // narrower and wider photographs are cropped in the grid

export class ResultsView {
  /**
   * @param found element that takes the grid.
   * @param moreButton,groupButton the buttons below and above it.
   * @param addressOf gives the address of a search with an image id.
   * @param onPick called with the image ({id, path, label, width, height}) that was clicked.
   */
  constructor({ found, moreButton, groupButton, addressOf, onPick }) {
    Object.assign(this, { found, moreButton, groupButton, addressOf, onPick });
    this.results = [];
    this.shown = STEP;
    this.grouped = false;
    moreButton.addEventListener("click", () => this.showMore());
    groupButton.addEventListener("click", () => this.toggleGroups());
  }

  /** Show results ([{rank, score, image}], best first), from the top. */
  show(results) {
    this.results = results;
    this.shown = STEP;
    this.draw();
  }

  /** Show that results are on their way: former ones stay, dimmed; where there are none, grey shapes. */
  showWaiting() {
    this.found.setAttribute("aria-busy", "true");
    if (this.results.length) return;
    const shapes = Array.from({ length: PLACEHOLDERS }, (_, i) => placeholder([1.5, 0.75, 1.33, 1][i % 4]));
    this.found.replaceChildren(grid(shapes));
  }

  /** Show nothing. */
  clear() {
    this.show([]);
  }

  showMore() {
    const before = this.shown;
    this.shown += STEP;
    this.draw();
    this.found.querySelector(`[data-rank="${this.results[before].rank}"]`)?.focus({ preventScroll: true });
  }

  toggleGroups() {
    this.grouped = !this.grouped;
    this.groupButton.setAttribute("aria-pressed", String(this.grouped));
    this.draw();
  }

  draw() {
    const shown = this.results.slice(0, this.shown);
    const groups = this.grouped ? byLabel(shown) : [[null, shown]];
    this.found.replaceChildren(...groups.flatMap(([label, results]) => this.group(label, results)));
    this.found.removeAttribute("aria-busy");
    this.moreButton.hidden = this.results.length <= this.shown;
    this.groupButton.hidden = !this.results.some(({ image }) => image.label);
  }

  group(label, results) {
    const tiles = grid(results.map((result) => this.tile(result)));
    if (!results.length) return [];
    if (label === null) return [tiles];
    const heading = make("h2", "landmark", label ? placeName(label) : "No landmark named");
    heading.append(make("span", "count", String(results.length)));
    return [heading, tiles];
  }

  tile({ rank, score, image }) {
    const item = proportioned(make("li", "tile"), image.width / image.height);
    const place = placeName(image.label);
    const link = item.appendChild(make("a"));
    link.href = this.addressOf(image.id);
    link.dataset.rank = rank;
    link.draggable = false;
    link.title = image.path;
    link.setAttribute("aria-label", `Search with result ${rank}: ${place || fileName(image)}, score ${score.toFixed(2)}`);
    link.append(picture(image), caption(place, score, image));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens another tab or window
      event.preventDefault();
      this.onPick(image);
    });
    return item;
  }
}

/** A label as people write it: "golden_gate_bridge" is Golden Gate Bridge. Capitals that are there are kept as they are. */
export function placeName(label) {
  const words = label.replaceAll("_", " ").trim();
  return words === words.toLowerCase() ? words.replace(/(^|\s)\S/gu, (start) => start.toUpperCase()) : words;
}

export function fileName(image) {
  return image.path.split("/").at(-1);
}

/** [[label, results], ...], in the order in which the labels first appear. */
function byLabel(results) {
  const groups = new Map();
  for (const result of results) {
    const { label } = result.image;
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(result);
  }
  return [...groups];
}

function grid(tiles) {
  const list = make("ul", "grid");
  list.append(...tiles);
  return list;
}

function picture(image) {
  const frame = make("span", "picture");
  const img = frame.appendChild(make("img"));
  img.alt = placeName(image.label) || fileName(image);
  img.loading = "lazy";
  img.decoding = "async";
  img.draggable = false;
  img.addEventListener("error", () => frame.classList.add("missing"));
  img.src = thumbnailUrl(image.id, THUMBNAIL);
  return frame;
}

function caption(place, score, image) {
  const lines = make("span", "caption");
  const number = make("span", "score", score.toFixed(2));
  number.title = "Cosine similarity";
  const name = make("span", place ? "file" : "file only", fileName(image));
  lines.append(...(place ? [make("strong", "place", place)] : []), name, number);
  return lines;
}

function placeholder(aspect) {
  const shape = proportioned(make("li", "tile placeholder"), aspect);
  shape.append(make("span", "picture"));
  return shape;
}

/** Tiles grow in proportion to their aspect, so that a row of them is equally high and fills the line. */
function proportioned(tile, aspect) {
  tile.style.setProperty("--aspect", Math.min(Math.max(aspect, ASPECTS[0]), ASPECTS[1]).toFixed(4));
  return tile;
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
