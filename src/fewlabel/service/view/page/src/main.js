// The page: one scan at a time, its masks, a drawing, and rounds of learning.
import { Drawing } from "./drawing.js";
import { describe, keysOf, listen } from "./keys.js";
import { Layers, swatch } from "./layers.js";
import { ScanList } from "./list.js";
import * as server from "./server.js";
import { Viewer } from "./viewer.js";

/** Milliseconds between two looks at work that goes on. */
const LOOK = 700;
const STARTS = { prediction: "the prediction", annotation: "the annotation", nothing: "nothing" };
const el = (id) => document.getElementById(id);
const pause = () => new Promise((done) => setTimeout(done, LOOK));
const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

// The token is in a cookie by now: no need to show it, or to keep it in the history.
history.replaceState(null, "", location.pathname);

let known;
let place;
let about;
let began = "nothing";
/** Which masks were shown when drawing began. */
let shownBefore;
/** Grows with every scan that is opened: what was asked for an earlier one is dropped. */
let turn = 0;

const viewer = new Viewer(el("canvas"), { moved: showPlace, greys: showGreys });
const layers = new Layers(viewer, el("layers"));
const drawing = new Drawing(viewer, showTools);
const list = new ScanList({ list: el("list"), sort: el("sort"), find: el("find") }, choose);

function tell(text, wrong = false, where = "status") {
  el(where).textContent = text;
  el(where).classList.toggle("wrong", wrong);
}

/** Do something, and tell what the server says where it refuses. */
const trying = (action, where) => async (...words) => {
  try {
    await action(...words);
  } catch (error) {
    if (!(error instanceof server.Refusal)) {
      console.error(error);
    }
    tell(error.message, true, where);
  }
};

const leaving = () => !(drawing.open && drawing.unsaved) || confirm("The drawing is not saved. Leave it?");

async function choose(wanted) {
  if (wanted !== undefined && wanted !== place && leaving()) {
    await open(wanted);
  }
}

const open = trying(async (wanted, voxel) => {
  const mine = ++turn;
  const stale = () => mine !== turn;
  leaveDrawing();
  if (wanted !== place) {
    // It is of the scan before.
    tell("", false, "saved");
  }
  [place, about] = [wanted, undefined];
  list.mark(place);
  el("scan-name").textContent = known.scans[place].id;
  tell("Loading …");
  try {
    const [told, bytes] = await Promise.all([server.about(wanted), server.volume(wanted, "image?channel=0")]);
    if (stale()) {
      return;
    }
    about = told;
    await viewer.open(bytes, told);
  } catch (error) {
    if (stale()) {
      return;
    }
    // Nobody is to take the scan before for this one.
    about = undefined;
    viewer.clear();
    layers.forget();
    el("dice").textContent = "";
    throw error;
  }
  if (stale()) {
    return;
  }
  el("channel-row").hidden = about.channels < 2;
  el("channel").replaceChildren(
    ...[...Array(about.channels).keys()].map((at) => new Option(known.channels[at] ?? `${at}`, at)),
  );
  el("slice").max = viewer.size[viewer.axis] - 1;
  viewer.voxel = voxel ?? viewer.voxel;
  showGreys();
  await layers.load(place, about, stale);
  if (stale()) {
    return;
  }
  showDice();
  showStarts();
  showPlace();
  if (about.problem) {
    tell(about.problem, true);
  }
  document.body.dataset.shown = known.scans[place].id;
  if (known.predicts && !about.prediction && !about.problem) {
    await predict(stale);
  }
});

/** Have the mask of the open scan made, and show it when it is there. */
async function predict(stale) {
  await server.askPrediction(place);
  for (;;) {
    const making = await server.predictionState(place);
    if (stale()) {
      return;
    }
    if (making.state === "failed") {
      tell(making.problem, true);
      return;
    }
    if (making.state === "done") {
      break;
    }
    tell(making.state === "running" ? "The network predicts this scan …" : "Other scans are predicted first …");
    await pause();
  }
  const told = await server.about(place);
  if (stale()) {
    return;
  }
  about = told;
  await layers.load(place, about, stale);
  if (!stale()) {
    showDice();
    showStarts();
    showPlace();
  }
}

function showPlace() {
  if (!about || !viewer.nv.volumes.length) {
    return;
  }
  const [x, y, z] = viewer.fileVoxel;
  tell(`voxel ${x}, ${y}, ${z} · grey value ${number(viewer.grey)}`);
  el("slice").value = viewer.slice;
  el("slice-label").textContent = `Slice ${viewer.slice + 1} of ${viewer.size[viewer.axis]}`;
}

function showGreys() {
  const [least, most] = viewer.range;
  const [low, high] = viewer.window;
  const step = (most - least) / 500 || 0.001;
  for (const [id, value, from, to] of [["level", (low + high) / 2, least, most], ["window", high - low, step, most - least]]) {
    Object.assign(el(id), { min: from, max: Math.max(to, step), step });
    el(id).value = value;
    el(`${id}-value`).textContent = number(value);
  }
}

