// The workspace "Repair": a picture, the mask over it, the job that fills it, and the candidates that come of it.

import * as api from "./api.js";
import { onLanguage, percent, t } from "./i18n.js";
import { findJob, Runner } from "./jobs.js";
import { MaskLayer } from "./mask.js";
import { addOperation, downloadMask, restoreMargin, uploadMask } from "./masking.js";
import { attempt, PageError, say } from "./messages.js";
import { History, marksAnything, moved } from "./operations.js";
import { Painter } from "./painter.js";
import { watchPointers } from "./pointers.js";
import { placeOn, Results } from "./results.js";
import { findPicture, store, stored } from "./session.js";
import { check, fillRequest, limitTo, offerChoices, read, write } from "./settings.js";
import { Stage } from "./stage.js";
import { ToolBar } from "./toolbar.js";

const STORED = "repair";
const NOTHING = []; // a mask that has not begun

export class Repair {
  changed = () => {}; // set by the page, which shows the picture's name and its download
  keeping = false; // whether a result is about to become the picture

  constructor(root) {
    this.root = root;
    this.form = root.querySelector("form");
    this.history = new History(() => this.#historyChanged());
    this.stage = new Stage(root.querySelector(".stage"), {
      overlay: (context, view) => this.#drawOverlay(context, view),
      forgetLive: () => this.mask.refresh(),
    });
    this.mask = new MaskLayer(() => this.stage.invalidate());
    this.painter = new Painter(this.stage, {
      where: () => this.#paintable,
      done: (operations) => attempt(() => this.#painted(operations)),
      changed: () => this.stage.invalidate(),
    });
    this.results = new Results(root.querySelector(".review"), () => this.#showResult());
    this.runner = new Runner(root.querySelector(".action"), {
      asking: () => this.#update(),
      lost: () => this.#showResult(), // instead of what it looked like on its way
      changed: (job) => this.#jobChanged(job),
      step: (step) => this.#showStep(step),
      ended: (job) => this.#jobEnded(job),
    });
    this.tools = new ToolBar(root, this.painter, () => this.#update());
    watchPointers(this.stage, this.painter);
    this.form.addEventListener("input", () => this.#formChanged());
    root.querySelector("#mask-file").addEventListener("change", (event) => {
      attempt(() => this.#canMark && uploadMask(event.target, this.history, this.form));
    });
    onLanguage(() => this.about && offerChoices(this.form, this.about));
    this.#update();
  }

  /** Take up what the server offers. */
  configure(about) {
    this.about = about;
    limitTo(this.form, about);
    offerChoices(this.form, about);
    const { before, ...settings } = stored("settings") ?? { quality: "balanced" };
    write(this.form, settings);
    if (before) this.form.elements.grow.dataset.before = before;
    this.#formChanged();
  }

  /** Find again what this tab had before it was reloaded. */
  async restore() {
    const kept = stored(STORED);
    if (!kept?.past.length) return;
    const { picture } = kept.past.findLast((entry) => entry.picture);
    await findPicture(STORED, picture);
    const job = await attempt(() => findJob(kept, picture));
    if (this.history.picture) return; // one was opened meanwhile
    this.history.restore(kept);
    this.tools.fitTo(picture, kept.width);
    if (kept.tool) this.tools.choose(kept.tool);
    if (!job) return;
    this.results.clear(kept.added);
    this.runner.follow(job);
    this.results.select(kept.shown);
  }

  /** A picture was opened: undo leads back to the one before. */
  open(picture) {
    this.runner.leave();
    if (this.painter.gesture) this.painter.cancel(); // it is of the picture before
    this.results.clear();
    this.history.add({ picture });
    this.tools.fitTo(picture);
    this.form.elements.grow.value ||= "3";
  }

  /** What can be downloaded now: the address of what is shown, or null. */
  get download() {
    const { picture } = this.history;
    return picture && api.fileUrl(this.results.base ?? api.pictureUrl(picture.id));
  }

  get picture() {
    return this.history.picture;
  }

  /** How large what is shown is: {width, height}. */
  get size() {
    return this.#seen;
  }

  /** The addresses of all that undo, redo or the strip can lead to. */
  get needed() {
    return [...this.history.needed, ...this.results.needed];
  }

  /** Do what a button or a key asks for. */
  async act(name) {
    const { history, stage, painter } = this;
    const deeds = {
      ...stage.deeds,
      undo: () => this.#back(),
      redo: () => this.#canMark && history.redo(),
      "mask-upload": () => this.root.querySelector("#mask-file").click(),
      "mask-download": () => downloadMask(history),
      dice: () => this.#setSeed(Math.floor(Math.random() * 1e6)),
      run: () => {
        if (painter.gesture) painter.end(); // what is under way belongs to the mask
        return this.#fill();
      },
      extend: () => this.#extend(),
      others: () => this.#others(),
      keep: () => {
        if (painter.gesture) painter.end(); // a stroke under way goes with it: its end is what keeps the result
        return this.#keep();
      },
      compare: () => this.#compare(),
      escape: () => (painter.gesture ? painter.cancel() : this.results.job && this.results.select(-1)),
      settings: () => this.tools.toggleSettings(),
    };
    await attempt(async () => {
      if (name in deeds) await deeds[name]();
      else if (this.#canMark) addOperation(name, history, this.form);
    });
  }

  /** Whether the mask, which is seen, can be changed. */
  get #canMark() {
    return this.#paintable !== null && this.results.shown < 0;
  }

  /** Where something can be painted, in the plane of the view, or null: on the picture, or on a result upon it. */
  get #paintable() {
    const { picture } = this.history;
    return picture && !this.#busy ? this.#seen : null;
  }

  get #busy() {
    return this.runner.busy || this.keeping;
  }

  /** Where what is shown lies. */
  get #seen() {
    const { picture } = this.history;
    return this.results.shown < 0 ? { left: 0, top: 0, ...picture } : placeOn(picture, this.results.added);
  }

  // ------------------------------------------------------------------------------------------- jobs and results

  async #fill() {
    if (this.#busy) return;
    const { picture, operations } = this.history;
    if (!picture) return;
    if (!marksAnything(operations)) throw new PageError(t("error.unmarked"));
    check(this.form);
    this.#begin();
    const request = { picture: picture.id, operations, ...fillRequest(read(this.form)) };
    await this.runner.run(() => api.startFill(request));
  }

  async #extend() {
    if (this.#busy) return;
    check(this.form);
    const { left, right, top, bottom, ...values } = read(this.form);
    const sides = { left: left ?? 0, right: right ?? 0, top: top ?? 0, bottom: bottom ?? 0 };
    if (!Object.values(sides).some((side) => side)) throw new PageError(t("error.sides"));
    const { blur, grow, ...chosen } = fillRequest(values); // there is no mask to soften or grow
    this.#begin(sides);
    const request = { picture: this.history.picture.id, ...sides, ...chosen };
    await this.runner.run(() => api.startExtension(request));
  }

  /** The same again, with seeds that were not used yet. */
  async #others() {
    const { kind, results } = this.results.job;
    this.#setSeed((this.form.elements.seed.valueAsNumber || 0) + results.length);
    if (kind !== "extension") return this.#fill();
    write(this.form, this.results.added); // which a reload has forgotten
    return this.#extend();
  }

  #begin(added) {
    // Where the button that was pressed goes away or rests meanwhile, Fill has the focus, and Cancel that takes its place.
    if (document.activeElement?.matches("[data-do]")) this.runner.button.focus({ preventScroll: true });
    if (this.painter.gesture) this.painter.cancel(); // a pen that is down while Extend is pressed
    this.results.clear(added);
    this.#showResult();
    this.tools.closeSettings();
  }

  #setSeed(seed) {
    this.form.elements.seed.value = seed;
    this.#formChanged();
  }

