// The hand on the picture: the chosen tool, a gesture under way, the brush's ring, and a cursor that keys move.

import { t } from "./i18n.js";
import { tracePath } from "./mask.js";
import { say } from "./messages.js";
import { TOOLS } from "./tools.js";

const STEP = 8; // canvas pixels that an arrow key moves the cursor; with Shift ten times as many

export class Painter {
  tool = "brush";
  shape = "inside"; // what a rectangle or lasso does
  width = 24; // of a stroke, in the picture's pixels
  gesture = null;
  pen = null; // where the mouse is over the picture, or the keyboard's cursor; in the picture's plane
  byKeys = false; // whether keys moved it there

  /** where: answers the area that can be painted on now, or null; done: called with what a gesture has added. */
  constructor(stage, { where, done, changed }) {
    Object.assign(this, { stage, where, done, changed });
  }

  get paints() {
    return this.tool in TOOLS && Boolean(this.where());
  }

  get hasWidth() {
    return this.tool === "brush" || this.tool === "eraser";
  }

  /** Begin a gesture; false where there is nothing to paint with or on, and the picture is moved instead. */
  begin(point) {
    const area = this.where();
    if (!area || !(this.tool in TOOLS)) return false;
    this.gesture = TOOLS[this.tool](point, { width: this.width, shape: this.shape, area });
    this.changed();
    return true;
  }

  move(point) {
    this.gesture?.move(point, this.stage.view.scale);
    this.changed();
  }

  end() {
    const operations = this.gesture?.finish() ?? [];
    this.gesture = null;
    if (operations.length) this.done(operations);
    else this.cancel();
  }

  cancel() {
    this.gesture = null;
    this.stage.forgetLive();
    this.changed();
  }

  hover(point) {
    if (this.byKeys && this.gesture) return; // a mouse that is touched does not spoil what the arrows draw
    this.pen = point;
    this.byKeys = false;
    this.changed();
  }

  /** The arrows move the cursor, and the tool with it. */
  moveByKeys(dx, dy, far) {
    const { view } = this.stage;
    if (!this.byKeys && !this.pen) this.pen = view.toPicture({ x: view.canvas.width / 2, y: view.canvas.height / 2 });
    this.byKeys = true;
    const step = ((far ? 10 : 1) * STEP * this.stage.density) / view.scale;
    const { left, top, width, height } = view.bounds;
    const within = (value, low, size) => Math.min(Math.max(value, low), low + size);
    this.pen = [within(this.pen[0] + dx * step, left, width), within(this.pen[1] + dy * step, top, height)];
    view.show(this.pen, 40 * this.stage.density);
    this.move(this.pen);
  }

  /** The pen goes down at the cursor, or up again: what a mouse's button does. */
  toggleByKeys() {
    if (this.gesture) {
      this.end();
      say(t("said.up"));
      return;
    }
    if (!this.pen) this.moveByKeys(0, 0, false);
    this.byKeys = true;
    const [x, y] = this.pen.map(Math.floor);
    if (this.begin(this.pen)) say(t("said.down", { x, y }));
  }

  /** The outline of a shape under way, and the brush's ring at its true size. */
  draw(context, view) {
    const { density } = this.stage;
    if (this.gesture?.outline) {
      tracePath(context, view, this.gesture.outline);
      context.closePath();
      twoTone(context, density, [6 * density, 4 * density]);
    }
    if (!this.pen || !this.paints) return;
    const { x, y } = view.toCanvas(this.pen);
    context.beginPath();
    if (this.hasWidth) context.arc(x, y, Math.max(1.5 * density, (this.width * view.scale) / 2), 0, 2 * Math.PI);
    if (this.byKeys || !this.hasWidth) crosshair(context, x, y, 9 * density);
    twoTone(context, density, []);
  }
}

/** A dark line upon a light one: seen on every picture. */
function twoTone(context, density, dash) {
  context.save();
  context.lineWidth = 3 * density;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.stroke();
  context.setLineDash(dash);
  context.lineWidth = 1.4 * density;
  context.strokeStyle = "#fff";
  context.stroke();
  context.restore();
}

function crosshair(context, x, y, arm) {
  context.moveTo(x - arm, y);
  context.lineTo(x + arm, y);
  context.moveTo(x, y - arm);
  context.lineTo(x, y + arm);
}
