// Talks to the service. Every failure that a person should hear of is a Problem, whose message is one sentence.

const TOP = 200; // the most the service gives; the page shows them bit by bit

export class Problem extends Error {
  /** @param mayPass whether the same request could succeed when tried again. */
  constructor(message, mayPass) {
    super(message);
    this.mayPass = mayPass;
  }
}

/** What is being served: {images, model, dimension, limits: {bytes, pixels}}. */
export function fetchInfo() {
  return ask("api/info");
}

/** Search with a File. `box` is {x1, y1, x2, y2} in pixels of the upright image, or null for all of it. */
export function searchWithFile(file, box, signal) {
  const form = new FormData();
  form.append("image", file, file.name || "photograph");
  form.append("top", TOP);
  for (const [name, value] of Object.entries(box ?? {})) form.append(name, value);
  return ask("api/search", { method: "POST", body: form, signal });
}

/** Search with the image of the index that has this id. */
export function searchWithImage(id, box, signal) {
  const fields = new URLSearchParams({ top: TOP, ...box });
  return ask(`api/images/${id}/search?${fields}`, { signal });
}

export function thumbnailUrl(id, size) {
  return `api/images/${id}/thumbnail?size=${size}`;
}

export function originalUrl(id) {
  return `api/images/${id}/file`;
}

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The search service does not answer. Is it still running?", true);
  }
  if (!response.ok) throw new Problem(await sentence(response), response.status >= 500);
  return response.json();
}

async function sentence(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `The search service answered with an error (${response.status}).`;
  }
}