  #jobChanged(job) {
    this.results.update(job, this.history.picture);
    this.#update();
  }

  /** Show the first candidate on its way, unless a picture that was asked for before is still to come. */
  #showStep({ url, candidate }) {
    if (candidate > 0 || this.loading || this.results.shown >= 0) return;
    this.loading = Object.assign(new Image(), { src: url });
    const place = placeOn(this.history.picture, this.results.added);
    const done = () => (this.loading = null);
    this.loading.decode().then(() => {
      if (this.runner.busy && this.results.shown < 0) this.stage.showStep(this.loading, place);
    }).then(done, done);
  }

  #jobEnded(job) {
    if (job.state === "done") say(t("said.done", { share: percent(job.mask_share), time: job.seconds.toFixed(1) }));
    if (this.results.shown < 0) this.results.select(job.results.length ? 0 : -1);
    this.#update();
  }

  #showResult() {
    if (!this.history.picture) return;
    this.stage.showResult(this.results.base, placeOn(this.history.picture, this.results.added));
    if (this.results.shown < 0) {
      this.stage.divider.hide();
      this.#showSides();
    }
    this.#update();
  }

  #compare() {
    if (this.results.shown >= 0) this.stage.divider.toggle();
    this.#update();
  }

  /** What is shown becomes the picture that is painted on, with what was painted on it: the very same samples. */
  async #keep(...operations) {
    const { job, shown } = this.results;
    if (shown < 0 || this.#busy) return;
    this.keeping = true;
    const picture = await api.keepResult(job.id, shown).finally(() => (this.keeping = false));
    if (this.results.job !== job) return; // another picture was opened meanwhile
    this.history.add({ picture });
    if (operations.length) this.history.add({ operations });
    this.stage.canvas.focus({ preventScroll: true }); // the button that was pressed is gone
    say(t("said.kept"));
  }

  /** A gesture is over. Who paints on a result goes on with it. */
  async #painted(operations) {
    const { left, top } = this.#seen;
    if (this.results.shown < 0) this.history.add({ operations });
    else await this.#keep(...operations.map((each) => moved(each, -left, -top)));
  }

  /** Undo: from a result back to the mask, else the last step. */
  #back() {
    if (this.results.shown >= 0) this.results.select(-1);
    else if (!this.#busy) this.history.undo();
  }

  // ------------------------------------------------------------------------------------------------ what is seen

  #historyChanged() {
    const { picture, operations } = this.history;
    if (picture.id !== this.seen) {
      this.seen = picture.id;
      write(this.form, { left: 0, right: 0, top: 0, bottom: 0 }); // they were for the picture before
      this.results.clear();
      this.runner.leave();
      this.stage.show(api.pictureUrl(picture.id), { width: picture.width, height: picture.height });
    }
    if (!marksAnything(operations)) restoreMargin(this.form);
    this.#keepSettings(); // with the margin, which a mask may have set
    this.stage.invalidate();
    this.#update();
  }

  #drawOverlay(context, view) {
    const { picture, operations } = this.history;
    const live = this.painter.gesture?.live ?? null;
    const grow = read(this.form).grow ?? 0;
    if (this.results.shown >= 0) {
      const result = { id: this.results.base, ...this.#seen };
      if (live) this.mask.draw(context, view, result, NOTHING, { grow, live });
    } else if (!this.stage.showsStep) {
      this.mask.draw(context, view, picture, operations, { grow, live });
    }
    this.painter.draw(context, view);
  }

  #formChanged() {
    const { quality, steps } = this.form.elements;
    steps.placeholder = this.about.qualities.find(({ name }) => name === quality.value)?.calls ?? "";
    this.#keepSettings();
    this.#showSides();
    this.stage.invalidate();
    this.#update();
  }

  #keepSettings() {
    const { left, right, top, bottom, ...settings } = read(this.form); // not the sides: they are for this picture alone
    store("settings", { ...settings, before: this.form.elements.grow.dataset.before });
  }

  /** Chequered, what the canvas would be extended by is shown. */
  #showSides() {
    const { picture } = this.history;
    if (picture && this.results.shown < 0) this.stage.bound(placeOn(picture, read(this.form)));
  }

  /** Enable what can be done now, keep what a reload needs, and tell the page. */
  #update() {
    this.tools.update({
      undo: this.results.shown >= 0 || (this.history.canUndo && !this.#busy),
      redo: this.history.canRedo && this.#canMark,
      paint: this.#paintable !== null,
      mark: this.#canMark,
      busy: this.#busy,
      picture: this.history.picture,
      marked: marksAnything(this.history.operations),
      shown: this.results.shown >= 0,
      comparing: this.stage.divider.shown,
    });
    this.#keepForReload();
    this.changed();
  }

  #keepForReload() {
    const { past, future } = this.history;
    if (!past.length) return;
    const { shown, added } = this.results;
    const kept = store(STORED, { past, future, ...this.runner.kept, shown, added, width: this.painter.width, tool: this.painter.tool });
    if (!kept && !this.warned) say(t("said.unkept"));
    this.warned = !kept;
  }
}
