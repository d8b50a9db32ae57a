// Waiting for a service that is busy: it says for how long (503 with Retry-After), we wait and ask again.

const TRIES = 8;
const LONGEST = 30; // seconds

/**
 * What `work` returns, tried again while it throws a Problem with `retryAfter` (seconds).
 * @param signal ends the waiting, with an AbortError.
 * @param onWait called with the seconds before each pause.
 */
export async function patiently(work, { signal, onWait }) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (!error.retryAfter || tries === TRIES) throw error;
      const seconds = Math.min(error.retryAfter, LONGEST);
      onWait?.(seconds);
      // A little chance, or all who were sent away together would come back together.
      await pause(seconds * (1 + 0.2 * Math.random()), signal);
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const end = () => reject(new DOMException("The request was aborted", "AbortError"));
    if (signal?.aborted) return end();
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      end();
    }, { once: true });
  });
}
