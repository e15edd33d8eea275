// The list of scans: sorted, searched, each with what is known of it.

const SORTS = {
  id: { name: "id", of: (scan) => scan.id, order: (a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }) },
  score: { name: "score, worst first", of: (scan) => scan.score, order: (a, b) => a.score - b.score },
  disagreement: {
    name: "disagreement, most first",
    of: (scan) => scan.disagreement,
    order: (a, b) => b.disagreement - a.disagreement,
  },
};

/** What is known of a scan, in words. */
function facts(scan) {
  const words = [];
  if (scan.saved) {
    words.push(`saved by ${scan.saved.who}`);
  } else if (scan.added) {
    words.push("mask added");
  } else if (scan.labelled) {
    words.push(scan.learnt ? "learnt from" : "annotated");
  }
  if (scan.part) {
    words.push(scan.part);
  }
  if (scan.score !== null) {
    words.push(`Dice ${scan.score.toFixed(2)}`);
  }
  if (scan.disagreement !== null) {
    words.push(`disagreement ${scan.disagreement.toFixed(2)}`);
  }
  return words.join(" · ");
}

export class ScanList {
  /** `opened` is called with the place of a scan that somebody chose. */
  constructor({ list, sort, find }, opened) {
    [this.list, this.sort, this.find, this.opened] = [list, sort, find, opened];
    sort.addEventListener("change", () => this.show());
    find.addEventListener("input", () => this.show());
  }

  /** Take the scans as the server has them now. */
  take(scans) {
    this.scans = scans.map((scan, place) => ({ ...scan, place }));
    const chosen = this.sort.value || "id";
    const has = (key) => scans.some((scan) => SORTS[key].of(scan) !== null);
    this.sort.replaceChildren(
      ...Object.keys(SORTS).filter(has).map((key) => new Option(SORTS[key].name, key, false, key === chosen)),
    );
    this.show();
  }

  /** The scans as they are listed. */
  get listed() {
    const { of, order } = SORTS[this.sort.value || "id"];
    const wanted = this.find.value.trim().toLowerCase();
    const there = this.scans.filter((scan) => scan.id.toLowerCase().includes(wanted));
    const known = there.filter((scan) => of(scan) !== null).sort(order);
    return [...known, ...there.filter((scan) => of(scan) === null).sort(SORTS.id.order)];
  }

  show() {
    this.list.replaceChildren(
      ...this.listed.map((scan) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.place = scan.place;
        for (const [kind, text] of [["name", scan.id], ["facts", facts(scan)]]) {
          const part = document.createElement("span");
          part.className = kind;
          part.textContent = text;
          button.append(part);
        }
        button.addEventListener("click", () => this.opened(scan.place));
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
    this.mark(this.current);
  }

  /** Show which scan is open. */
  mark(place) {
    this.current = place;
    for (const button of this.list.querySelectorAll("button")) {
      const open = Number(button.dataset.place) === place;
      button.setAttribute("aria-current", open);
      if (open) {
        button.scrollIntoView({ block: "nearest" });
      }
    }
  }

  /** The place of the scan that is listed so many before or after the open one. */
  beside(steps) {
    const places = this.listed.map((scan) => scan.place);
    return places[places.indexOf(this.current) + steps];
  }
}
