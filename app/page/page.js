// The entry point. The address holds the state of the page (state.js); the other modules display it and change it.

import { Problem, fetchImage, fetchInfo } from "./api.js";
import { Comparison } from "./compare.js";
import { make, part, settled } from "./dom.js";
import { expression, filterCount } from "./expression.js";
import { FilterPanel } from "./filters.js";
import { Finder } from "./finder.js";
import { listenForPhotos } from "./intake.js";
import { landmarkName, megabytes, photoCount, seconds as secondsName } from "./names.js";
import { Notices } from "./notices.js";
import { QueryPanel } from "./query.js";
import { ResultsView, nothingFound } from "./results.js";
import { showSamples } from "./samples.js";
import { listenForSharing } from "./share.js";
import { NOTHING, RERANK, format, hasQuery, isDeprecated, parse } from "./state.js";
import { mayAskAgain } from "./token.js";
import { findUpload, saveUpload } from "./uploads.js";

const NOT_HERE =
  "This browser does not have the photo of this search: it was uploaded in another browser or more than a day ago. " +
  "Choose the photo again.";
const RERANK_NOTE =
  "The top results are also compared with each other, which usually puts them in a better order. " +
  "Scores are those of the plain search.";
const BOX_PAUSE = 250; // milliseconds after the last change of the box until the search starts; arbitrary
const SURE = 0.95; // confidence of the best result from which on the summary names its landmark; arbitrary

let view = NOTHING; // see state.js
let source = null; // the query, see api.js; null until it is loaded
let compared = null; // the query for compare.js; null until the service has answered
let limits = null; // {bytes, pixels}; null until the service has answered
let images = 0; // number of images in the index; 0 until the service has answered

const notices = new Notices(() => search());
const panel = new QueryPanel(document, changeBox);
const filters = new FilterPanel((chosen) => go({ ...view, filters: chosen }));
const searchSoon = settled(search, BOX_PAUSE);

const finder = new Finder({
  onWaiting: () => {
    notices.wait("Searching…");
    results.showWaiting();
  },
  onBusy: (seconds) => notices.wait(`The service is busy. Trying again in ${secondsName(seconds)}.`),
  onAnswer: showAnswer,
  onMore: (answer) => {
    results.add(answer.results, answer.more);
    notices.tell(summary());
    showComparison(); // it may have a next result now
  },
  onProblem: showProblem,
  onMoreProblem: (problem) => {
    results.setMore("failed");
    notices.tell(problem.message);
  },
});

const results = new ResultsView({
  found: part("found"),
  moreButton: part("more"),
  linksOf: (imageId) => ({
    compare: addressOf({ ...view, compare: imageId }),
    search: addressOf(searchWith(imageId)),
  }),
  onOpen: ({ image }) => go({ ...view, compare: image.image_id }, { entry: { comparing: true } }),
  onSearch: ({ image }) => begin(searchWith(image.image_id)),
  onMore: () => {
    results.setMore("loading");
    finder.more();
  },
});

const comparison = new Comparison({
  onShow: (show) => amend({ ...view, show }),
  onStep: ({ image }) => amend({ ...view, compare: image.image_id }),
  onSearch: ({ image }) => begin(searchWith(image.image_id)),
  onClose: closeComparison,
});

/** The view of a search with an indexed image; filters and grouping stay. */
function searchWith(imageId) {
  return { ...view, image: imageId, upload: null, box: null, compare: null, show: NOTHING.show };
}

function addressOf(next) {
  return location.pathname + format(next);
}

/** Open the view in the address. Deprecated names in the address are replaced. */
function openAddress() {
  const next = parse(location.search);
  if (isDeprecated(location.search)) history.replaceState(history.state, "", addressOf(next));
  open(next);
}

/** Open a view as a new entry of the browser history. */
function go(next, { entry = null } = {}) {
  history.pushState(entry, "", addressOf(next));
  open(next);
}

/** Open a view within the current entry of the browser history, so that Back skips it. */
function amend(next) {
  history.replaceState(history.state, "", addressOf(next));
  open(next);
}

function begin(next) {
  go(next);
  window.scrollTo({ top: 0 });
}

/** Show a view, and update only what has changed. */
async function open(next) {
  const before = view;
  view = next;
  document.body.dataset.view = hasQuery(view) ? "search" : "home";
  part("tools").hidden = !hasQuery(view);
  part("share").hidden = view.image === null; // a link to an upload works in this browser only
  part("group").setAttribute("aria-pressed", String(view.group));
  results.setGrouped(view.group);
  part("rerank").setAttribute("aria-pressed", String(view.rerank));
  part("rerank-note").hidden = !view.rerank || !hasQuery(view);
  if (differ(before, view, ["filters"])) filters.show(view.filters);
  if (differ(before, view, ["image", "upload"])) await openSource();
  else if (differ(before, view, ["box", "filters", "rerank"])) openBox();
  else results.readdress();
  showComparison();
}

