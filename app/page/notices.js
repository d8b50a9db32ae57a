// What the page says about itself: how it stands, that it waits, and what went wrong.

import { part } from "./dom.js";

export class Notices {
  /** @param onAgain called to try again: on the button, or when the connection is back. */
  constructor(onAgain) {
    this.status = part("status");
    this.progress = part("progress");
    this.problem = part("problem");
    this.sentence = this.problem.querySelector("p");
    this.again = this.problem.querySelector("button");
    this.again.addEventListener("click", onAgain);
    window.addEventListener("online", () => {
      if (!this.problem.hidden && !this.again.hidden) onAgain();
    });
  }

  /** Say how it stands. */
  tell(sentence) {
    this.show(sentence);
  }

  /** Say what is being waited for. */
  wait(sentence) {
    this.show(sentence, { waiting: true });
  }

  /** Say what went wrong; `mayPass` offers to try it again. */
  alarm(sentence, mayPass = false) {
    this.show("", { problem: sentence });
    this.again.hidden = !mayPass;
  }

  /** Say nothing. */
  clear() {
    this.show("");
  }

  show(status, { waiting = false, problem = "" } = {}) {
    this.status.textContent = status;
    this.progress.hidden = !waiting;
    this.problem.hidden = !problem;
    this.sentence.textContent = problem;
  }
}
