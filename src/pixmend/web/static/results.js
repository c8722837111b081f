// The strip of candidates: what was there before, and what the job has made of it so far. One of them is shown.

import { pictureUrl, pixelUrl, resultUrl, viewUrl } from "./api.js";
import { onLanguage, t } from "./i18n.js";

const THUMBNAIL = 152; // pixels of the shorter side, two for one of CSS
const LONGEST = 1800; // and of the longer, however narrow the picture is

const NOTHING = { left: 0, top: 0, right: 0, bottom: 0 };

/** Where a picture that goes beyond another by so many pixels lies, in the plane of the other. */
export function placeOn({ width, height }, { left, top, right, bottom }) {
  return { left: 0 - left, top: 0 - top, width: width + left + right, height: height + top + bottom };
}

export class Results {
  job = null;
  shown = -1; // the candidate that is shown; -1 for the picture as it was
  added = NOTHING; // by how many pixels a result goes beyond the picture

  /** element: the workspace's `.review`; changed: called when another candidate is to be shown. */
  constructor(element, changed) {
    Object.assign(this, { element, changed });
    this.strip = element.querySelector(".strip");
    onLanguage(() => this.#build());
  }

  /** Take up a job's results, as far as there are any. */
  update(job, picture) {
    const fresh = job.id !== this.job?.id;
    const grown = job.results.length !== this.job?.results.length;
    if (fresh) this.shown = -1;
    Object.assign(this, { job, picture });
    if (fresh || grown) this.#build();
  }

  /** Forget them; those to come go beyond the picture by `added`. */
  clear(added = NOTHING) {
    Object.assign(this, { job: null, shown: -1, added });
    this.#build();
  }

  /** Show a candidate, or what was there before. */
  select(index) {
    this.shown = Math.min(index, (this.job?.results.length ?? 0) - 1);
    this.#mark();
    this.changed();
  }

  /** The address of what is shown, or null for what was there before. */
  get base() {
    return this.shown < 0 ? null : resultUrl(this.job.id, this.shown);
  }

  /** The addresses of a pixel of each. */
  get needed() {
    return (this.job?.results ?? []).map((_, i) => pixelUrl(resultUrl(this.job.id, i)));
  }

  #build() {
    const results = this.job?.results ?? [];
    this.element.hidden = results.length === 0;
    if (!results.length) {
      this.strip.replaceChildren();
      return;
    }
    const before = this.#button(-1, pictureUrl(this.picture.id), this.picture, t("before"));
    const after = results.map((result, i) => {
      return this.#button(i, resultUrl(this.job.id, i), result, t("candidate", { n: i + 1 }));
    });
    const focused = this.strip.contains(document.activeElement) && document.activeElement.dataset.index;
    this.strip.replaceChildren(before, ...after);
    if (focused) this.strip.querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
    this.#mark();
  }

  #button(index, base, { width, height }, label) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.index = index;
    button.setAttribute("aria-label", label);
    const image = new Image();
    image.alt = "";
    image.loading = "lazy"; // the result itself, large, is asked for before it
    const scale = Math.min(1, THUMBNAIL / Math.min(width, height), LONGEST / Math.max(width, height));
    image.src = viewUrl(base, { left: 0, top: 0, width, height, scale });
    const text = document.createElement("span");
    text.textContent = index < 0 ? label : index + 1;
    button.append(image, text);
    button.addEventListener("click", () => this.select(index));
    return button;
  }

  #mark() {
    for (const button of this.strip.children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === this.shown));
    }
  }
}
