// Which part of a picture the canvas shows: the picture's point (u, v) lies at (x + scale u, y + scale v), measured in
// the canvas's own pixels, of which a screen may have several to one of CSS.

const LARGEST = 40; // canvas pixels to one of the picture
const ENLARGED = 4; // at most so much is a small picture enlarged to fit

export class View {
  scale = 1;
  x = 0;
  y = 0;

  /** The rectangle of the picture's plane that is shown as a whole by `fit`. */
  bounds = { left: 0, top: 0, width: 1, height: 1 };
  canvas = { width: 1, height: 1 };

  toPicture({ x, y }) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toCanvas([u, v]) {
    return { x: this.x + this.scale * u, y: this.y + this.scale * v };
  }

  /** Where an area lies on the canvas, in whole pixels: left, top, width and height. Neighbours meet without a seam. */
  pixels({ left, top, width, height }) {
    const from = this.toCanvas([left, top]);
    const to = this.toCanvas([left + width, top + height]);
    const [x, y] = [Math.round(from.x), Math.round(from.y)];
    return [x, y, Math.round(to.x) - x, Math.round(to.y) - y];
  }

  /** Show all of the picture, in the middle of what `room` leaves free at the canvas's edges. */
  fit({ top, bottom, side }) {
    const { bounds, canvas } = this;
    const width = Math.max(1, canvas.width - 2 * side);
    const height = Math.max(1, canvas.height - top - bottom);
    this.scale = Math.min(width / bounds.width, height / bounds.height, ENLARGED);
    this.x = canvas.width / 2 - this.scale * (bounds.left + bounds.width / 2);
    this.y = top + height / 2 - this.scale * (bounds.top + bounds.height / 2);
  }

  /** Zoom so that the point of the picture under (x, y) stays where it is. */
  zoomAt(factor, { x, y }) {
    const whole = Math.min(this.canvas.width / this.bounds.width, this.canvas.height / this.bounds.height);
    const smallest = Math.min(whole / 4, 1);
    const scale = Math.min(Math.max(this.scale * factor, smallest), LARGEST);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#holdInside();
  }

  panBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#holdInside();
  }

  /** Move as little as is needed for a point of the picture to be seen, `margin` from the canvas's edges. */
  show(point, margin) {
    const { x, y } = this.toCanvas(point);
    const inside = (value, size) => Math.min(Math.max(value, margin), Math.max(margin, size - margin));
    this.panBy(inside(x, this.canvas.width) - x, inside(y, this.canvas.height) - y);
  }

  /** The part of `area` (in the picture's plane) that the canvas shows, or null. */
  visible(area) {
    const [u0, v0] = this.toPicture({ x: 0, y: 0 });
    const [u1, v1] = this.toPicture({ x: this.canvas.width, y: this.canvas.height });
    const left = Math.max(area.left, u0);
    const top = Math.max(area.top, v0);
    const width = Math.min(area.left + area.width, u1) - left;
    const height = Math.min(area.top + area.height, v1) - top;
    return width > 0 && height > 0 ? { left, top, width, height } : null;
  }

  /** The same view, as something to compare with and to store. */
  get key() {
    return [this.scale, this.x, this.y, this.canvas.width, this.canvas.height].join();
  }

  /** Some of the picture always stays in sight. */
  #holdInside() {
    const keep = 48;
    const { left, top, width, height } = this.bounds;
    const hold = (at, start, extent, size) => {
      const low = keep - (start + extent) * this.scale;
      const high = size - keep - start * this.scale;
      return Math.min(Math.max(at, low), high);
    };
    this.x = hold(this.x, left, width, this.canvas.width);
    this.y = hold(this.y, top, height, this.canvas.height);
  }
}
