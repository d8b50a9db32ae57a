// Client of the API. A failure that the user should see is thrown as a Problem, whose message is shown on the page.
//
// A source is the query image: {image: image_id} for an indexed one, or {file: File}. A box is {x1, y1, x2, y2} in pixels
// of the upright image, or null for the whole image.

import { askForToken, token } from "./token.js";

const BUSY = 503;
const UNKNOWN_WAIT = 3; // seconds to wait for a busy service that sends no Retry-After; arbitrary

export class Problem extends Error {
  /**
   * @param status HTTP status; 0 if there was no response.
   * @param retryAfter seconds after which to try again; 0 unless the service is busy.
   */
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later. */
  get mayPass() {
    return this.status === 0 || this.status === 401 || this.status >= 500;
  }
}

/** Facts about the index: {images, model, dimension, limits: {bytes, pixels}, ...}. */
export function fetchInfo() {
  return ask("api/info");
}

/** Columns to filter by: [{name, kind: "text" or "number", values: [{value, count}], least, most}, ...]. */
export async function fetchColumns() {
  return (await ask("api/filters")).columns;
}

/** An indexed image: {image_id, path, landmark, width, height, ...}. */
export function fetchImage(imageId, signal) {
  return ask(`api/images/${imageId}`, { signal });
}

/** {query, results, more, milliseconds}: `top` results after the first `skip`. `rerank`: re-ranking steps, or "". */
export function search(source, { box, where, rerank, top, skip }, signal) {
  const fields = { top, ...(skip ? { skip } : {}), ...(where ? { where } : {}), ...(rerank ? { rerank } : {}), ...box };
  if (source.file) return ask("api/search", { method: "POST", body: form({ image: source.file, ...fields }), signal });
  return ask(`api/images/${source.image}/search?${new URLSearchParams(fields)}`, { signal });
}

/** {inliers, tried, lines: [[x1, y1, x2, y2], ...]} between a source and an indexed image. */
export function fetchMatches(source, box, imageId, signal) {
  const query = source.file ? { image: source.file } : { query: source.image };
  return ask("api/matches", { method: "POST", body: form({ ...query, with: imageId, ...box }), signal });
}

/** The four attention maps of a source; see attention.js. */
export function fetchAttention(source, box, signal) {
  if (source.file) return ask("api/attention", { method: "POST", body: form({ image: source.file, ...box }), signal });
  return ask(`api/images/${source.image}/attention?${new URLSearchParams(box ?? {})}`, { signal });
}

export function thumbnailUrl(imageId, size) {
  return `api/images/${imageId}/thumbnail?size=${size}`;
}

export function originalUrl(imageId) {
  return `api/images/${imageId}/file`;
}

function form(fields) {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) made.append(name, value, value.name || "photo");
    else made.append(name, value);
  }
  return made;
}

async function ask(url, options = {}) {
  const response = await answered(url, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The search service sent an invalid response. Try again later.", response.status);
  }
}

async function answered(url, options) {
  const used = token();
  const response = await reached(url, options);
  if (response.ok) return response;
  if (response.status === 401) {
    if (await askForToken(used)) return answered(url, options);
    throw new Problem("An access token is required. Try again to enter one.", 401);
  }
  throw new Problem(await sentence(response), response.status, waitOf(response));
}

async function reached(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!navigator.onLine) throw new Problem("You are offline. The search continues when you are online again.");
    throw new Problem("The search service does not answer. Check that it is running, then try again.");
  }
}

function waitOf(response) {
  if (response.status !== BUSY) return 0;
  const seconds = Number(response.headers.get("Retry-After"));
  return seconds > 0 ? seconds : UNKNOWN_WAIT;
}

async function sentence(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string" && detail) return detail;
  } catch {
    // not JSON: perhaps the answer of a proxy
  }
  return `The search service reported an error (HTTP ${response.status}). Try again later.`;
}