function differ(before, after, names) {
  return names.some((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

async function openSource() {
  const opened = view;
  finder.stop();
  searchSoon.cancel();
  compared = null;
  source = view.image !== null ? { image: view.image } : null;
  if (view.upload !== null) {
    const file = await findUpload(view.upload);
    if (view.upload !== opened.upload) return; // another view has been opened since
    source = file && { file, key: view.upload };
  }
  panel.show(source, view.box);
  document.title = "GLAM landmark search";
  if (source) return search();
  results.clear();
  if (hasQuery(view)) notices.alarm(NOT_HERE);
  else notices.clear();
  showBeginnings();
}

function openBox() {
  panel.showBox(view.box);
  search();
}

function changeBox(box) {
  view = { ...view, box };
  history.replaceState(history.state, "", addressOf(view));
  finder.stop(); // its answer would be for the old box
  searchSoon();
}

function search() {
  searchSoon.cancel();
  if (!source) return;
  mayAskAgain();
  filters.showWrong("");
  finder.start({ source, box: view.box, where: expression(view.filters), rerank: view.rerank ? RERANK : "" });
}

function showAnswer(answer) {
  const { query } = answer;
  panel.complete(query);
  compared = { ...panel.shown, source, width: query.width, height: query.height, box: view.box };
  document.title = `${compared.name} · GLAM landmark search`;
  results.show(answer.results, answer.more);
  part("group").hidden = !results.canGroup;
  if (view.rerank) tellCost(answer.milliseconds.search);
  notices.tell(summary());
  if (!answer.results.length) showNothingFound();
  showComparison();
  filters.load(); // again, if it failed before, for example without a token
}

/** Explain re-ranking, and say how long the search took once there is an answer. */
function tellCost(milliseconds = null) {
  const took = milliseconds === null ? "" : ` This search took ${Math.max(1, Math.round(milliseconds))} ms.`;
  part("rerank-note").textContent = `${RERANK_NOTE}${took}`;
}

function showNothingFound() {
  if (!filterCount(view.filters)) {
    results.clear(nothingFound("This index has no other photos."));
    return;
  }
  const button = make("button", "button", "Clear filters");
  button.type = "button";
  button.addEventListener("click", () => filters.clear());
  results.clear(nothingFound("No photos match these filters.", button));
}

function showProblem(problem) {
  results.clear();
  if (view.filters.where.trim() && problem.status === 422 && /\bfilter\b/.test(problem.message)) {
    notices.tell("The advanced filter is not valid. Correct it under Filters.");
    filters.showWrong(problem.message);
  } else {
    notices.alarm(problem.message, problem.mayPass);
  }
}

async function showComparison() {
  const { compare, show } = view;
  if (compare === null || !compared) return comparison.close();
  const { result, ...around } = results.around(compare);
  try {
    const shown = result ?? { image: await fetchImage(compare) };
    if (view.compare !== compare || !compared) return;
    comparison.open({ query: compared, result: shown, around, show, address: addressOf(searchWith(compare)) });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    notices.alarm(error.message);
  }
}

function closeComparison() {
  const { compare } = view;
  if (history.state?.comparing) {
    window.addEventListener("popstate", () => results.focus(compare), { once: true });
    history.back();
  } else {
    amend({ ...view, compare: null, show: NOTHING.show });
    results.focus(compare);
  }
}

/** The line above the results: "40 photos so far, most similar first. The first 12 show Petra." */
function summary() {
  const { results: found } = results;
  if (!found.length) return "No photos found.";
  const count = `${photoCount(found.length)}${finder.ends ? "" : " so far"}`;
  const order = view.rerank ? "best first" : "most similar first";
  return `${count}, ${order}.${leaders(found)}`;
}

/** A sentence on the landmark of the first results; "" unless the best of them is a confident match. */
function leaders(found) {
  const { landmark } = found[0].image;
  if (!landmark || !(found[0].confidence >= SURE)) return "";
  const end = found.findIndex(({ image }) => image.landmark !== landmark);
  const count = end < 0 ? found.length : end;
  const which = count === 1 ? "The first one shows" : count === found.length ? "All show" : `The first ${count} show`;
  return ` ${which} ${landmarkName(landmark)}.`;
}

function takeFile(file) {
  if (limits && file.size > limits.bytes) {
    notices.alarm(`${file.name} has ${megabytes(file.size)}. Choose a file of at most ${megabytes(limits.bytes)}.`);
  } else {
    begin({ ...searchWith(null), upload: saveUpload(file) });
  }
}

async function showInfo() {
  try {
    const info = await fetchInfo();
    limits = info.limits;
    part("info").textContent = `${photoCount(info.images)} in this collection`;
    if (!info.images) return notices.alarm("There are no photos in this index yet. Add some with: glam index add INDEX FILE");
    images = info.images;
    showBeginnings();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (!hasQuery(view)) notices.alarm(error.message); // otherwise the search reports it
  }
}

/** Show sample photos while there is no query. */
function showBeginnings() {
  if (hasQuery(view) || !images) return;
  showSamples(
    images,
    (imageId) => addressOf(searchWith(imageId)),
    (image) => begin(searchWith(image.image_id)),
  );
  images = 0; // show them only once
}

listenForPhotos({
  inputs: [part("file"), part("camera")],
  overlay: part("drop"),
  onFile: takeFile,
  onLink: (url) => begin(parse(url.search)),
  onProblem: (sentence) => notices.alarm(sentence),
});
listenForSharing();
tellCost();
part("rerank").addEventListener("click", () => go({ ...view, rerank: !view.rerank }));
part("group").addEventListener("click", () => amend({ ...view, group: !view.group }));
window.addEventListener("popstate", openAddress);
document.querySelector(".brand").addEventListener("click", (event) => {
  event.preventDefault();
  begin(NOTHING);
});
showInfo();
filters.load();
openAddress();
