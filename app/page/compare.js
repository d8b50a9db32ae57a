// The query and one result, side by side: the photos, the parts of them that match, or where the model looks.

import { Problem, originalUrl, thumbnailUrl } from "./api.js";
import { MAPS } from "./attention.js";
import { part, settled } from "./dom.js";
import { Explanations } from "./explanations.js";
import { Frame } from "./frame.js";
import { drawLines } from "./lines.js";
import { fileName, imageName, percent } from "./names.js";

const PREVIEW = 1024; // pixels of the longest side
const LOOKING = 350; // milliseconds to point at a place before the note says where it looks

export class Comparison {
  /**
   * @param onShow called with one of state.js's SHOWS when another was chosen.
   * @param onStep called with a result, to compare with that one instead.
   * @param onSearch called with the result to search with.
   * @param onClose called when the person closes the comparison.
   */
  constructor({ onShow, onStep, onSearch, onClose }) {
    this.dialog = part("compare");
    this.note = part("compare-note");
    this.pair = part("pair");
    this.drawing = part("lines");
    const look = settled((sentence) => this.tell(sentence), LOOKING);
    this.frames = [part("side-query"), part("side-result")].map((side) => new Frame(side, look));
    this.look = look;
    this.explanations = new Explanations((seconds) => this.tell(`The service is busy; it is asked again in ${seconds} s.`));
    this.compared = null; // {query, result}; see open()
    this.lines = [];
    this.show = null; // what is shown of them
    this.turn = 0; // of explaining; an answer that comes when the turn is another's is dropped
    this.running = null; // AbortController of what is asked about these two
    this.listen({ onShow, onStep, onSearch, onClose });
  }

