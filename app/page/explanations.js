// Why two photographs are alike, as the service works it out: asked for once, and kept for as long as the query stands.

import { fetchAttention, fetchMatches } from "./api.js";
import { decode } from "./attention.js";
import { patiently } from "./patience.js";

const KEPT = 12; // answers; a large attention has megabytes

export class Explanations {
  /** @param onBusy called with the seconds after which a busy service will be asked again. */
  constructor(onBusy) {
    this.onBusy = onBusy;
    this.kept = new Map(); // what was asked -> promise of the answer; the oldest goes first
  }

  /** What matches between a query ({source, box}) and the indexed image `id`. */
  matches({ source, box }, id, signal) {
    return this.once(`matches ${id} ${keyOf(source, box)}`, () => fetchMatches(source, box, id, signal), signal);
  }

  /** The attention in a photograph ({source, box}), decoded. */
  attention({ source, box }, signal) {
    return this.once(`attention ${keyOf(source, box)}`, async () => decode(await fetchAttention(source, box, signal)), signal);
  }

  once(key, ask, signal) {
    if (this.kept.has(key)) return this.kept.get(key);
    const answer = patiently(ask, { signal, onWait: this.onBusy });
    this.kept.set(key, answer);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    const forget = () => this.kept.delete(key); // what came to nothing may be asked again
    answer.then(() => signal.removeEventListener("abort", forget), forget);
    signal.addEventListener("abort", forget); // at once: the next question may follow in the same moment
    return answer;
  }
}

function keyOf(source, box) {
  return JSON.stringify([source.key ?? source.image, box]);
}
