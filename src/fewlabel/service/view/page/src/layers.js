// The masks over a scan: which are shown, how strongly, and what their colours mean.
import * as server from "./server.js";
import { colours } from "./viewer.js";

/** Kinds of error by the value that the server gives them; colours told apart by colour-blind readers. */
const ERRORS = [
  { name: "found, where nothing is", colour: [255, 107, 53] },
  { name: "missed", colour: [86, 180, 233] },
  { name: "taken for another class", colour: [255, 255, 255] },
];
const KINDS = { prediction: "Prediction", annotation: "Annotation", errors: "Errors" };

function legend(classes) {
  const made = document.createElement("div");
  made.className = "legend";
  for (const each of classes) {
    const part = document.createElement("span");
    part.append(swatch(each.colour), each.name);
    made.append(part);
  }
  return made;
}

/** A small square of a colour. */
export function swatch(colour) {
  const made = document.createElement("span");
  made.className = "swatch";
  made.style.background = `rgb(${colour.join(" ")})`;
  return made;
}

export class Layers {
  constructor(viewer, box) {
    this.viewer = viewer;
    this.rows = new Map();
    this.box = box;
    this.shown = { prediction: true, annotation: false, errors: false };
    this.opacity = { prediction: 0.5, annotation: 0.5, errors: 0.8 };
  }

  /** Write the rows, once the classes are known. */
  make(classes) {
    this.tables = { prediction: classes, annotation: classes, errors: ERRORS };
    for (const [kind, name] of Object.entries(KINDS)) {
      const row = document.createElement("div");
      row.className = "layer";
      const box = Object.assign(document.createElement("input"), { type: "checkbox", id: `show-${kind}` });
      const label = Object.assign(document.createElement("label"), { htmlFor: box.id, textContent: name });
      const slide = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1, step: 0.05 });
      slide.value = this.opacity[kind];
      slide.setAttribute("aria-label", `Opacity: ${name}`);
      box.addEventListener("change", () => this.show({ [kind]: box.checked }));
      slide.addEventListener("input", () => {
        this.opacity[kind] = Number(slide.value);
        this.viewer.setOpacity(kind, this.strength(kind));
      });
      row.append(box, label, slide);
      this.box.append(row);
      if (kind === "annotation" && classes.length > 0) {
        this.box.append(legend(classes));
      }
      if (kind === "errors") {
        this.errorLegend = legend(ERRORS);
        this.box.append(this.errorLegend);
      }
      this.rows.set(kind, { row, box, slide });
    }
  }

  strength(kind) {
    return this.shown[kind] ? this.opacity[kind] : 0;
  }

  /** Load the masks of a scan that there are. */
  async load(place, about, stale) {
    const there = { ...about, errors: about.prediction && about.annotation };
    for (const kind of Object.keys(KINDS)) {
      const bytes = there[kind] ? await server.volume(place, kind) : undefined;
      if (stale()) {
        return;
      }
      await this.viewer.setMask(kind, bytes, colours(this.tables[kind]), this.strength(kind));
    }
    this.there = there;
    this.refresh();
  }

  /** There are none any more. */
  forget() {
    this.there = undefined;
    this.refresh();
  }

  /** Show some kinds and hide others, such as `{ prediction: false }`. */
  show(kinds) {
    Object.assign(this.shown, kinds);
    for (const kind of Object.keys(kinds)) {
      this.viewer.setOpacity(kind, this.strength(kind));
    }
    this.refresh();
  }

  toggle(kind) {
    this.show({ [kind]: !this.shown[kind] });
  }

  refresh() {
    for (const [kind, { row, box, slide }] of this.rows) {
      const there = Boolean(this.there?.[kind]);
      row.classList.toggle("off", !there);
      box.disabled = slide.disabled = !there;
      box.checked = there && this.shown[kind];
    }
    this.errorLegend.hidden = !(this.there?.errors && this.shown.errors);
  }
}
