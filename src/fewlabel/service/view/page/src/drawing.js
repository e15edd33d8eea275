// A drawing over the scan: tools, and an undo that goes back to the first stroke.
import { NVImage } from "@niivue/niivue";
import { colours } from "./viewer.js";

/** Strokes that can be undone; each is kept as the voxels that it changed. */
const MOST_STROKES = 200;

export class Drawing {
  /** `changed` is called after every stroke. */
  constructor(viewer, changed) {
    this.viewer = viewer;
    this.changed = changed;
    this.open = false;
    this.tool = "brush";
    this.label = 1;
    this.size = 3;
    viewer.nv.onDrawingChanged = (action) => action === "draw" && this.noteStroke();
    viewer.canvas.addEventListener("click", () => this.open && this.tool === "fill" && this.fillHere());
  }

  get nv() {
    return this.viewer.nv;
  }

  /** Begin with a mask, or with nothing. */
  async begin(bytes, classes, opacity) {
    const { nv } = this;
    nv.setDrawColormap(colours(classes));
    nv.setDrawOpacity(opacity);
    if (bytes) {
      nv.loadDrawing(await NVImage.loadFromUrl({ url: bytes, name: "drawing.nii" }));
    } else {
      nv.createEmptyDrawing();
    }
    this.open = true;
    this.begun = nv.drawBitmap.slice();
    this.before = nv.drawBitmap.slice();
    this.strokes = [];
    this.undone = [];
    this.unsaved = 0;
    this.choose(this.tool);
  }

  end() {
    this.open = false;
    this.strokes = this.undone = this.before = this.begun = undefined;
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
    this.nv.drawScene();
  }

  choose(tool, label = this.label, size = this.size) {
    [this.tool, this.label, this.size] = [tool, label, size];
    if (!this.open) {
      return;
    }
    const draws = tool === "brush" || tool === "erase" || tool === "outline";
    this.nv.opts.penSize = tool === "outline" ? 1 : size;
    this.nv.setDrawingEnabled(draws);
    if (draws) {
      this.nv.setPenValue(tool === "erase" ? 0 : label, tool === "outline");
    }
  }

  /** Remember what a stroke changed, compared with the drawing before it. */
  noteStroke() {
    const now = this.nv.drawBitmap;
    if (!this.open || !now) {
      return;
    }
    const places = [];
    for (let place = 0; place < now.length; place++) {
      if (now[place] !== this.before[place]) {
        places.push(place);
      }
    }
    if (places.length === 0) {
      return;
    }
    const at = Uint32Array.from(places);
    const stroke = { at, was: Uint8Array.from(at, (each) => this.before[each]) };
    stroke.is = Uint8Array.from(at, (each) => now[each]);
    this.strokes.push(stroke);
    if (this.strokes.length > MOST_STROKES) {
      this.strokes.shift();
    }
    this.undone = [];
    at.forEach((each, index) => (this.before[each] = stroke.is[index]));
    this.unsaved += 1;
    this.changed();
  }

  undo() {
    this.swap(this.strokes, this.undone, "was");
  }

  redo() {
    this.swap(this.undone, this.strokes, "is");
  }

  swap(from, to, values) {
    const stroke = this.open && from.pop();
    if (!stroke) {
      return;
    }
    stroke.at.forEach((each, index) => {
      this.before[each] = this.nv.drawBitmap[each] = stroke[values][index];
    });
    to.push(stroke);
    this.unsaved += 1;
    this.nv.refreshDrawing(true);
    this.changed();
  }

  /** Give the piece of one class that lies under the crosshair, within its slice, the chosen class. */
  fillHere() {
    const { size, voxel, axis } = this.viewer;
    const step = [1, size[0], size[0] * size[1]];
    const across = [0, 1, 2].filter((each) => each !== axis);
    const map = this.nv.drawBitmap;
    const start = voxel[0] * step[0] + voxel[1] * step[1] + voxel[2] * step[2];
    const was = map[start];
    if (was === this.label) {
      return;
    }
    const queue = [[voxel[across[0]], voxel[across[1]], start]];
    map[start] = this.label;
    while (queue.length > 0) {
      const [a, b, place] = queue.pop();
      for (const [da, db] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        const [na, nb] = [a + da, b + db];
        const next = place + da * step[across[0]] + db * step[across[1]];
        if (na >= 0 && nb >= 0 && na < size[across[0]] && nb < size[across[1]] && map[next] === was) {
          map[next] = this.label;
          queue.push([na, nb, next]);
        }
      }
    }
    this.nv.refreshDrawing(true);
    this.noteStroke();
  }

  /** Numbers of the slices of the picture that differ from what the drawing began with. */
  changedSlices() {
    const { size, axis } = this.viewer;
    const step = [1, size[0], size[0] * size[1]][axis];
    const changed = new Set();
    this.nv.drawBitmap.forEach((each, place) => {
      if (each !== this.begun[place]) {
        changed.add(Math.floor(place / step) % size[axis]);
      }
    });
    return [...changed];
  }

  /** The drawing as a NIfTI file on the grid of the scan as it lies on disk. */
  async bytes() {
    return this.nv.saveImage({ filename: "", isSaveDrawing: true, volumeByIndex: 0 });
  }
}
