// The page: begins it, and holds what its two workspaces share: opening pictures, the tabs, the language, the help.

import * as api from "./api.js";
import { Denoise } from "./denoise.js";
import { compact, language, number, onLanguage, preferredLanguage, t, useLanguage } from "./i18n.js";
import { watchKeys } from "./keys.js";
import { attempt, fail, PageError, say } from "./messages.js";
import { Repair } from "./repair.js";

const TIMES_KEPT = 6; // within the time for which the server keeps what nobody asks for

const NO_WORDS = "The page did not come whole; reload it. 页面没有加载完整，请刷新。";

const $ = (selector) => document.querySelector(selector);

const repair = new Repair($("#repair"));
const denoise = new Denoise($("#denoise"), (picture) => {
  repair.open(picture);
  showTab("repair");
  repair.stage.canvas.focus({ preventScroll: true }); // the button that was pressed is not seen any more
});
const workspaces = { repair, denoise };
let shown = repair;
let about = null;
// How many files were chosen so far for a workspace, and which of them is open: one chosen before it comes too late.
const turns = new Map([repair, denoise].map((workspace) => [workspace, { chosen: 0, opened: 0 }]));

// ------------------------------------------------------------------------------------------------- opening pictures

/** Send a file to the server, and show it in the workspace that is open. */
async function open(file) {
  const workspace = shown;
  const counted = turns.get(workspace);
  const turn = ++counted.chosen;
  await attempt(async () => {
    if (about && file.size > about.limits.bytes) {
      throw new PageError(t("error.bytes", { limit: number(about.limits.bytes / 1e6) }));
    }
    say(t("said.opening", { name: file.name }));
    try {
      const picture = await api.openPicture(file);
      if (turn < counted.opened) return;
      counted.opened = turn;
      workspace.open(picture);
      const notes = picture.notes.length ? t("said.notes", { notes: picture.notes.join("; ") }) : "";
      say(`${t("said.opened", { name: picture.name })} ${notes}`.trim());
      workspace.stage.canvas.focus({ preventScroll: true });
    } catch (error) {
      if (turn === counted.chosen) say("");
      throw error;
    }
  });
}

const firstFile = (transfer) => [...(transfer?.files ?? [])][0];

function watchFiles() {
  const input = $("#file");
  for (const button of [$("#open"), ...document.querySelectorAll("[data-open]")]) {
    button.addEventListener("click", () => input.click());
  }
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file) open(file);
  });
  document.addEventListener("paste", (event) => {
    const file = firstFile(event.clipboardData);
    if (file) open(file);
  });
  let depth = 0; // of the elements that a file was dragged into
  const veil = (by) => ($("#drop").hidden = (depth = Math.max(0, depth + by)) === 0);
  document.addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && veil(1));
  document.addEventListener("dragleave", (event) => event.dataTransfer.types.includes("Files") && veil(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil(-depth);
    const file = firstFile(event.dataTransfer);
    if (file) open(file);
  });
}

// ------------------------------------------------------------------------------------------------------ the frame

function showTab(name) {
  say(""); // what was said is of the other tab
  shown = workspaces[name];
  for (const [each, { root }] of Object.entries(workspaces)) {
    root.hidden = each !== name;
    const tab = $(`#tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
  }
  history.replaceState(null, "", name === "repair" ? location.pathname : `#${name}`);
  showPicture();
}

/** Name the picture that is open, and offer what is shown of it for download. */
function showPicture() {
  const { picture, download, size } = shown;
  const link = $("#download");
  link.hidden = !download;
  if (download) link.href = download;
  $("#about-picture").textContent = picture
    ? [picture.name, `${size.width} × ${size.height}`, picture.format].filter(Boolean).join(" · ")
    : "";
  document.title = picture ? `${picture.name} – pixmend` : "pixmend";
}

function watchFrame() {
  const names = Object.keys(workspaces);
  for (const name of names) {
    $(`#tab-${name}`).addEventListener("click", () => showTab(name));
    workspaces[name].changed = () => shown === workspaces[name] && showPicture();
    workspaces[name].root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-do]");
      if (button && button.dataset.do !== "cancel") workspaces[name].act(button.dataset.do);
    });
    for (const form of workspaces[name].root.querySelectorAll("form")) {
      form.addEventListener("submit", (event) => event.preventDefault());
    }
  }
  $("[role=tablist]").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = names.find((name) => workspaces[name] !== shown);
    if ($(`#tab-${other}`).hidden) return;
    showTab(other);
    $(`#tab-${other}`).focus();
  });
  $(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address says which tab is open
    shown.stage.canvas.focus();
  });
  $("#language").addEventListener("click", () => {
    attempt(() => useLanguage(language === "zh" ? "en" : "zh", { remember: true }));
  });
  onLanguage(() => {
    $("#language").textContent = language === "zh" ? "English" : "中文";
    $("#language").lang = language === "zh" ? "en" : "zh";
    if (about) showVersion();
  });
}

function showVersion() {
  const { version, model } = about;
  $("#version").textContent = t("help.version", { version, parameters: compact(model.parameters) });
}

function watchHelp() {
  const help = $("#help");
  $("#help-open").addEventListener("click", () => help.showModal());
  help.querySelector("[data-close]").addEventListener("click", () => help.close());
  help.addEventListener("click", ({ target, clientX: x, clientY: y }) => {
    // Of a click on its padding the dialog is the target, as it is of one on what lies around.
    const { left, right, top, bottom } = help.getBoundingClientRect();
    if (target === help && (x < left || x > right || y < top || y > bottom)) help.close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !event.target.closest("input, select, dialog")) help.showModal();
  });
}

async function begin() {
  const wantsDenoiser = location.hash === "#denoise";
  watchFiles();
  watchFrame();
  watchHelp();
  watchKeys(() => shown);
  try {
    await useLanguage(preferredLanguage());
  } catch {
    fail(new PageError(NO_WORDS));
    return;
  }
  await attempt(async () => {
    about = await api.about();
    $("#tab-denoise").hidden = !about.denoiser;
    showVersion();
    for (const workspace of Object.values(workspaces)) workspace.configure(about);
    if (wantsDenoiser && about.denoiser) showTab("denoise");
    document.body.dataset.ready = "";
  });
  if (!about) { // as without the token: nothing that could be opened would be taken
    for (const button of [$("#open"), ...document.querySelectorAll("[data-open]")]) button.disabled = true;
    return;
  }
  for (const workspace of Object.values(workspaces)) await attempt(() => workspace.restore());
  keepAlive();
}

/** What this tab can come back to is asked for now and then: the server forgets what nobody asks for. */
function keepAlive() {
  const once = async () => {
    for (const address of new Set(Object.values(workspaces).flatMap(({ needed }) => needed))) {
      await api.touch(address).catch(() => {}); // what is gone says so when it is wanted
    }
  };
  setInterval(once, (1000 * about.limits.keep_seconds) / TIMES_KEPT);
}

begin();
