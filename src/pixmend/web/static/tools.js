// What becomes of a gesture: a tool is begun at a point of the picture, moved, and finished into operations. A mouse,
// a finger and the keyboard's cursor (painter.js) all drive the same tools.

import { clear, invert, lasso, rectangle, stroke } from "./operations.js";

const TRACE = 1.2; // canvas pixels between two points of a path: finer is not seen, and costs

/** What `shape` makes of an area: filled, taken out of the mask, or all but it filled. */
const areaOperations = (draw, shape) => {
  if (shape === "outside") return [clear(), draw(false), invert()];
  return [draw(shape === "erase")];
};

const rounded = ([u, v]) => [Math.round(u * 100) / 100, Math.round(v * 100) / 100];

class Path {
  constructor(point) {
    this.points = [rounded(point)];
  }

  /** Add a point unless it is so near to the last that nobody could see it. */
  move(point, scale) {
    const [u, v] = this.points.at(-1);
    if (Math.hypot(point[0] - u, point[1] - v) * scale >= TRACE) this.points.push(rounded(point));
  }
}

class Stroke extends Path {
  constructor(point, { width }, erase) {
    super(point);
    this.live = stroke(this.points, width, erase); // grows with the path
  }

  finish() {
    return [this.live];
  }
}

class Lasso extends Path {
  constructor(point, { shape }) {
    super(point);
    this.shape = shape;
  }

  get outline() {
    return this.points;
  }

  finish() {
    if (this.points.length < 3) return [];
    return areaOperations((erase) => lasso(this.points, erase), this.shape);
  }
}

/** Whole pixels only, and none beyond the area that can be painted on. */
class Rectangle {
  constructor(point, { shape, area }) {
    this.from = this.to = point;
    this.shape = shape;
    this.area = area;
  }

  move(point) {
    this.to = point;
  }

  get corners() {
    const { left, top, right, bottom } = rectangle(this.from, this.to, false);
    const { area } = this;
    const across = (u) => Math.min(Math.max(u, area.left), area.left + area.width);
    const down = (v) => Math.min(Math.max(v, area.top), area.top + area.height);
    return [
      [across(Math.floor(left)), down(Math.floor(top))],
      [across(Math.ceil(right)), down(Math.ceil(bottom))],
    ];
  }

  get outline() {
    const [[left, top], [right, bottom]] = this.corners;
    return [[left, top], [right, top], [right, bottom], [left, bottom]];
  }

  finish() {
    const [[left, top], [right, bottom]] = this.corners;
    if (right <= left || bottom <= top) return [];
    return areaOperations((erase) => rectangle([left, top], [right, bottom], erase), this.shape);
  }
}

/** Each tool that paints: `TOOLS[name](point, settings)` begins a gesture. */
export const TOOLS = {
  brush: (point, settings) => new Stroke(point, settings, false),
  eraser: (point, settings) => new Stroke(point, settings, true),
  rectangle: (point, settings) => new Rectangle(point, settings),
  lasso: (point, settings) => new Lasso(point, settings),
};