function setGreys() {
  const [level, width] = [Number(el("level").value), Number(el("window").value)];
  viewer.window = [level - width / 2, level + width / 2];
  showGreys();
}

function showDice() {
  const parts = (about.dice ?? []).map((dice, at) => (dice === null ? "" : `${known.classes[at].name} ${dice.toFixed(2)}`));
  const scan = known.scans[place];
  const learnt = scan.learnt && about.dice ? " The network has learnt from this scan." : "";
  el("dice").textContent = about.dice ? `Dice: ${parts.filter(Boolean).join(", ") || "nothing to score"}.${learnt}` : "";
}

function showStarts() {
  const there = Object.keys(STARTS).filter((kind) => kind === "nothing" || about[kind]);
  const first = there.includes("annotation") ? "annotation" : there[0];
  el("held").hidden = known.scans[place].part !== "test";
  el("begin").replaceChildren(...there.map((kind) => new Option(STARTS[kind], kind, false, kind === first)));
}

// Drawing

const startDrawing = trying(async () => {
  if (!known.saves || !about || drawing.open) {
    return;
  }
  began = el("begin").value;
  const mine = turn;
  const bytes = began === "nothing" ? undefined : await server.volume(place, began);
  if (mine !== turn) {
    return;
  }
  await drawing.begin(bytes, known.classes, 0.6);
  // Of an annotation all slices were looked at that it says so of.
  el("only-drawn-row").hidden = began === "annotation";
  el("only-drawn").checked = true;
  // What is drawn would not be seen below the masks that it begins with.
  shownBefore = { ...layers.shown };
  layers.show({ prediction: false, annotation: false, errors: false });
  if (viewer.view === "solid") {
    setView("plane");
  }
  tell("", false, "saved");
  showTools();
}, "saved");

function leaveDrawing() {
  if (drawing.open) {
    drawing.end();
    layers.show(shownBefore);
  }
  showTools();
}

function showTools() {
  const on = drawing.open;
  el("draw-start").hidden = on || !known?.saves;
  el("draw-tools").hidden = !on;
  el("undo").disabled = !(on && drawing.strokes.length);
  el("redo").disabled = !(on && drawing.undone.length);
  el("size").value = drawing.size;
  el("size-value").textContent = drawing.size;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", button.dataset.tool === drawing.tool);
  }
  for (const button of el("classes").children) {
    button.setAttribute("aria-pressed", Number(button.dataset.label) === drawing.label);
  }
}

function pick(tool, label, size) {
  drawing.choose(tool, label, size);
  showTools();
}

/** Save a drawing; one without any structure may be a slip, or all there is to draw. Nothing where it is a slip. */
async function saveOrAsk(scan, bytes, slices) {
  try {
    return await server.save(scan, bytes, slices);
  } catch (refusal) {
    if (refusal.asks !== "empty") {
      throw refusal;
    }
    const where = slices ? "There is nothing on the slices that count" : "There is nothing on this scan";
    return confirm(`${where}: save it so?`) ? server.save(scan, bytes, slices, true) : undefined;
  }
}

const save = trying(async () => {
  if (!drawing.open || el("save").disabled) {
    return;
  }
  el("save").disabled = true;
  try {
    const alone = began !== "annotation" && el("only-drawn").checked;
    const slices = alone ? drawing.changedSlices().map((each) => viewer.fileNumber(each)) : undefined;
    const [at, mine, sent] = [turn, drawing.begun, drawing.unsaved];
    const done = await saveOrAsk(place, await drawing.bytes(), slices);
    if (!done) {
      tell("Not saved.", true, "saved");
      return;
    }
    await refresh(await server.state());
    const words = `Saved as ${done.file} by ${done.who} at ${new Date(done.when).toLocaleTimeString()}.`;
    tell(words, false, "saved");
    const same = drawing.begun === mine;
    if (same) {
      drawing.unsaved -= sent;
      Object.assign(shownBefore, { annotation: true, prediction: false });
    }
    if (same && drawing.unsaved) {
      tell(`${words} What you drew meanwhile is not saved yet.`, true, "saved");
    } else if (turn === at && (same || !drawing.open)) {
      await open(place, viewer.voxel);
    }
  } finally {
    el("save").disabled = false;
  }
}, "saved");

// Learning

const startLearning = trying(async () => {
  if (!leaving()) {
    return;
  }
  tell("", false, "learn-outcome");
  await server.startLearning();
  await followLearning();
}, "learn-outcome");

async function followLearning() {
  el("learn").disabled = true;
  try {
    for (;;) {
      const state = await server.learning();
      const lines = el("learn-lines");
      lines.hidden = state.lines.length === 0;
      lines.textContent = state.lines.join("\n");
      lines.scrollTop = lines.scrollHeight;
      if (state.status !== "RUNNING") {
        await learnt(state);
        return;
      }
      tell("A round is at work …", false, "learn-outcome");
      await pause();
    }
  } finally {
    el("learn").disabled = !known.scans.some((scan) => scan.added);
  }
}

