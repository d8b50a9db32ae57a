// Uploaded photos, stored in this browser for Back, reload, and links.
//
// The service stores no uploads. So a link to an upload works only in the browser that made it, and for one day.

const MAX_STORED = 8; // arbitrary
const MAX_AGE = 24 * 60 * 60 * 1000; // milliseconds; arbitrary
const STORE = "photographs"; // an old name: browsers have stored uploads under it

const files = new Map(); // key -> File of this visit: the only copy if the browser forbids storage

/** Store a file in the background, and return its key. */
export function saveUpload(file) {
  const key = newKey();
  files.set(key, file);
  if (files.size > MAX_STORED) files.delete(files.keys().next().value);
  store(key, file).catch(() => {}); // storage is forbidden or full: `files` still has it
  return key;
}

/** The file with this key; null if this browser does not have it. */
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

/** A new key: nine characters of time, which sort by age until the year 5188, and six random ones. */
function newKey() {
  const chance = crypto.getRandomValues(new Uint32Array(1))[0];
  return Date.now().toString(36).padStart(9, "0") + chance.toString(36).padStart(7, "0").slice(-6);
}

function timeOf(key) {
  return Number.parseInt(key.slice(0, 9), 36);
}
