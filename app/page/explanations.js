// Explanations of a match, from the service: requested once, and cached while the query stays the same.

import { fetchAttention, fetchMatches } from "./api.js";
import { decode } from "./attention.js";
import { patiently } from "./patience.js";

const CACHE_SIZE = 12; // answers; a large attention map takes megabytes

export class Explanations {
  /** @param onBusy called with the seconds after which a busy service will be asked again. */
  constructor(onBusy) {
    this.onBusy = onBusy;
    this.cache = new Map(); // request -> promise of the answer; the oldest is dropped first
  }

  /** What matches between a query ({source, box}) and an indexed image. */
  matches({ source, box }, imageId, signal) {
    return this.once(`matches ${imageId} ${keyOf(source, box)}`, () => fetchMatches(source, box, imageId, signal), signal);
  }

  /** The attention in a photo ({source, box}), decoded. */
  attention({ source, box }, signal) {
    return this.once(`attention ${keyOf(source, box)}`, async () => decode(await fetchAttention(source, box, signal)), signal);
  }

  once(key, ask, signal) {
    if (this.cache.has(key)) return this.cache.get(key);
    const answer = patiently(ask, { signal, onWait: this.onBusy });
    this.cache.set(key, answer);
    if (this.cache.size > CACHE_SIZE) this.cache.delete(this.cache.keys().next().value);
    const forget = () => this.cache.delete(key); // a failed request may be sent again
    answer.then(() => signal.removeEventListener("abort", forget), forget);
    signal.addEventListener("abort", forget); // at once: the next question may follow in the same moment
    return answer;
  }
}

function keyOf(source, box) {
  return JSON.stringify([source.key ?? source.image, box]);
}
