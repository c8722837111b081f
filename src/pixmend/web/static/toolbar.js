// The buttons around the stage: which tool is chosen, how broad its stroke is, and what can be done just now.

import { number, onLanguage, t } from "./i18n.js";

const BROADEST = 2000; // pixels of the picture

export class ToolBar {
  #broadest = 200;

  constructor(root, painter, changed) {
    Object.assign(this, { root, painter, changed });
    this.slider = root.querySelector("#width");
    this.context = root.querySelector(".context");
    this.panel = root.querySelector(".panel");
    for (const button of root.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.choose(button.dataset.tool));
    }
    for (const radio of root.querySelectorAll("[name=shape]")) {
      radio.addEventListener("change", () => (painter.shape = radio.value));
    }
    this.slider.addEventListener("input", () => this.setWidth(this.#broadest ** (this.slider.valueAsNumber / 100)));
    onLanguage(() => this.setWidth(painter.width));
  }

  choose(tool) {
    this.painter.tool = tool;
    this.changed();
    this.painter.changed();
  }

  /** Set how broad strokes are, in the picture's pixels. The slider is logarithmic: fine where strokes are fine. */
  setWidth(width) {
    const { painter } = this;
    painter.width = Math.min(Math.max(width < 20 ? Math.round(width * 2) / 2 : Math.round(width), 1), this.#broadest);
    this.slider.value = (100 * Math.log(painter.width)) / Math.log(this.#broadest);
    const text = t("width.pixels", { n: number(painter.width, 1) });
    this.slider.setAttribute("aria-valuetext", text);
    this.slider.nextElementSibling.textContent = text;
    painter.changed();
  }

  /** A step broader (1) or finer (-1). */
  stepWidth(direction) {
    const { width } = this.painter;
    this.setWidth(width + direction * Math.max(1, Math.round(0.12 * width)));
  }

  /** Choose widths that fit a picture. */
  fitTo({ width, height }, stroke = Math.min(Math.max(4, Math.round(Math.max(width, height) / 24)), width, height)) {
    this.#broadest = Math.min(BROADEST, Math.max(16, Math.max(width, height) / 2));
    this.setWidth(stroke);
  }

  toggleSettings(open = !this.panel.classList.contains("open")) {
    this.panel.classList.toggle("open", open);
    this.panel.querySelector(".toggle").setAttribute("aria-expanded", String(open));
  }

  closeSettings() {
    this.toggleSettings(false);
  }

  /** Show what is chosen, and enable what is possible. */
  update({ undo, redo, paint, mark, busy, picture, marked, shown, comparing }) {
    const { root, painter } = this;
    const can = { undo, redo, "mask-download": marked, others: !busy, keep: shown && !busy, compare: shown };
    can.run = Boolean(picture); // Cancel is in its place while a job runs
    can.extend = Boolean(picture) && !busy;
    for (const name of ["invert", "clear", "grow", "shrink", "kind", "alpha", "mask-upload"]) can[name] = mark;
    for (const [name, possible] of Object.entries(can)) root.querySelector(`[data-do="${name}"]`).disabled = !possible;
    root.querySelector("[data-do=alpha]").hidden = !(picture?.alpha || picture?.lacking);
    root.querySelector("[data-do=compare]").setAttribute("aria-pressed", String(comparing));
    for (const button of root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === painter.tool));
      button.disabled = !picture;
    }
    const shapes = painter.tool === "rectangle" || painter.tool === "lasso";
    this.context.hidden = !paint || !(shapes || painter.hasWidth);
    this.context.querySelector(".width").hidden = !painter.hasWidth;
    this.context.querySelector(".shape").hidden = !shapes;
    const canvas = root.querySelector("canvas");
    canvas.classList.toggle("resting", !painter.paints);
    canvas.classList.toggle("ring", painter.paints && painter.hasWidth);
  }
}
