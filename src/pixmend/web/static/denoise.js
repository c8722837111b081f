// The workspace "Denoise": a picture, how much noise is found in it or said to be, and the picture without it.

import * as api from "./api.js";
import { number, onLanguage, t } from "./i18n.js";
import { findJob, Runner } from "./jobs.js";
import { attempt, say } from "./messages.js";
import { watchPointers } from "./pointers.js";
import { findPicture, store, stored } from "./session.js";
import { read, write } from "./settings.js";
import { Stage } from "./stage.js";

const STORED = "denoise";

export class Denoise {
  changed = () => {}; // set by the page
  picture = null;
  job = null; // the last that is done

  /** repair(picture): called with a result that is to be repaired next. */
  constructor(root, repair) {
    Object.assign(this, { root, repair });
    this.form = root.querySelector("form");
    this.found = root.querySelector(".found");
    this.stage = new Stage(root.querySelector(".stage"));
    this.runner = new Runner(root.querySelector(".action"), {
      asking: () => this.#update(),
      changed: () => this.#update(),
      ended: (job) => this.#ended(job),
    });
    watchPointers(this.stage);
    this.form.addEventListener("input", (event) => {
      if (event.target.name === "level") this.form.elements.find.checked = false; // who sets it, knows it
      this.#update();
    });
    onLanguage(() => this.#update());
    this.#update();
  }

  configure() {}

  /** Find again what this tab had before it was reloaded. */
  async restore() {
    const kept = stored(STORED);
    if (!kept?.picture) return;
    await findPicture(STORED, kept.picture);
    const job = await attempt(() => findJob(kept, kept.picture));
    if (this.picture) return; // one was opened meanwhile
    this.open(kept.picture);
    write(this.form, kept.settings);
    if (job) this.runner.follow(job);
  }

  open(picture) {
    this.runner.leave();
    Object.assign(this, { picture, job: null });
    this.stage.show(api.pictureUrl(picture.id), { width: picture.width, height: picture.height });
    this.#update();
  }

  get size() {
    return this.picture;
  }

  get download() {
    if (!this.picture) return null;
    return api.fileUrl(this.job ? api.resultUrl(this.job.id, 0) : api.pictureUrl(this.picture.id));
  }

  /** The addresses of what is shown. */
  get needed() {
    if (!this.picture) return [];
    return [api.pictureUrl(this.picture.id), ...(this.job ? [api.pixelUrl(api.resultUrl(this.job.id, 0))] : [])];
  }

  async act(name) {
    const { stage } = this;
    const deeds = {
      ...stage.deeds,
      run: () => this.#run(),
      repair: async () => this.repair(await api.keepResult(this.job.id, 0)),
      compare: () => this.job && stage.divider.toggle(),
      settings: () => this.#toggleSettings(),
    };
    if (name in deeds) await attempt(async () => deeds[name]());
  }

  async #run() {
    if (!this.picture || this.runner.busy) return;
    this.#toggleSettings(false);
    const { find, level } = read(this.form);
    await this.runner.run(() => api.startDenoising({ picture: this.picture.id, level: find ? null : level }));
  }

  #ended(job) {
    if (job.state === "done") {
      this.job = job;
      const [{ level, width, height }] = job.results;
      this.form.elements.level.value = level;
      this.stage.showResult(api.resultUrl(job.id, 0), { left: 0, top: 0, width, height });
      this.stage.divider.show();
      say(t("said.denoised", { level: number(level, 3), time: job.seconds.toFixed(1) }));
    }
    this.#update();
  }

  #toggleSettings(open = !this.root.querySelector(".panel").classList.contains("open")) {
    this.root.querySelector(".panel").classList.toggle("open", open);
    this.root.querySelector(".toggle").setAttribute("aria-expanded", String(open));
  }

  #update() {
    const { level } = this.form.elements;
    const { busy } = this.runner;
    level.nextElementSibling.textContent = number(level.valueAsNumber, 3);
    const told = this.job?.results[0].level;
    this.found.textContent = this.job ? t("level.found", { level: number(told, 3) }) : t("level.hint");
    this.root.querySelector("[data-do=run]").disabled = !this.picture;
    this.root.querySelector("[data-do=repair]").hidden = !this.job || busy;
    this.stage.canvas.classList.add("resting");
    const { job, asked } = this.runner.kept;
    const kept = this.job && !busy ? this.job.id : job; // what is shown, and not a run that was cancelled
    if (this.picture) store(STORED, { picture: this.picture, job: kept, asked, settings: read(this.form) });
    this.changed();
  }
}
