// The search results: a grid by rank or by landmark, and the button that loads more.

import { moveByArrows } from "./arrows.js";
import { icon, make } from "./dom.js";
import { grid } from "./grid.js";
import { landmarkName } from "./names.js";
import { placeholderTile, resultTile } from "./tile.js";

const PLACEHOLDERS = [1.5, 0.75, 1.33, 1, 1.5, 1.33, 0.67, 1.5, 1, 1.33, 1.78, 0.75];
const AHEAD = "900px"; // more results load when their end is this close to the window; arbitrary

export class ResultsView {
  /**
   * @param found element that contains the grid.
   * @param moreButton button below the grid.
   * @param linksOf function from an image_id to {compare, search}: addresses of its comparison and of a search with it.
   * @param onOpen called with the result to compare with the query.
   * @param onSearch called with the result to search with.
   * @param onMore called to load more results.
   */
  constructor({ found, moreButton, linksOf, onOpen, onSearch, onMore }) {
    Object.assign(this, { found, moreButton, linksOf, onOpen, onSearch, onMore });
    this.results = [];
    this.tiles = new Map(); // image_id -> tile, reused so that a redrawn grid loads no photo again
    this.grouped = false;
    moreButton.addEventListener("click", () => onMore());
    moveByArrows(found, "a.open");
    this.end = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && onMore(), { rootMargin: AHEAD });
  }

  /** Replace the results by [{rank, score, confidence, image}], best first. */
  show(results, more) {
    this.results = [];
    this.tiles.clear();
    this.add(results, more);
  }

  /** Append results. `more`: whether the service has further ones. */
  add(results, more) {
    this.results.push(...results);
    for (const result of results) this.tiles.set(result.image.image_id, this.tile(result));
    this.draw();
    this.setMore(more ? "ready" : "none");
  }

  /** Show that a search is running: dim the old results, or show placeholders if there are none. */
  showWaiting() {
    this.found.setAttribute("aria-busy", "true");
    this.setMore("none");
    if (!this.results.length) this.found.replaceChildren(grid(PLACEHOLDERS.map(placeholderTile)));
  }

  /** Remove all results, and show an element that gives the reason, if any. */
  clear(reason = null) {
    this.results = [];
    this.tiles.clear();
    this.found.replaceChildren(...(reason ? [reason] : []));
    this.found.removeAttribute("aria-busy");
    this.setMore("none");
  }

  /** State of further results: "none", "ready" (to be loaded), "loading", or "failed". */
  setMore(state) {
    this.end.disconnect();
    this.moreButton.hidden = state === "none";
    this.moreButton.textContent = { loading: "Loading more…", failed: "Try again" }[state] ?? "Show more";
    this.moreButton.setAttribute("aria-disabled", String(state === "loading"));
    if (state === "ready") this.end.observe(this.moreButton); // fires at once if the end is already close
  }

  /** Turn grouping by landmark on or off. */
  setGrouped(grouped) {
    if (grouped === this.grouped) return;
    this.grouped = grouped;
    if (this.results.length) this.draw();
  }

  /** Whether any result has a landmark to group by. */
  get canGroup() {
    return this.results.some(({ image }) => image.landmark);
  }

  /** {before, result, after}: the result with an image_id and its neighbors by rank; each undefined if absent. */
  around(imageId) {
    const i = this.results.findIndex(({ image }) => image.image_id === imageId);
    if (i < 0) return {};
    return { before: this.results[i - 1], result: this.results[i], after: this.results[i + 1] };
  }

  /** Move the focus to the tile of an image. */
  focus(imageId) {
    this.tiles.get(imageId)?.querySelector("a").focus();
  }

  /** Update the links of the tiles after a change of the view that they contain. */
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
    const heading = make("h2", "group-heading", landmark ? landmarkName(landmark) : "Unknown landmark");
    heading.append(make("span", "count", String(results.length)));
    return [heading, tiles];
  }

  tile(result) {
    return resultTile(result, this.linksOf(result.image.image_id), this);
  }
}

/** An element for an empty result: a sentence and optionally a button. */
export function nothingFound(sentence, button = null) {
  const made = make("div", "empty", icon("search"), make("p", "", sentence));
  if (button) made.append(button);
  return made;
}

/** [[landmark, results], ...] in order of first appearance. */
function byLandmark(results) {
  const groups = new Map();
  for (const result of results) {
    const { landmark } = result.image;
    if (!groups.has(landmark)) groups.set(landmark, []);
    groups.get(landmark).push(result);
  }
  return [...groups];
}
