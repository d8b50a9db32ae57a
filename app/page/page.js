// Ties the page together: the address says what is looked at (state.js); the parts of the page show it, and change it.

import { Problem, fetchImage, fetchInfo } from "./api.js";
import { Comparison } from "./compare.js";
import { make, part, settled } from "./dom.js";
import { expression, filterCount } from "./expression.js";
import { FilterPanel } from "./filters.js";
import { Finder } from "./finder.js";
import { listenForPhotos } from "./intake.js";
import { imageName, megabytes, photoCount, seconds as secondsName } from "./names.js";
import { Notices } from "./notices.js";
import { QueryPanel } from "./query.js";
import { ResultsView, nothingFound } from "./results.js";
import { showSamples } from "./samples.js";
import { listenForSharing } from "./share.js";
import { NOTHING, RERANK, format, hasQuery, isDeprecated, parse } from "./state.js";
import { mayAskAgain } from "./token.js";
import { findUpload, saveUpload } from "./uploads.js";

const NOT_HERE =
  "This search was made with a photo that this browser does not have. Choose it again to search with it.";
const RERANK_NOTE = "The first results are looked at again, for a better order. That makes a search slower";
const BOX_PAUSE = 250; // milliseconds without a change of the box before it is searched with

let view = NOTHING; // see state.js
let source = null; // what is searched with, see api.js; null until it is found
let compared = null; // the query as the comparison takes it, once the service has answered
let limits = null; // {bytes, pixels}, once the service has answered
let images = 0; // number of images in the index, once the service has answered

const notices = new Notices(() => search());
const panel = new QueryPanel(document, changeBox);
const filters = new FilterPanel((chosen) => go({ ...view, filters: chosen }));
const searchSoon = settled(search, BOX_PAUSE);

const finder = new Finder({
  onWaiting: () => {
    notices.wait("Searching…");
    results.showWaiting();
  },
  onBusy: (seconds) => notices.wait(`The service is busy. It is asked again in ${secondsName(seconds)}.`),
  onAnswer: showAnswer,
  onMore: (answer) => {
    results.add(answer.results, answer.more);
    notices.tell(summary(answer));
    showComparison(); // there may be a next result now
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

/** A search with an indexed image, filtered and grouped as now. */
function searchWith(imageId) {
  return { ...view, image: imageId, upload: null, box: null, compare: null, show: NOTHING.show };
}

function addressOf(next) {
  return location.pathname + format(next);
}

/** Look at what the address says. An address with deprecated names is rewritten in place. */
function openAddress() {
  const next = parse(location.search);
  if (isDeprecated(location.search)) history.replaceState(history.state, "", addressOf(next));
  open(next);
}

/** Look at something else, as a new entry of the history. */
function go(next, { entry = null } = {}) {
  history.pushState(entry, "", addressOf(next));
  open(next);
}

/** Look at it differently, within the same entry of the history: Back does not step through such changes. */
function amend(next) {
  history.replaceState(history.state, "", addressOf(next));
  open(next);
}

function begin(next) {
  go(next);
  window.scrollTo({ top: 0 });
}

/** Show a view; only what is another than before is done again. */
async function open(next) {
  const before = view;
  view = next;
  document.body.dataset.view = hasQuery(view) ? "search" : "home";
  part("tools").hidden = !hasQuery(view);
  part("share").hidden = view.image === null; // a link to an upload opens in this browser only
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
    if (view.upload !== opened.upload) return; // something else was opened meanwhile
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
  finder.stop(); // its answer would be for the former box
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
  notices.tell(summary(answer));
  if (!answer.results.length) showNothingFound();
  showComparison();
  filters.load(); // where that failed at first, for want of a token perhaps
}

/** Say what looking again costs: what it does, and once there is an answer how long that took. */
function tellCost(milliseconds = null) {
  const took = milliseconds === null ? "" : `; this one took ${Math.max(1, Math.round(milliseconds))} ms`;
  part("rerank-note").textContent = `${RERANK_NOTE}${took}.`;
}

function showNothingFound() {
  if (!filterCount(view.filters)) {
    results.clear(nothingFound("There is no other photo in this index."));
    return;
  }
  const button = make("button", "button", "Clear all filters");
  button.type = "button";
  button.addEventListener("click", () => filters.clear());
  results.clear(nothingFound("No photo fits these filters.", button));
}

function showProblem(problem) {
  results.clear();
  if (view.filters.where.trim() && problem.status === 422 && /\bfilter\b/.test(problem.message)) {
    notices.tell("The expression among the filters cannot be used.");
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

function summary({ milliseconds }) {
  const { results: found } = results;
  if (!found.length) return "Nothing was found.";
  const [best] = found;
  const time = Math.max(1, Math.round(milliseconds.describe + milliseconds.search));
  const far = finder.ends ? "" : " so far,";
  return `Best match: ${imageName(best.image)}, ${best.score.toFixed(2)}. ${photoCount(found.length)}${far} in ${time} ms.`;
}

function takeFile(file) {
  if (limits && file.size > limits.bytes) {
    notices.alarm(`${file.name} has ${megabytes(file.size)}; the most this service takes is ${megabytes(limits.bytes)}.`);
  } else {
    begin({ ...searchWith(null), upload: saveUpload(file) });
  }
}

async function showInfo() {
  try {
    const info = await fetchInfo();
    limits = info.limits;
    part("info").textContent = `${photoCount(info.images)} · ${info.model}`;
    if (!info.images) return notices.alarm("There are no photos in this index yet. Add some with: glam index add");
    images = info.images;
    showBeginnings();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (!hasQuery(view)) notices.alarm(error.message); // else the search tells
  }
}

/** Offer photos to begin with, where nothing is searched with yet. */
function showBeginnings() {
  if (hasQuery(view) || !images) return;
  showSamples(
    images,
    (imageId) => addressOf(searchWith(imageId)),
    (image) => begin(searchWith(image.image_id)),
  );
  images = 0; // once is enough
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
