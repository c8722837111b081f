// A job of the server from the click to its end: asked for (again and again while the queue is full), followed by
// events, cancelled, and found again after a reload. Each workspace has one runner, and one job at a time.

import { ApiError, Unreachable, cancelJob, eventsUrl, getJob, getJobs } from "./api.js";
import { duration, onLanguage, percent, t } from "./i18n.js";
import { attempt, clearError, fail, say } from "./messages.js";

const RETRY = 2; // seconds after which to ask for a job whose events were refused
const PATIENCE = 5; // seconds to wait where a full queue does not say how long

const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);

/**
 * The job that a tab had before it was reloaded, or null: by its id; or, where the page was left before it was told the
 * id of what it had asked for, the newest job of its picture.
 */
export async function findJob({ job, asked }, picture) {
  if (!asked) return job ? getJob(job) : null;
  const newest = (await getJobs()).find((each) => each.picture === picture.id);
  return newest && newest.id !== asked.before ? newest : null;
}

export class Runner {
  job = null; // the last one, as the server told it
  #asked = null; // while one is asked for: {before}, the id of the job before it
  #source = null; // its events
  #waiting = null; // an AbortController, while a job is asked for

  /**
   * element: the workspace's `.action`, with its button and its progress. asking() is called when a job is about to be
   * asked for, and when none came of it; lost() when the server has forgotten it; changed(job) when it begins, is found again, or has got further; step({step, candidate, url}) when a
   * picture on the way can be seen; ended(job) when it is over, however it ended.
   */
  constructor(element, { asking, lost = asking, changed, step = () => {}, ended }) {
    Object.assign(this, { asking, lost, changed, step, ended });
    this.button = element.querySelector("[data-do=run]");
    this.progress = element.querySelector(".progress");
    this.text = element.querySelector(".progress p");
    this.bar = element.querySelector("progress");
    this.stop = element.querySelector("[data-do=cancel]");
    this.stop.addEventListener("click", () => this.cancel());
    onLanguage(() => this.#show());
  }

  get busy() {
    return this.#waiting !== null || this.#source !== null;
  }

  /** What `findJob` needs after a reload. */
  get kept() {
    return { job: this.job?.id ?? null, asked: this.#asked };
  }

  /** Ask for a job with `start`, a function that answers it, and follow it. */
  async run(start) {
    if (this.busy) return;
    clearError();
    this.#asked = { before: this.job?.id ?? null };
    this.asking();
    const job = await attempt(() => this.#submit(start));
    this.#asked = null;
    if (job) this.follow(job);
    else this.asking();
  }

  /** Follow a job that was asked for: now, or before a reload. */
  follow(job) {
    this.job = job;
    this.changed(job);
    if (isOver(job)) this.#end();
    else this.#listen();
  }

  async cancel() {
    this.#waiting?.abort();
    if (this.#source) await attempt(() => cancelJob(this.job.id));
  }

  /** Give the job up, and forget it: another picture is to be worked on. */
  leave() {
    this.#waiting?.abort();
    if (this.#source) cancelJob(this.job.id).catch(() => {}); // whether or not: nobody waits for it any more
    this.#close();
    this.job = null;
  }

  /** Ask until the queue has room; null where the user gave up meanwhile. */
  async #submit(start) {
    this.#waiting = new AbortController();
    const { signal } = this.#waiting;
    try {
      while (!signal.aborted) {
        this.#display(t("job.sending"));
        try {
          const job = await start();
          if (!signal.aborted) return job;
          await cancelJob(job.id);
        } catch (error) {
          if (!(error instanceof ApiError && error.status === 429)) throw error;
          await this.#pause(error.retryAfter ?? PATIENCE, signal);
        }
      }
      return null;
    } finally {
      this.#waiting = null;
      this.#hide();
    }
  }

  async #pause(seconds, signal) {
    for (let left = Math.ceil(seconds); left > 0 && !signal.aborted; left--) {
      this.#display(t("job.full", { time: duration(left) }));
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  #listen() {
    const source = new EventSource(eventsUrl(this.job.id));
    this.#source = source;
    this.#show();
    source.addEventListener("job", (event) => {
      this.job = JSON.parse(event.data);
      this.changed(this.job);
      if (isOver(this.job)) this.#end();
      else this.#show();
    });
    source.addEventListener("step", (event) => this.step(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      // The browser connects again by itself, unless the server refused, as where many tabs listen: then it is asked.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.#ask(source), 1000 * RETRY);
      else this.#display(t("job.lost"));
    });
  }

  async #ask(source) {
    if (this.#source !== source) return; // it was cancelled or left meanwhile
    let job = null;
    try {
      job = await getJob(this.job.id);
    } catch (error) {
      if (this.#source !== source) return;
      fail(error);
      if (error instanceof Unreachable || error.status === 429 || error.status >= 500) {
        setTimeout(() => this.#ask(source), 1000 * RETRY); // what does not answer now may have the job still
        return;
      }
    }
    if (this.#source !== source) return;
    this.#close();
    if (!job) return this.lost(); // and another can be asked for
    clearError(); // of an answer that did not come before
    this.follow(job);
  }

  #end() {
    this.#close();
    const { state, error } = this.job;
    if (state === "failed" || (state === "cancelled" && error)) fail(new ApiError("job", error));
    else if (state === "cancelled") say(t("job.cancelled"));
    this.ended(this.job);
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    this.#hide();
  }

  #show() {
    if (!this.#source) return;
    const { state, ahead, done, of, seconds_left: left, mask_share: share } = this.job;
    const parts = [];
    if (state === "queued") parts.push(ahead > 0 ? t("job.ahead", { n: ahead }) : t("job.starting"));
    else parts.push(of ? t("job.done", { done, of }) : t("job.running"));
    if (left !== null && state === "running") parts.push(t("job.left", { time: duration(left) }));
    else if (share !== null) parts.push(t("job.share", { share: percent(share) }));
    this.#display(parts.join(" · "), state === "running" && of ? done / of : null);
  }

  #display(text, share = null) {
    const focused = document.activeElement === this.button;
    this.button.hidden = true;
    this.progress.hidden = false;
    this.text.textContent = text;
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = share;
    if (focused) this.stop.focus(); // for who works with keys
  }

  #hide() {
    const focused = document.activeElement === this.stop;
    this.button.hidden = false;
    this.progress.hidden = true;
    if (focused) this.button.focus();
  }
}
