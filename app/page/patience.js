// Retries while the service is busy (503), after the pause that its Retry-After header names.

const TRIES = 8; // arbitrary
const LONGEST = 30; // seconds between two tries, at most; arbitrary

/**
 * Return the result of `work`; call it again while it throws a Problem with `retryAfter` (seconds).
 * @param signal AbortSignal: ends a pause with an AbortError.
 * @param onWait called before each pause with its length in seconds.
 */
export async function patiently(work, { signal, onWait }) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (!error.retryAfter || tries === TRIES) throw error;
      const seconds = Math.min(error.retryAfter, LONGEST);
      onWait?.(seconds);
      // Random jitter, so that rejected clients do not all return at the same moment.
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
