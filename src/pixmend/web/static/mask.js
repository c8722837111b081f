// Draws the mask's operations into the view: what is seen of them, at the screen's resolution, whatever the picture's
// size. The server draws the same operations at the picture's own size (see operations.js).

import { renderMask } from "./api.js";
import { attempt } from "./messages.js";

const COLOUR = "#ff2f6e";
const MARGIN = 1024; // at most so much is drawn beyond the canvas, for what grows in from there
const REST = 5000; // milliseconds before a mask that did not come from the server is asked for again
const RASTER = 2048; // the longer side at which masks that only the server can draw are shown

/** Lies in the processor's memory, where pixels can be read; the layer's canvases are the graphics card's. */
const reader = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

export class MaskLayer {
  #hole = document.createElement("canvas");
  #grown = document.createElement("canvas");
  #scratch = document.createElement("canvas");
  #rasters = new Map(); // what only the server can draw: key -> canvas, or null while it is fetched
  #used = new Set(); // the keys of those that are part of the mask
  #drawn = null; // what #hole and #grown show
  #offset = 0; // so much is drawn beyond each edge of the canvas

  /** changed: called when a mask from the server came. */
  constructor(changed) {
    this.changed = changed;
  }

  /** Draw the mask and, fainter, what `grow` pixels of margin add to it. `live` is a stroke that still grows. */
  draw(context, view, picture, operations, { grow = 0, live = null } = {}) {
    const wanted = { view: view.key, picture: picture.id, operations, grow };
    const stale = !this.#drawn || Object.keys(wanted).some((name) => wanted[name] !== this.#drawn[name]);
    if (stale) this.#raster(view, picture, operations, grow);
    // A stroke only ever becomes longer: it is drawn over itself, and not everything before it again.
    if (live) this.#drawLive(view, picture, live, grow);
    this.#drawn = live ? { ...wanted, live } : wanted;
    context.save();
    clipTo(context, view, picture);
    context.globalAlpha = 0.28;
    if (grow > 0) context.drawImage(this.#grown, -this.#offset, -this.#offset);
    context.globalAlpha = grow > 0 ? 0.4 : 0.52;
    context.drawImage(this.#hole, -this.#offset, -this.#offset);
    context.restore();
  }

  /** Draw everything anew: after a stroke that was given up, or when a mask from the server came. */
  refresh() {
    this.#drawn = null;
  }

  #raster(view, picture, operations, grow) {
    const growing = operations.filter(({ op }) => op === "grow").map(({ pixels }) => Math.abs(pixels));
    const reach = growing.reduce((sum, pixels) => sum + pixels, Math.max(0, grow));
    this.#offset = Math.min(MARGIN, Math.ceil(reach * view.scale));
    const context = this.#fresh(this.#hole, view);
    this.#used.clear();
    for (const operation of operations) this.#apply(context, this.#shifted(view), picture, operation);
    for (const key of this.#rasters.keys()) if (!this.#used.has(key)) this.#rasters.delete(key);
    if (grow > 0) {
      this.#fresh(this.#grown, view).drawImage(this.#hole, 0, 0);
      this.#dilate(this.#grown, grow * view.scale);
    }
  }

  #drawLive(view, picture, live, grow) {
    this.#apply(this.#hole.getContext("2d"), this.#shifted(view), picture, live);
    if (grow <= 0 || live.erase) return;
    const wider = { ...live, width: live.width + 2 * grow };
    this.#apply(this.#grown.getContext("2d"), this.#shifted(view), picture, wider);
  }

  /** The view, as seen from the corner of the larger canvases. */
  #shifted(view) {
    return Object.assign(Object.create(view), { x: view.x + this.#offset, y: view.y + this.#offset });
  }

  #fresh(canvas, view) {
    canvas.width = view.canvas.width + 2 * this.#offset;
    canvas.height = view.canvas.height + 2 * this.#offset;
    return canvas.getContext("2d");
  }

  #apply(context, view, picture, operation) {
    const { op } = operation;
    if (op === "grow") {
      this.#grow(context, view, picture, operation.pixels);
      return;
    }
    context.save();
    clipTo(context, view, picture);
    context.fillStyle = context.strokeStyle = COLOUR;
    if (operation.erase) context.globalCompositeOperation = "destination-out";
    if (op === "stroke") drawStroke(context, view, operation);
    else if (op === "rectangle" || op === "lasso") fillShape(context, view, operation);
    else if (op === "invert") invert(context, view, picture);
    else if (op === "clear") context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    else this.#drawRaster(context, view, picture, operation);
    context.restore();
  }

