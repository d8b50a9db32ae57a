// Photographs that were given to the page, kept in this browser so that Back, a reload and a link find them again.
//
// The service stores no upload, so a link with one opens only where it was made, and for a day.

const KEPT = 8;
const KEPT_FOR = 24 * 60 * 60 * 1000; // milliseconds
const STORE = "photographs";

const files = new Map(); // key -> File of this visit; all there is where the browser forbids storage

/** Keep a file; returns its key at once. */
export function keep(file) {
  const key = newKey();
  files.set(key, file);
  if (files.size > KEPT) files.delete(files.keys().next().value);
  store(key, file).catch(() => {}); // forbidden or full: this visit's own list is enough
  return key;
}

/** The file with this key, or null when this browser has it no longer, or never had. */
export async function find(key) {
  if (files.has(key)) return files.get(key);
  try {
    const file = await done((await photographs("readonly")).get(key));
    return file && Date.now() - timeOf(key) < KEPT_FOR ? file : null;
  } catch {
    return null;
  }
}

async function store(key, file) {
  const kept = await photographs("readwrite");
  await done(kept.put(file, key));
  const keys = await done(kept.getAllKeys()); // oldest first: a key begins with its time
  const stale = keys.filter((one, i) => i < keys.length - KEPT || Date.now() - timeOf(one) > KEPT_FOR);
  for (const one of stale) kept.delete(one);
}

async function photographs(mode) {
  const request = indexedDB.open("glam", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return (await done(request)).transaction(STORE, mode).objectStore(STORE);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Nine letters of time, which sort as they were made until the year 5188, and six of chance. */
function newKey() {
  const chance = crypto.getRandomValues(new Uint32Array(1))[0];
  return Date.now().toString(36).padStart(9, "0") + chance.toString(36).padStart(7, "0").slice(-6);
}

function timeOf(key) {
  return Number.parseInt(key.slice(0, 9), 36);
}
