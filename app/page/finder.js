// One search and its further results: asks, waits for a busy service, and forgets answers that came too late.

import { Problem, search } from "./api.js";
import { patiently } from "./patience.js";

const FIRST = 40; // results of the first answer, and of each further one

export class Finder {
  /**
   * @param handlers functions that are called as things happen:
   *   onWaiting()          a search went out
   *   onAnswer(answer)     its first results came (see api.js)
   *   onMore(answer)       further results came; they follow the former ones
   *   onBusy(seconds)      the service is busy, and will be asked again then
   *   onProblem(problem)   the search failed
   *   onMoreProblem(problem)  further results failed; `more()` tries again
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.request = null;
    this.skip = 0;
    this.ends = true; // no further results
    this.running = null; // AbortController of what is under way
  }

  /** Search from the start. `request` is {source, box, where, rerank}, as in api.js. */
  async start(request) {
    this.stop();
    this.request = request;
    this.handlers.onWaiting();
    await this.run(0, this.handlers.onAnswer, this.handlers.onProblem);
  }

  /** Ask for the results after those there are, unless they are on their way or there are none. */
  async more() {
    if (this.running || this.ends) return;
    await this.run(this.skip, this.handlers.onMore, this.handlers.onMoreProblem);
  }

  /** Forget what is under way. */
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
    const ask = () => search(source, { ...options, top: FIRST, skip }, signal);
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