  /** Grow by a square of side 2 n + 1, as the library does; to shrink is to grow what is not marked. */
  #grow(context, view, picture, pixels) {
    harden(context);
    if (pixels < 0) invert(context, view, picture);
    this.#dilate(context.canvas, Math.abs(pixels) * view.scale);
    context.save(); // nothing grows beyond the picture, from where it could come back
    context.globalCompositeOperation = "destination-in";
    context.fillRect(...extent(view, picture));
    context.restore();
    if (pixels < 0) invert(context, view, picture);
  }

  /** Dilate by a square of side 2 radius + 1: a run of copies each way, whose length doubles with each drawing. */
  #dilate(canvas, radius) {
    const reach = Math.min(Math.round(radius), MARGIN);
    const context = canvas.getContext("2d");
    context.save();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      context.globalCompositeOperation = "source-over";
      for (let length = 1; length < 2 * reach + 1; ) {
        const shift = Math.min(length, 2 * reach + 1 - length);
        context.drawImage(this.#copy(canvas), dx * shift, dy * shift);
        length += shift;
      }
      context.globalCompositeOperation = "copy";
      context.drawImage(this.#copy(canvas), -dx * reach, -dy * reach);
    }
    context.restore();
  }

  #copy(canvas) {
    this.#scratch.width = canvas.width;
    this.#scratch.height = canvas.height;
    this.#scratch.getContext("2d").drawImage(canvas, 0, 0);
    return this.#scratch;
  }

  #drawRaster(context, view, picture, operation) {
    const key = `${picture.id} ${JSON.stringify(operation)}`;
    this.#used.add(key);
    if (!this.#rasters.has(key)) {
      this.#rasters.set(key, null);
      attempt(() => fetchRaster(picture, operation)).then((raster) => {
        this.#rasters.set(key, raster);
        if (!raster) {
          setTimeout(() => {
            this.#rasters.delete(key);
            this.refresh();
            this.changed();
          }, REST);
        }
        this.refresh();
        this.changed();
      });
    }
    const raster = this.#rasters.get(key);
    if (!raster) return;
    context.imageSmoothingEnabled = view.scale * picture.width < 2 * raster.width;
    context.drawImage(raster, ...extent(view, picture));
  }
}

/** A round stroke through its points; one point is a disc. */
export function drawStroke(context, view, { points, width }) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = width * view.scale;
  tracePath(context, view, points.length === 1 ? [points[0], points[0]] : points);
  context.stroke();
}

/** The path through points of the picture. */
export function tracePath(context, view, points) {
  context.beginPath();
  points.forEach((point, i) => {
    const { x, y } = view.toCanvas(point);
    if (i) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
}

function fillShape(context, view, operation) {
  const { left, top, right, bottom } = operation;
  tracePath(context, view, operation.points ?? [[left, top], [right, top], [right, bottom], [left, bottom]]);
  context.fill("evenodd");
}

function invert(context, view, picture) {
  context.save();
  context.globalCompositeOperation = "xor";
  context.fillStyle = COLOUR;
  context.fillRect(...extent(view, picture));
  context.restore();
}

/** Let each pixel be marked or not: half-marked edges would grow into something wider. */
function harden(context) {
  const { width, height } = context.canvas;
  Object.assign(reader.canvas, { width, height });
  reader.drawImage(context.canvas, 0, 0);
  const image = reader.getImageData(0, 0, width, height);
  for (let i = 3; i < image.data.length; i += 4) {
    if (image.data[i] % 255 === 0) continue;
    image.data[i] = image.data[i] < 128 ? 0 : 255;
  }
  context.putImageData(image, 0, 0);
}

/** Where the picture lies, in whole pixels, so that no half-covered edge ever grows. */
const extent = (view, { left = 0, top = 0, width, height }) => view.pixels({ left, top, width, height });

function clipTo(context, view, picture) {
  context.beginPath();
  context.rect(...extent(view, picture));
  context.clip();
}

/** The mask of one operation as the server draws it: coloured where it is white, transparent elsewhere. */
async function fetchRaster(picture, operation) {
  const blob = await renderMask(picture.id, [operation]);
  const shrink = Math.min(1, RASTER / Math.max(picture.width, picture.height));
  const resizeWidth = Math.max(1, Math.round(picture.width * shrink));
  const resizeHeight = Math.max(1, Math.round(picture.height * shrink));
  const bitmap = await createImageBitmap(blob, { resizeWidth, resizeHeight });
  const canvas = document.createElement("canvas");
  canvas.width = resizeWidth;
  canvas.height = resizeHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) image.data[i + 3] = image.data[i]; // white is opaque, black is not
  context.putImageData(image, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = COLOUR;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}
