// The middle of the page: a canvas that shows a picture, upon it a result, as far as the divider uncovers it, and
// whatever a workspace draws over both.

import { t } from "./i18n.js";
import { Tiles } from "./tiles.js";
import { View } from "./view.js";

const ZOOM_STEP = 1.25;
const ROOM = { bar: 64, side: 20 }; // CSS pixels left free around a picture that is fitted: above, and elsewhere
const LOW = 1 / 6; // of the stage's height: more is not left free above

export class Stage {
  view = new View();
  spaceHeld = false; // dragging moves the picture
  spaceUsed = false; // and has done so since the bar was pressed
  #before = null;
  #after = null;
  #last = null; // what was seen in the same place before, until the picture comes
  #step = null; // a picture on the way: {image, place}
  #fitted = true; // until the user zooms or moves
  #drawing = false;
  #screen = null; // the density that the canvas was made for

  /** overlay(context, view): drawn last. */
  constructor(section, { overlay = () => {}, forgetLive = () => {} } = {}) {
    Object.assign(this, { section, overlay, forgetLive });
    this.canvas = section.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.divider = new Divider(section.querySelector(".divider"), this);
    this.share = section.querySelector(".zoom .share");
    new ResizeObserver(() => this.#resize()).observe(section);
    this.#watchDensity();
    this.low = section.querySelector(".low");
    new ResizeObserver(() => this.refit()).observe(this.low); // what is in it comes and goes
  }

  /** Canvas pixels to one of CSS: as the canvas is, which may lag behind the screen. */
  get density() {
    const { width, clientWidth } = this.canvas;
    return clientWidth ? width / clientWidth : screenDensity();
  }

  /** Where a mouse event is, in canvas pixels. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.density, y: (event.clientY - box.top) * this.density };
  }

  /** Show the picture at an address, {width, height}; null shows none. */
  show(base, size) {
    const place = { left: 0, top: 0, ...size };
    const last = this.#after ?? this.#before;
    this.#last = last && isSame(last.place, place) ? last : null;
    this.#before = base && this.#tiles(base, place, () => (this.#last = null));
    this.#after = this.#step = null;
    this.divider.hide();
    this.section.querySelector(".empty").hidden = Boolean(base);
    this.section.querySelector(".zoom").hidden = !base;
    if (base) this.bound(this.#before.place);
    this.invalidate();
  }

  /** Show a result upon it, at its place; null takes it away. A picture on the way stays until the result comes. */
  showResult(base, place) {
    const came = () => (this.#step = null);
    this.#after = base && this.#tiles(base, place, came);
    if (!base) came();
    this.bound(this.#after?.place ?? this.#before.place);
    this.invalidate();
  }

  /** Show a picture on the way, until a result or the picture itself is shown again. */
  showStep(image, place) {
    this.#step = { image, place };
    this.bound(place);
    this.invalidate();
  }

  get showsStep() {
    return this.#step !== null;
  }

  /** What its buttons and keys ask for, by name. */
  deeds = {
    "zoom-in": () => this.zoomBy(1),
    "zoom-out": () => this.zoomBy(-1),
    "zoom-fit": () => this.fit(),
    "zoom-actual": () => this.zoomToActual(),
  };

  fit() {
    const { density } = this;
    const top = Math.min(ROOM.bar, LOW * this.section.clientHeight);
    const bottom = this.low.offsetHeight + ROOM.side; // it has no height where all in it is hidden
    this.view.fit({ top: top * density, bottom: bottom * density, side: ROOM.side * density });
    this.#fitted = true;
    this.invalidate();
  }

  /** Fit again where the user has not chosen a view of his own. */
  refit() {
    if (this.#fitted) this.fit();
  }

  zoomBy(steps) {
    this.zoomAt(ZOOM_STEP ** steps, { x: this.view.canvas.width / 2, y: this.view.canvas.height / 2 });
  }

  /** One pixel of the picture to one of the screen's. */
  zoomToActual() {
    this.zoomAt(1 / this.view.scale, { x: this.view.canvas.width / 2, y: this.view.canvas.height / 2 });
  }

  zoomAt(factor, point) {
    this.view.zoomAt(factor, point);
    this.#fitted = false;
    this.invalidate();
  }

  /** Move the picture by CSS pixels. */
  panBy(dx, dy) {
    this.view.panBy(dx * this.density, dy * this.density);
    this.#fitted = false;
    this.invalidate();
  }

  /** Draw again, with the next frame. */
  invalidate() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #tiles(base, place, came = () => {}) {
    const draw = () => this.invalidate();
    return new Tiles(base, place, () => [came(), draw()], draw);
  }

  /** Have `place` be what is shown as a whole. */
  bound(place) {
    const same = isSame(this.view.bounds, place);
    this.view.bounds = place;
    if (!same) this.fit();
    else this.refit();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.section;
    if (!clientWidth || !clientHeight) return; // in a tab that is not shown
    const density = screenDensity();
    this.#screen = density;
    this.view.canvas = { width: Math.round(clientWidth * density), height: Math.round(clientHeight * density) };
    Object.assign(this.canvas, this.view.canvas);
    this.ground = null;
    this.refit();
    this.#draw(); // at once: a canvas whose size was set is empty
  }

  /** Zooming the page and moving it to another screen leave the stage's size as it was, but not its pixels. */
  #watchDensity() {
    const changed = () => {
      this.#resize();
      this.#watchDensity();
    };
    matchMedia(`(resolution: ${screenDensity()}dppx)`).addEventListener("change", changed, { once: true });
  }

  #draw() {
    if (this.#screen !== screenDensity()) this.#resize(); // where a browser tells of its change late
    const { context, view } = this;
    context.clearRect(0, 0, view.canvas.width, view.canvas.height);
    if (!this.#before) return;
    this.#drawGround();
    this.#last?.draw(context, view);
    this.#before.draw(context, view);
    if (this.#step) context.drawImage(this.#step.image, ...view.pixels(this.#step.place));
    if (this.#after) this.#drawAfter();
    context.save();
    this.overlay(context, view);
    context.restore();
    this.share.textContent = `${Math.round(100 * view.scale)}%`;
  }

  #drawAfter() {
    const { context, view } = this;
    context.save();
    const from = this.divider.place(view);
    context.beginPath();
    context.rect(from, 0, view.canvas.width - from, view.canvas.height);
    context.clip();
    this.#after.draw(context, view);
    context.restore();
  }

  /** A chequered ground: what is transparent shows. */
  #drawGround() {
    const { context, view } = this;
    this.ground ??= chequered(context, 8 * this.density);
    context.fillStyle = this.ground;
    context.fillRect(...view.pixels(view.bounds));
  }
}

const screenDensity = () => window.devicePixelRatio || 1;

const isSame = (one, other) => ["left", "top", "width", "height"].every((name) => one[name] === other[name]);

/** How far keys move the divider. */
const STEPS = {
  ArrowLeft: -0.02,
  ArrowDown: -0.02,
  ArrowRight: 0.02,
  ArrowUp: 0.02,
  PageDown: -0.1,
  PageUp: 0.1,
  Home: -1,
  End: 1,
};

/** The handle between before and after: a slider for the mouse, for fingers and for the arrow keys. */
class Divider {
  #at = 0.5; // of what is seen of the picture, from the left
  shown = false;

  constructor(element, stage) {
    this.element = element;
    this.stage = stage;
    element.addEventListener("pointerdown", (event) => element.setPointerCapture(event.pointerId));
    element.addEventListener("pointermove", (event) => {
      if (!element.hasPointerCapture(event.pointerId)) return;
      this.#move((stage.at(event).x - this.from) / (this.to - this.from));
    });
    element.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.#move(this.#at + step);
    });
  }

  show() {
    this.shown = true;
    this.element.hidden = false;
    this.#move(0.5);
  }

  hide() {
    this.shown = false;
    this.element.hidden = true;
    this.stage.invalidate();
  }

  toggle() {
    if (this.shown) this.hide();
    else this.show();
  }

  /** From which canvas column on the result is seen; the handle goes there. */
  place(view) {
    const { left, width } = view.bounds;
    this.from = Math.max(0, view.toCanvas([left, 0]).x);
    this.to = Math.min(view.canvas.width, view.toCanvas([left + width, 0]).x);
    if (!this.shown) return 0;
    const x = Math.round(this.from + this.#at * (this.to - this.from));
    this.element.style.setProperty("--at", `${x / this.stage.density}px`);
    return x;
  }

  #move(at) {
    this.#at = Math.min(Math.max(at, 0), 1);
    const share = Math.round(100 * this.#at);
    this.element.setAttribute("aria-valuenow", share);
    this.element.setAttribute("aria-valuetext", t("divider.at", { share }));
    this.stage.invalidate();
  }
}

function chequered(context, side) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 2 * side;
  const paint = tile.getContext("2d");
  paint.fillStyle = "#fff";
  paint.fillRect(0, 0, 2 * side, 2 * side);
  paint.fillStyle = "#cfd3da";
  paint.fillRect(0, 0, side, side);
  paint.fillRect(side, side, side, side);
  return context.createPattern(tile, "repeat");
}
