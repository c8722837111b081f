// The mask is a list of vector operations in the picture's pixels; pixel (0, 0) covers [0, 1) x [0, 1). The server
// draws them at the picture's own size; the page draws the same into its view (mask.js). Nothing is lost in between.

import { maskUrl, pictureUrl } from "./api.js";

export const stroke = (points, width, erase) => ({ op: "stroke", points, width, erase });
export const lasso = (points, erase) => ({ op: "lasso", points, erase });
export const uploaded = (mask) => ({ op: "uploaded", mask });
export const kind = (name, seed) => ({ op: "kind", kind: name, seed });
export const alpha = () => ({ op: "alpha" });
export const invert = () => ({ op: "invert" });
export const grow = (pixels) => ({ op: "grow", pixels });
export const clear = () => ({ op: "clear" });

/** The rectangle between two corners, in any order. */
export const rectangle = ([x0, y0], [x1, y1], erase) => ({
  op: "rectangle",
  left: Math.min(x0, x1),
  top: Math.min(y0, y1),
  right: Math.max(x0, x1),
  bottom: Math.max(y0, y1),
  erase,
});

/** What was drawn by hand, so many pixels further to the right and down. */
export function moved({ points, left, right, top, bottom, ...rest }, dx, dy) {
  if (rest.op === "rectangle") return { ...rest, left: left + dx, right: right + dx, top: top + dy, bottom: bottom + dy };
  return points ? { ...rest, points: points.map(([u, v]) => [u + dx, v + dy]) } : rest;
}

/** Whether an operation was drawn by hand, and so may be less exact than what it is to cover. */
export const isDrawn = ({ op }) => op === "stroke" || op === "lasso" || op === "rectangle";

/** Whether anything of what was drawn by hand is left since the mask was cleared. */
export const holdsDrawn = (operations) => {
  return operations.slice(operations.findLastIndex(({ op }) => op === "clear") + 1).some(isDrawn);
};

/** Whether the list marks anything at all, as far as that shows without drawing it. */
export function marksAnything(operations) {
  let marked = false;
  for (const operation of operations) {
    if (operation.op === "clear") marked = false;
    else if (operation.op === "invert") marked = true;
    else if (operation.op !== "grow" && !operation.erase) marked = true;
  }
  return marked;
}

/**
 * What was done, as a list that undo and redo walk along without end. An entry is either `{picture}`, from which on
 * another picture is painted on, or `{operations}`, what one gesture added to the mask of the picture before it. So
 * undo also leads back over a result that was kept, or over a picture that was opened, to the mask that was there.
 */
export class History {
  past = [];
  future = [];

  /** The picture that is painted on, or null before the first; and its mask: a new list after every change. */
  picture = null;
  operations = [];

  constructor(changed) {
    this.changed = changed;
  }

  add(entry) {
    this.past.push(entry);
    this.future = [];
    this.#update();
  }

  /** Take up what was stored. */
  restore({ past, future }) {
    Object.assign(this, { past, future });
    this.#update();
  }

  /** The addresses of the pictures and of the uploaded masks that undo and redo can lead to. */
  get needed() {
    return [...this.past, ...this.future].flatMap(({ picture, operations }) => {
      if (picture) return [pictureUrl(picture.id)];
      return operations.filter(({ op }) => op === "uploaded").map(({ mask }) => maskUrl(mask));
    });
  }

  get canUndo() {
    return this.past.length > 1;
  }

  get canRedo() {
    return this.future.length > 0;
  }

  undo() {
    if (this.canUndo) this.future.push(this.past.pop());
    this.#update();
  }

  redo() {
    if (this.canRedo) this.past.push(this.future.pop());
    this.#update();
  }

  #update() {
    const at = this.past.findLastIndex((entry) => entry.picture);
    this.picture = this.past[at]?.picture ?? null;
    this.operations = this.past.slice(at + 1).flatMap((entry) => entry.operations);
    this.changed();
  }
}
