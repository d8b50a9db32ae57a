// Status line, progress bar, and error message.

import { part } from "./dom.js";

export class Notices {
  /** @param onAgain called to try again: when the button is pressed, or when the browser is online again. */
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

  /** Show a status. */
  tell(sentence) {
    this.show(sentence);
  }

  /** Show a status and the progress bar. */
  wait(sentence) {
    this.show(sentence, { waiting: true });
  }

  /** Show an error; `mayPass` adds a button to try again. */
  alarm(sentence, mayPass = false) {
    this.show("", { problem: sentence });
    this.again.hidden = !mayPass;
  }

  /** Remove all messages. */
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
