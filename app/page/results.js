// The photos that were found, in order of score or by landmark, and the way to more of them.

import { moveByArrows } from "./arrows.js";
import { icon, make } from "./dom.js";
import { grid } from "./grid.js";
import { landmarkName } from "./names.js";
import { placeholderTile, resultTile } from "./tile.js";

const PLACEHOLDERS = [1.5, 0.75, 1.33, 1, 1.5, 1.33, 0.67, 1.5, 1, 1.33, 1.78, 0.75];
const AHEAD = "900px"; // how far below the window the end of the results may be when more are asked for

export class ResultsView {
  /**
   * @param found element that takes the grid; moreButton the button below it.
   * @param linksOf gives {compare, search}, addresses for an image_id.
   * @param onOpen,onSearch called with the result whose comparison, or search, was asked for.
   * @param onMore called to load more results.
   */
  constructor({ found, moreButton, linksOf, onOpen, onSearch, onMore }) {
    Object.assign(this, { found, moreButton, linksOf, onOpen, onSearch, onMore });
    this.results = [];
    this.tiles = new Map(); // image_id -> tile, so that a redrawn grid keeps its pictures
    this.grouped = false;
    moreButton.addEventListener("click", () => onMore());
    moveByArrows(found, "a.open");
    this.end = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && onMore(), { rootMargin: AHEAD });
  }

  /** Show results ([{rank, score, confidence, image}], best first) in the place of former ones. */
  show(results, more) {
    this.results = [];
    this.tiles.clear();
    this.add(results, more);
  }

  /** Show further results below. `more` tells whether there are still others. */
  add(results, more) {
    this.results.push(...results);
    for (const result of results) this.tiles.set(result.image.image_id, this.tile(result));
    this.draw();
    this.setMore(more ? "ready" : "none");
  }

  /** Show that results are on their way: former ones stay, dimmed; where there are none, gray shapes. */
  showWaiting() {
    this.found.setAttribute("aria-busy", "true");
    this.setMore("none");
    if (!this.results.length) this.found.replaceChildren(grid(PLACEHOLDERS.map(placeholderTile)));
  }

  /** Show nothing, or an element that says why there is nothing. */
  clear(reason = null) {
    this.results = [];
    this.tiles.clear();
    this.found.replaceChildren(...(reason ? [reason] : []));
    this.found.removeAttribute("aria-busy");
    this.setMore("none");
  }

  /** How it stands with further results: "none" are there, "ready" to come, on their way ("loading"), or "failed". */
  setMore(state) {
    this.end.disconnect();
    this.moreButton.hidden = state === "none";
    this.moreButton.textContent = { loading: "Loading more…", failed: "Try again" }[state] ?? "Show more";
    this.moreButton.setAttribute("aria-disabled", String(state === "loading"));
    if (state === "ready") this.end.observe(this.moreButton); // it tells at once when the end is in sight already
  }

  /** Group the results by landmark, or not. */
  setGrouped(grouped) {
    if (grouped === this.grouped) return;
    this.grouped = grouped;
    if (this.results.length) this.draw();
  }

  /** Whether any result has a landmark to group by. */
  get canGroup() {
    return this.results.some(({ image }) => image.landmark);
  }

  /** The result for an image_id, and its neighbors in order of rank; undefined if there is none. */
  around(imageId) {
    const i = this.results.findIndex(({ image }) => image.image_id === imageId);
    if (i < 0) return {};
    return { before: this.results[i - 1], result: this.results[i], after: this.results[i + 1] };
  }

  /** Move the focus to the tile of an image. */
  focus(imageId) {
    this.tiles.get(imageId)?.querySelector("a").focus();
  }

  /** Write the addresses of the tiles again, after something that they carry changed. */
  readdress() {
    for (const [imageId, tile] of this.tiles) {
      const { compare, search } = this.linksOf(imageId);
      tile.querySelector("a.open").href = compare;
      tile.querySelector("a.reuse").href = search;
    }
  }

  draw() {
    const focused = this.found.contains(document.activeElement) ? document.activeElement : null;
    const groups = this.grouped && this.canGroup ? byLandmark(this.results) : [[null, this.results]];
    this.found.replaceChildren(...groups.flatMap(([landmark, results]) => this.group(landmark, results)));
    this.found.removeAttribute("aria-busy");
    focused?.focus({ preventScroll: true });
  }

  group(landmark, results) {
    if (!results.length) return [];
    const tiles = grid(results.map(({ image }) => this.tiles.get(image.image_id)));
    if (landmark === null) return [tiles];
    const heading = make("h2", "group-heading", landmark ? landmarkName(landmark) : "No landmark named");
    heading.append(make("span", "count", String(results.length)));
    return [heading, tiles];
  }

  tile(result) {
    return resultTile(result, this.linksOf(result.image.image_id), this);
  }
}

/** What to show where nothing was found: a sentence, and a button that may help. */
export function nothingFound(sentence, button = null) {
  const made = make("div", "empty", icon("search"), make("p", "", sentence));
  if (button) made.append(button);
  return made;
}

/** [[landmark, results], ...], in the order in which the landmarks first appear. */
function byLandmark(results) {
  const groups = new Map();
  for (const result of results) {
    const { landmark } = result.image;
    if (!groups.has(landmark)) groups.set(landmark, []);
    groups.get(landmark).push(result);
  }
  return [...groups];
}
