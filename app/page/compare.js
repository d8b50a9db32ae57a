// The comparison of the query and one result: the photos side by side, their matching points, or their attention maps.

import { Problem, originalUrl, thumbnailUrl } from "./api.js";
import { MAPS } from "./attention.js";
import { part, settled } from "./dom.js";
import { Explanations } from "./explanations.js";
import { Frame } from "./frame.js";
import { drawLines } from "./lines.js";
import { fileName, imageName, percent, seconds as secondsName } from "./names.js";

const PREVIEW = 1024; // pixels of the longest side
const LOOKING = 350; // milliseconds that the ring rests on a spot before the note describes it; arbitrary

export class Comparison {
  /**
   * @param onShow called with the chosen one of SHOWS (state.js).
   * @param onStep called with the result to compare with the query instead.
   * @param onSearch called with the result to search with.
   * @param onClose called when the user closes the comparison.
   */
  constructor({ onShow, onStep, onSearch, onClose }) {
    this.dialog = part("compare");
    this.note = part("compare-note");
    this.pair = part("pair");
    this.drawing = part("lines");
    const look = settled((sentence) => this.tell(sentence), LOOKING);
    this.frames = [part("side-query"), part("side-result")].map((side) => new Frame(side, look));
    this.look = look;
    this.explanations = new Explanations((seconds) => {
      this.tell(`The service is busy. Trying again in ${secondsName(seconds)}.`);
    });
    this.compared = null; // {query, result}; see open()
    this.lines = [];
    this.show = null; // one of SHOWS
    this.turn = 0; // number of the latest request for an explanation; answers to earlier ones are dropped
    this.running = null; // AbortController of the requests for this pair
    this.listen({ onShow, onStep, onSearch, onClose });
  }

  listen({ onShow, onStep, onSearch, onClose }) {
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault(); // `onClose` changes the address, which closes the dialog
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
   * Open the comparison, or update it.
   * @param query {name, source, url, width, height, box}: see frame.js and api.js.
   * @param result {rank, score, confidence, image}; only the image if it is not among the results.
   * @param around {before, after}: the previous and the next result; each undefined if there is none.
   * @param show one of SHOWS (state.js).
   * @param address address of a search with the result.
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
      this.dialog.focus(); // instead of its first button, so that the arrow keys step through the results
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
    this.frames[0].show({ ...query, name: `Query: ${query.name}`, role: "query" });
    this.frames[1].show({
      name: `Result: ${imageName(image)}`,
      role: "result",
      url: thumbnailUrl(image.image_id, PREVIEW),
      width: image.width,
      height: image.height,
      box: null,
    });
    showMetadata(part("compare-metadata"), image);
  }

  /** The one of SHOWS that the radio buttons select. */
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

  /** Show the chosen explanation; request it from the service if it is not cached. */
  async explain() {
    this.turn += 1;
    const { turn, show } = this;
    this.showLines([]);
    for (const frame of this.frames) frame.clear();
    this.look.cancel();
    this.tell("");
    if (show === "photos") return;
    this.tell(show === "matches" ? "Looking for matching points…" : "Computing the attention maps…", { busy: true });
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
    if (!inliers) return this.tell("No matching points; the photos may still show the same place from another side.");
    const drawn = lines.length < inliers ? ` The best ${lines.length} are shown.` : "";
    const points = `${inliers} matching point${inliers === 1 ? "" : "s"}`;
    this.tell(`${points} (of ${tried} candidate${tried === 1 ? "" : "s"}).${drawn}`);
  }

  async explainAttention(name, turn) {
    const { query, result } = this.compared;
    const sources = [query, { source: { image: result.image.image_id }, box: null }];
    const both = await Promise.all(sources.map((one) => this.explanations.attention(one, this.running.signal)));
    if (turn !== this.turn) return;
    if (both.some(({ maps }) => !maps[name])) {
      this.tell(`This model has no ${MAPS[name].name.toLowerCase()} attention.`);
      return;
    }
    both.forEach((attention, i) => this.frames[i].heat(attention, name));
    this.look.cancel(); // the user has not moved the ring yet
    this.tell(MAPS[name].tells);
  }

  showLines(lines) {
    this.lines = lines;
    this.arrange();
  }

  /** Lay out the photos side by side or stacked, whichever makes them larger, and redraw the lines. */
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

/** {room, stacked}: the space for each photo in CSS pixels, and whether the photos are stacked. */
function arranged(element, aspects) {
  const style = getComputedStyle(element);
  const [width, height] = [
    element.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight),
    element.clientHeight,
  ];
  const caption = Number.parseFloat(style.getPropertyValue("--caption")) * Number.parseFloat(style.fontSize);
  const [across, down] = [Number.parseFloat(style.columnGap), Number.parseFloat(style.rowGap)];
  const sideBySide = { width: (width - across) / 2, height: height - caption };
  const above = { width, height: (height - down) / 2 - caption };
  const stacked = shown(above, aspects) > shown(sideBySide, aspects);
  return { room: stacked ? above : sideBySide, stacked };
}

/** Total area in CSS pixels of photos that each fit into a space of this size. */
function shown({ width, height }, aspects) {
  return aspects.reduce((sum, aspect) => sum + Math.min(width, height * aspect) ** 2 / aspect, 0);
}

function facts(result) {
  if (!Number.isFinite(result.score)) return "";
  const sure = Number.isFinite(result.confidence) ? ` · confidence ${percent(result.confidence)}` : "";
  return `Result ${result.rank} · score ${result.score.toFixed(2)}${sure}`;
}

function showMetadata(list, { metadata = {}, width, height, path }) {
  const rows = [["File", path], ["Size", `${width} × ${height} pixels`], ...Object.entries(metadata ?? {})];
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
