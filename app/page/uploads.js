// Uploaded photos, stored in this browser so that Back, a reload and a link find them again.
//
// The service stores no upload, so a link with one opens only where it was made, and for a day.

const MAX_STORED = 8;
const MAX_AGE = 24 * 60 * 60 * 1000; // milliseconds
const STORE = "photographs"; // not renamed: browsers have uploads under this name

const files = new Map(); // key -> File of this visit; all there is where the browser forbids storage

/** Store a file, and return its key at once. */
export function saveUpload(file) {
  const key = newKey();
  files.set(key, file);
  if (files.size > MAX_STORED) files.delete(files.keys().next().value);
  store(key, file).catch(() => {}); // forbidden or full: this visit's own list is enough
  return key;
}

/** The file with this key, or null when this browser has it no longer, or never had. */
export async function findUpload(key) {
  if (files.has(key)) return files.get(key);
  try {
    const file = await done((await openStore("readonly")).get(key));
    return file && Date.now() - timeOf(key) < MAX_AGE ? file : null;
  } catch {
    return null;
  }
}

async function store(key, file) {
  const stored = await openStore("readwrite");
  await done(stored.put(file, key));
  const keys = await done(stored.getAllKeys()); // oldest first: a key begins with its time
  const stale = keys.filter((one, i) => i < keys.length - MAX_STORED || Date.now() - timeOf(one) > MAX_AGE);
  for (const one of stale) stored.delete(one);
}

async function openStore(mode) {
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