async function learnt(state) {
  if (state.status !== "DONE") {
    tell("The round did not end well: what it said is below.", true, "learn-outcome");
    return;
  }
  await refresh(await server.state());
  const { round } = state;
  if (round?.taken) {
    tell(`Round ${round.number} is used from now on: ${round.reason}.`, false, "learn-outcome");
  } else if (round) {
    tell(`Round ${round.number} is NOT used: ${round.reason}. Masks are those of the network before.`, true, "learn-outcome");
  } else {
    tell("The round is done.", false, "learn-outcome");
  }
  if (!drawing.open) {
    await open(place, viewer.voxel);
  }
}

// The whole

async function refresh(state) {
  known = state;
  list.take(known.scans);
  list.mark(place);
  el("notes").hidden = known.notes.length === 0;
  el("notes").querySelector("ul").replaceChildren(
    ...known.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })),
  );
  const added = known.scans.filter((scan) => scan.added).length;
  el("learn").hidden = !known.learns;
  el("learn").disabled = added === 0;
  el("learn-about").textContent = !known.learns
    ? "Only a run with a network can learn."
    : added
      ? `${added === 1 ? "1 mask waits" : `${added} masks are there`}. A round takes minutes; you may look on meanwhile.`
      : "Save an annotation first.";
}

function setView(view) {
  viewer.setView(view);
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === view);
  }
}

function setPanel(name) {
  document.body.dataset.panel = name;
  for (const tab of document.querySelectorAll("[data-tab]")) {
    tab.setAttribute("aria-selected", tab.dataset.tab === name);
  }
}

function makeClasses() {
  el("classes").replaceChildren(
    ...known.classes.map((each, at) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.dataset.label = at + 1;
      const key = Object.assign(document.createElement("kbd"), { textContent: at < 9 ? at + 1 : "" });
      button.append(swatch(each.colour), each.name, key);
      button.addEventListener("click", () => pick(drawing.tool === "erase" ? "brush" : drawing.tool, at + 1));
      return button;
    }),
  );
  const none = known.classes.length === 0;
  el("no-draw").hidden = known.saves;
  el("no-draw").textContent = none
    ? "Start view with classes=[name,name] and --masks DIR to draw on scans alone."
    : "Start view with --masks DIR to save what is drawn.";
}

function listenToAll() {
  const keys = keysOf({
    slice: (steps) => about && (viewer.slice += steps),
    scan: (steps) => choose(list.beside(steps)),
    nextView: () => setView({ plane: "planes", planes: "solid", solid: "plane" }[viewer.view]),
    toggle: (kind) => layers.there?.[kind] && layers.toggle(kind),
    draw: () => (drawing.open ? leaving() && leaveDrawing() : startDrawing()),
    tool: (tool) => drawing.open && pick(tool),
    label: (label) => label <= known.classes.length && pick(drawing.tool === "erase" ? "brush" : drawing.tool, label),
    size: (steps) => pick(drawing.tool, undefined, Math.min(Math.max(drawing.size + steps, 1), 25)),
    undo: () => drawing.undo(),
    redo: () => drawing.redo(),
    save,
    help: () => el("help").showModal(),
  });
  listen(keys);
  describe(el("keys"), keys);
  el("help-button").addEventListener("click", () => el("help").showModal());
  el("slice").addEventListener("input", () => (viewer.slice = Number(el("slice").value)));
  el("level").addEventListener("input", setGreys);
  el("window").addEventListener("input", setGreys);
  el("window-reset").addEventListener("click", () => {
    if (about) {
      viewer.window = about.window;
      showGreys();
    }
  });
  el("channel").addEventListener("change", trying(async () => {
    await viewer.changeImage(await server.volume(place, `image?channel=${el("channel").value}`));
    showGreys();
  }));
  el("draw-begin").addEventListener("click", startDrawing);
  el("draw-end").addEventListener("click", () => leaving() && leaveDrawing());
  el("undo").addEventListener("click", () => drawing.undo());
  el("redo").addEventListener("click", () => drawing.redo());
  el("size").addEventListener("input", () => pick(drawing.tool, undefined, Number(el("size").value)));
  el("save").addEventListener("click", save);
  el("learn").addEventListener("click", startLearning);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => pick(button.dataset.tool));
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => setView(button.dataset.view));
  }
  for (const tab of document.querySelectorAll("[data-tab]")) {
    tab.addEventListener("click", () => setPanel(tab.dataset.tab));
  }
  window.addEventListener("beforeunload", (event) => {
    if (drawing.open && drawing.unsaved) {
      event.preventDefault();
    }
  });
}

const begin = trying(async () => {
  setPanel("view");
  await refresh(await server.state());
  el("title").textContent = document.title = known.title;
  layers.make(known.classes);
  // One mask at a time, to begin with: of two, nobody sees which is which.
  layers.shown.annotation = !known.predicts;
  makeClasses();
  showTools();
  listenToAll();
  await viewer.attach();
  await open(list.listed[0].place);
  if (known.learns && (await server.learning()).status === "RUNNING") {
    await followLearning();
  }
});
await begin();
