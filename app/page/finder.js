// One search, page by page: sends the requests, retries while the service is busy, and drops late answers.

import { Problem, search } from "./api.js";
import { patiently } from "./patience.js";

const PAGE_SIZE = 40; // results per request; arbitrary

export class Finder {
  /**
   * @param handlers object of functions:
   *   onWaiting()             the search has been sent
   *   onAnswer(answer)        the first results have arrived (see api.js)
   *   onMore(answer)          further results have arrived
   *   onBusy(seconds)         the service is busy; the next try is after this pause
   *   onProblem(problem)      the search has failed
   *   onMoreProblem(problem)  loading further results has failed; `more()` tries again
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.request = null;
    this.skip = 0;
    this.ends = true; // whether all results are loaded
    this.running = null; // AbortController of the request in flight
  }

  /** Search from the start. `request` is {source, box, where, rerank}, as in api.js. */
  async start(request) {
    this.stop();
    this.request = request;
    this.handlers.onWaiting();
    await this.run(0, this.handlers.onAnswer, this.handlers.onProblem);
  }

  /** Load further results, unless a request is in flight or there are none. */
  async more() {
    if (this.running || this.ends) return;
    await this.run(this.skip, this.handlers.onMore, this.handlers.onMoreProblem);
  }

  /** Cancel the request in flight. */
  stop() {
    this.running?.abort();
    this.running = null;
    this.skip = 0;
    this.ends = true;
  }

  async run(skip, onAnswer, onProblem) {
    const { source, ...options } = this.request;
    const running = new AbortController();
    const { signal } = running;
    this.running = running;
    const ask = () => search(source, { ...options, top: PAGE_SIZE, skip }, signal);
    try {
      const answer = await patiently(ask, { signal, onWait: this.handlers.onBusy });
      if (signal.aborted) return;
      this.running = null;
      this.skip = skip + answer.results.length;
      this.ends = !answer.more || !answer.results.length;
      onAnswer(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.running = null;
      if (!(error instanceof Problem)) throw error;
      onProblem(error);
    }
  }
}