  listen({ onShow, onStep, onSearch, onClose }) {
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault(); // the address changes first, and that closes it
      onClose();
    });
    part("compare-close").addEventListener("click", onClose);
    this.steps = { before: part("compare-before"), after: part("compare-after") };
    for (const [way, button] of Object.entries(this.steps)) {
      button.addEventListener("click", () => this.around[way] && onStep(this.around[way]));
    }
    this.dialog.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
      if (way && this.around[way] && event.target.type !== "radio") onStep(this.around[way]);
    });
    this.dialog.addEventListener("change", () => onShow(this.chosen()));
    part("compare-search").addEventListener("click", (event) => {
      event.preventDefault();
      onSearch(this.compared.result);
    });
    part("compare-again").addEventListener("click", () => this.explain());
    new ResizeObserver(() => this.arrange()).observe(this.pair);
  }

  /**
   * Open, or change, the comparison.
   * @param query {name, source, url, width, height, box}: see frame.js and api.js.
   * @param result {rank, score, confidence, image}; without a score where it was not among those found.
   * @param around {before, after}: the results beside it, if any.
   * @param show one of state.js's SHOWS.
   * @param address of a search with the result.
   */
  open({ query, result, around, show, address }) {
    const same = this.compared?.result.image.image_id === result.image.image_id && this.compared.query === query;
    this.compared = { query, result };
    this.around = around;
    for (const [way, button] of Object.entries(this.steps)) button.disabled = !around[way];
    part("compare-search").href = address;
    if (!same) this.showPair();
    const unchanged = same && this.show === show;
    this.show = show;
    this.choose(show);
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.dialog.focus(); // not its first button: the arrow keys go to the next result
    }
    if (!unchanged) this.explain();
  }

  close() {
    this.turn += 1;
    this.running?.abort();
    this.compared = null;
    if (this.dialog.open) this.dialog.close();
  }

  showPair() {
    this.running?.abort();
    this.running = new AbortController();
    const { query, result } = this.compared;
    const { image } = result;
    part("compare-title").textContent = imageName(image);
    part("compare-facts").textContent = facts(result);
    part("query-caption").textContent = `Query · ${query.name}`;
    part("result-caption").textContent = `Result · ${fileName(image)}`;
    part("compare-original").href = originalUrl(image.image_id);
    this.frames[0].show({ ...query, name: `Query: ${query.name}` });
    this.frames[1].show({
      name: `Result: ${imageName(image)}`,
      url: thumbnailUrl(image.image_id, PREVIEW),
      width: image.width,
      height: image.height,
      box: null,
    });
    showMetadata(part("compare-metadata"), image);
  }

  /** What is chosen among the radio buttons. */
  chosen() {
    const mode = this.dialog.querySelector("[name=mode]:checked").value;
    return mode === "attention" ? this.dialog.querySelector("[name=map]:checked").value : mode;
  }

  choose(show) {
    const mode = show in MAPS ? "attention" : show;
    this.dialog.querySelector(`[name=mode][value=${mode}]`).checked = true;
    if (show in MAPS) this.dialog.querySelector(`[name=map][value=${show}]`).checked = true;
    this.dialog.dataset.mode = mode;
  }

  /** Show what is chosen, asking the service where need be. */
  async explain() {
    this.turn += 1;
    const { turn, show } = this;
    this.showLines([]);
    for (const frame of this.frames) frame.clear();
    this.look.cancel();
    this.tell("");
    if (show === "photos") return;
    this.tell(show === "matches" ? "Looking for matching parts…" : "Looking where the model looks…", { busy: true });
    try {
      await (show === "matches" ? this.explainMatches(turn) : this.explainAttention(show, turn));
    } catch (error) {
      if (turn !== this.turn) return;
      if (!(error instanceof Problem)) throw error;
      this.tell(error.message, { again: error.mayPass });
    }
  }

  async explainMatches(turn) {
    const { query, result } = this.compared;
    const { inliers, tried, lines } = await this.explanations.matches(query, result.image.image_id, this.running.signal);
    if (turn !== this.turn) return;
    this.showLines(lines);
    const parts = inliers ? `${inliers} matching part${inliers === 1 ? "" : "s"}` : "No matching parts";
    const drawn = lines.length < inliers ? `; the best ${lines.length} are drawn` : "";
    this.tell(`${parts} among ${tried} candidates${drawn}.`);
  }

  async explainAttention(name, turn) {
    const { query, result } = this.compared;
    const sources = [query, { source: { image: result.image.image_id }, box: null }];
    const both = await Promise.all(sources.map((one) => this.explanations.attention(one, this.running.signal)));
    if (turn !== this.turn) return;
    if (both.some(({ maps }) => !maps[name])) {
      this.tell(`This model was trained without ${MAPS[name].name.toLowerCase()} attention.`);
      return;
    }
    both.forEach((attention, i) => this.frames[i].heat(attention, name));
    this.look.cancel(); // the places in the middle were picked by nobody
    this.tell(MAPS[name].tells);
  }

  showLines(lines) {
    this.lines = lines;
    this.arrange();
  }

  /** Put the photos beside or above each other, whichever shows more of them, and the lines where they belong. */
  arrange() {
    if (!this.compared) return;
    const { room, stacked } = arranged(this.pair, this.frames.map(({ side }) => side.width / side.height));
    this.pair.classList.toggle("stacked", stacked);
    for (const frame of this.frames) frame.fit(room.width, room.height);
    this.drawLines();
  }

  drawLines() {
    const [first, second] = this.frames.map(({ photo, side }) => ({ element: photo, ...side }));
    drawLines(this.drawing, this.lines, first, second);
  }

  tell(sentence, { busy = false, again = false } = {}) {
    this.note.textContent = sentence;
    this.dialog.classList.toggle("busy", busy);
    part("compare-again").hidden = !again;
  }
}

/** The room that each of two photos gets within an element, and whether one stands above the other. */
function arranged(element, aspects) {
  const style = getComputedStyle(element);
  const [width, height] = [
    element.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight),
    element.clientHeight,
  ];
  const caption = Number.parseFloat(style.getPropertyValue("--caption")) * Number.parseFloat(style.fontSize);
  const [across, down] = [Number.parseFloat(style.columnGap), Number.parseFloat(style.rowGap)];
  const beside = { width: (width - across) / 2, height: height - caption };
  const above = { width, height: (height - down) / 2 - caption };
  const stacked = shown(above, aspects) > shown(beside, aspects);
  return { room: stacked ? above : beside, stacked };
}

/** How many pixels of the window photos cover, each in a room that it fills in one direction. */
function shown({ width, height }, aspects) {
  return aspects.reduce((sum, aspect) => sum + Math.min(width, height * aspect) ** 2 / aspect, 0);
}

function facts(result) {
  if (!Number.isFinite(result.score)) return "";
  const sure = Number.isFinite(result.confidence) ? ` · confidence ${percent(result.confidence)}` : "";
  return `Result ${result.rank} · score ${result.score.toFixed(2)}${sure}`;
}

function showMetadata(list, { metadata = {}, width, height, path }) {
  const rows = [["File", path], ["Pixels", `${width} × ${height}`], ...Object.entries(metadata ?? {})];
  list.replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = typeof value === "object" ? JSON.stringify(value) : String(value);
      return [term, text];
    }),
  );
}
