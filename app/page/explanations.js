// Explanations of a match, requested from the service and cached.

import { fetchAttention, fetchMatches } from "./api.js";
import { decode } from "./attention.js";
import { patiently } from "./patience.js";

const CACHE_SIZE = 12; // answers: few, because a large attention map takes megabytes; arbitrary

export class Explanations {
  /** @param onBusy called with the seconds until the next try if the service is busy. */
  constructor(onBusy) {
    this.onBusy = onBusy;
    this.cache = new Map(); // request -> promise of its answer, oldest first
  }

  /** Matching points of a query ({source, box}) and an indexed image. */
  matches({ source, box }, imageId, signal) {
    return this.once(`matches ${imageId} ${keyOf(source, box)}`, () => fetchMatches(source, box, imageId, signal), signal);
  }

  /** Decoded attention maps of an image ({source, box}). */
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
    signal.addEventListener("abort", forget); // at once, because the same request may follow immediately
    return answer;
  }
}

function keyOf(source, box) {
  return JSON.stringify([source.key ?? source.image, box]);
}
