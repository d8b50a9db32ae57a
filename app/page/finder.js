// One search and its further results: asks, waits for a busy service, and forgets answers that came too late.

import { Problem, search } from "./api.js";
import { patiently } from "./patience.js";

const FIRST = 40; // results of the first answer, and of each further one

export class Finder {
  /**
   * @param told functions that are called as things happen:
   *   onWaiting()          a search went out
   *   onAnswer(answer)     its first results came (see api.js)
   *   onMore(answer)       further results came; they follow the former ones
   *   onBusy(seconds)      the service is busy, and will be asked again then
   *   onProblem(problem)   the search failed
   *   onMoreProblem(problem)  further results failed; `more()` tries again
   */
  constructor(told) {
    this.told = told;
    this.asked = null;
    this.skip = 0;
    this.ends = true; // no further results
    this.running = null; // AbortController of what is under way
  }

  /** Search from the start. `asked` is {source, box, where, rerank}, as in api.js. */
  async start(asked) {
    this.stop();
    this.asked = asked;
    this.told.onWaiting();
    await this.run(0, this.told.onAnswer, this.told.onProblem);
  }

  /** Ask for the results after those there are, unless they are on their way or there are none. */
  async more() {
    if (this.running || this.ends) return;
    await this.run(this.skip, this.told.onMore, this.told.onMoreProblem);
  }

  /** Forget what is under way. */
  stop() {
    this.running?.abort();
    this.running = null;
    this.skip = 0;
    this.ends = true;
  }

  async run(skip, onAnswer, onProblem) {
    const { source, ...wanted } = this.asked;
    const running = new AbortController();
    const { signal } = running;
    this.running = running;
    const ask = () => search(source, { ...wanted, top: FIRST, skip }, signal);
    try {
      const answer = await patiently(ask, { signal, onWait: this.told.onBusy });
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
