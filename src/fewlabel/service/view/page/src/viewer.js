// The picture: NiiVue with one scan, masks over it, and a drawing.
import { MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";

const PLANES = [SLICE_TYPE.SAGITTAL, SLICE_TYPE.CORONAL, SLICE_TYPE.AXIAL];
const NAMES = ["Sagittal", "Coronal", "Axial"];

/**
 * A table of colours for masks of class indices; the index after the last class is that of voxels that nobody looked at.
 * Indices follow one another: with a gap NiiVue colours the background.
 */
export function colours(classes) {
  const all = [[0, 0, 0], ...classes.map((each) => each.colour), [140, 140, 140]];
  return {
    R: all.map((each) => each[0]),
    G: all.map((each) => each[1]),
    B: all.map((each) => each[2]),
    A: [0, ...classes.map(() => 255), 70],
    labels: ["", ...classes.map((each) => each.name), "not looked at"],
  };
}

export class Viewer {
  /** `moved` is called with what lies under the crosshair, `greys` when the window changes by dragging. */
  constructor(canvas, { moved, greys }) {
    this.canvas = canvas;
    this.masks = new Map();
    this.axis = 2;
    this.view = "plane";
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.34, 0.71, 0.91, 0.7],
      crosshairWidth: 0.25,
      // As on films: the patient's right is on the left.
      isRadiologicalConvention: true,
      show3Dcrosshair: true,
      isNearestInterpolation: true,
      dragAndDropEnabled: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      loadingText: "",
      logLevel: "error",
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarPadPixels: 4,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      // Undo is our own: see drawing.js.
      maxDrawUndoBitmaps: 1,
    });
    this.nv.onLocationChange = () => moved();
    this.nv.onIntensityChange = () => greys();
  }

  async attach() {
    await this.nv.attachToCanvas(this.canvas);
  }

  /** Show a scan alone; `about` is what the server says of it. */
  async open(bytes, about) {
    const image = await NVImage.loadFromUrl({ url: bytes, name: "scan.nii", colormap: "gray" });
    const { nv } = this;
    this.clear();
    [image.cal_min, image.cal_max] = about.window;
    nv.addVolume(image);
    this.image = image;
    // Which axis of the picture is the one across the slices of the file.
    this.axis = image.permRAS.findIndex((each) => Math.abs(each) - 1 === about.slice_axis);
    // Pictures do not say how they lie in a patient.
    nv.opts.isOrientationTextVisible = about.placed;
    this.setView(this.view);
    nv.scene.crosshairPos = nv.vox2frac(this.size.map((each) => Math.floor(each / 2)));
    nv.updateGLVolume();
    nv.onLocationChange();
  }

  /** Show nothing. */
  clear() {
    this.nv.closeDrawing();
    this.nv.setDrawingEnabled(false);
    for (const old of [...this.nv.volumes].reverse()) {
      this.nv.removeVolume(old);
    }
    this.masks.clear();
  }

  /** Show another channel of the scan, its grey values stretched over all that it has. */
  async changeImage(bytes) {
    const image = await NVImage.loadFromUrl({ url: bytes, name: "scan.nii", colormap: "gray" });
    Object.assign(this.image, { img: image.img, global_min: image.global_min, global_max: image.global_max });
    this.image.hdr.datatypeCode = image.hdr.datatypeCode;
    this.window = [image.robust_min, image.robust_max];
  }

  /** Put a mask over the scan, or take it away (no bytes). */
  async setMask(kind, bytes, table, opacity) {
    const old = this.masks.get(kind);
    if (old) {
      this.nv.removeVolume(old);
      this.masks.delete(kind);
    }
    if (bytes) {
      const mask = await NVImage.loadFromUrl({ url: bytes, name: `${kind}.nii`, opacity });
      mask.setColormapLabel(table);
      this.nv.addVolume(mask);
      this.masks.set(kind, mask);
    }
  }

  setOpacity(kind, opacity) {
    const place = this.nv.volumes.indexOf(this.masks.get(kind));
    if (place > 0) {
      this.nv.setOpacity(place, opacity);
    }
  }

  /** `plane` across the slices, `planes` all three, or `solid`. */
  setView(view) {
    this.view = view;
    const kinds = { plane: PLANES[this.axis], planes: SLICE_TYPE.MULTIPLANAR, solid: SLICE_TYPE.RENDER };
    this.nv.setSliceType(kinds[view]);
  }

  get planeName() {
    return NAMES[this.axis];
  }

  /** Voxels along the axes of the picture: to the right, to the front, upwards. */
  get size() {
    return this.nv.back.dims.slice(1, 4);
  }

  get voxel() {
    return [...this.nv.frac2vox(this.nv.scene.crosshairPos)];
  }

  /** The voxel under the crosshair by the axes of the file. */
  get fileVoxel() {
    const place = [0, 0, 0];
    this.voxel.forEach((each, axis) => {
      place[Math.abs(this.image.permRAS[axis]) - 1] = this.fileNumber(each, axis);
    });
    return place;
  }

  /** The number of a slice in the file, by its number in the picture. */
  fileNumber(number, axis = this.axis) {
    return this.image.permRAS[axis] > 0 ? number : this.size[axis] - 1 - number;
  }

  /** Go to a voxel by the axes of the picture. */
  set voxel(place) {
    this.nv.scene.crosshairPos = this.nv.vox2frac(place);
    this.nv.drawScene();
    this.nv.onLocationChange();
  }

  get slice() {
    return this.voxel[this.axis];
  }

  set slice(wanted) {
    const place = this.voxel;
    place[this.axis] = Math.min(Math.max(wanted, 0), this.size[this.axis] - 1);
    this.voxel = place;
  }

  get grey() {
    return this.image.getValue(...this.voxel);
  }

  /** Grey values shown as black and as white. */
  get window() {
    return [this.image.cal_min, this.image.cal_max];
  }

  set window([low, high]) {
    [this.image.cal_min, this.image.cal_max] = [low, high];
    this.nv.updateGLVolume();
  }

  get range() {
    return [this.image.global_min, this.image.global_max];
  }
}
