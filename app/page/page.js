// Ties the page together: a photograph comes in, a search goes out, results are shown, the history follows.

import { Problem, fetchInfo, searchWithFile, searchWithImage } from "./api.js";
import { listenForPhotographs } from "./intake.js";
import { QueryPanel } from "./query.js";
import { ResultsView, fileName, placeName } from "./results.js";
import { addressOf, amend, currentQuery, enter, queryForFile, queryForImage } from "./state.js";

const BOX_PAUSE = 250; // milliseconds without a change of the box before it is searched with

const part = (id) => document.getElementById(id);
const statusLine = part("status");
const progress = part("progress");
const problem = part("problem");

let query = null; // see state.js
let running = null; // AbortController of the search under way
let boxTimer = 0;
let limits = null; // {bytes, pixels}, once the service has told

const panel = new QueryPanel(document, changeBox);
const results = new ResultsView({
  found: part("found"),
  moreButton: part("more"),
  groupButton: part("group"),
  addressOf: (id) => addressOf(queryForImage(id)),
  onPick: (image) => begin(queryForImage(image.id)),
});

function begin(next) {
  enter(next);
  open(next);
  window.scrollTo({ top: 0 });
}

function open(next) {
  query = next;
  document.body.dataset.view = query ? "search" : "home";
  panel.show(query);
  if (query) search();
  else showNothing();
}

function changeBox(box) {
  query = { ...query, box };
  amend(query);
  running?.abort(); // its answer would be for the former box
  clearTimeout(boxTimer);
  boxTimer = setTimeout(search, BOX_PAUSE);
}

async function search() {
  clearTimeout(boxTimer);
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  showWaiting();
  try {
    const answer = await (query.file
      ? searchWithFile(query.file, query.box, signal)
      : searchWithImage(query.image, query.box, signal));
    showAnswer(answer);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    showProblem(error.message, error.mayPass);
  }
}

function showWaiting() {
  progress.hidden = false;
  problem.hidden = true;
  statusLine.textContent = "Searching…";
  results.showWaiting();
}

function showAnswer(answer) {
  progress.hidden = true;
  panel.complete(answer.query);
  results.show(answer.results);
  statusLine.textContent = summary(answer);
}

function showProblem(sentence, mayPass = false) {
  running?.abort();
  progress.hidden = true;
  statusLine.textContent = "";
  results.clear();
  problem.querySelector("p").textContent = sentence;
  problem.querySelector("button").hidden = !mayPass;
  problem.hidden = false;
}

function showNothing() {
  running?.abort();
  clearTimeout(boxTimer);
  progress.hidden = true;
  problem.hidden = true;
  statusLine.textContent = "";
  results.clear();
}

function summary({ results: found, milliseconds }) {
  if (!found.length) return "There is no other photograph in this index.";
  const best = found[0].image;
  const time = Math.max(1, Math.round(milliseconds.describe + milliseconds.search));
  const count = found.length === 1 ? "1 photograph" : `${found.length} photographs`;
  return `Best match: ${placeName(best.label) || fileName(best)}, ${found[0].score.toFixed(2)}. ${count} in ${time} ms.`;
}

function takeFile(file) {
  if (limits && file.size > limits.bytes) {
    showProblem(`${file.name} has ${megabytes(file.size)} MB; the most this service takes is ${megabytes(limits.bytes)} MB.`);
  } else {
    begin(queryForFile(file));
  }
}

function megabytes(bytes) {
  return (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
}

async function showInfo() {
  try {
    const info = await fetchInfo();
    limits = info.limits;
    part("info").textContent = `${info.images.toLocaleString("en")} photographs · ${info.model}`;
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the search will tell
  }
}

listenForPhotographs({
  inputs: [part("file"), part("camera")],
  overlay: part("drop"),
  onFile: takeFile,
  onProblem: showProblem,
});
problem.querySelector("button").addEventListener("click", () => search());
window.addEventListener("popstate", () => open(currentQuery()));
document.querySelector(".brand").addEventListener("click", (event) => {
  event.preventDefault();
  begin(null);
});
showInfo();
open(currentQuery());
