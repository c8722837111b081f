// The keyboard. Single keys work while nothing else wants them: not in a field, a list or a dialog.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PAN = 60; // CSS pixels that Alt and an arrow move the picture

const TOOL_KEYS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", h: "hand" };
const DEED_KEYS = {
  "+": "zoom-in",
  "=": "zoom-in",
  "-": "zoom-out",
  0: "zoom-fit",
  1: "zoom-actual",
  i: "invert",
  c: "compare",
  k: "keep",
  Escape: "escape",
};

/** Whether an element takes keys for itself. */
const typing = (element) =>
  element.closest?.("input:not([type=checkbox], [type=range], [type=radio]), select, textarea, dialog");

/** workspace: returns the one that is shown; only the one for repairing has a painter and tools. */
export function watchKeys(workspace) {
  document.addEventListener("keydown", (event) => {
    const shown = workspace();
    if (document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && chord(event, shown)) return event.preventDefault();
    if (event.ctrlKey || event.metaKey || typing(event.target)) return;
    if (event.target === shown.stage.canvas && onCanvas(event, shown)) return event.preventDefault();
    if (!event.altKey && single(event, shown)) event.preventDefault();
  });

  document.addEventListener("keyup", (event) => {
    const { stage, painter } = workspace();
    if (event.key !== " ") return;
    // A bar that was pressed and let go, with no dragging in between, is the pen's.
    if (stage.spaceHeld && !stage.spaceUsed && event.target === stage.canvas) painter?.toggleByKeys();
    letGo(stage);
  });

  window.addEventListener("blur", () => letGo(workspace().stage)); // where else the bar is let go is not told
}

function letGo(stage) {
  stage.spaceHeld = stage.spaceUsed = false;
  stage.canvas.classList.remove("moving");
}

function chord(event, shown) {
  const key = event.key.toLowerCase();
  if (key === "enter") return shown.act("run"), true;
  if (typing(event.target)) return false; // there Ctrl+Z is the field's own
  if (key === "z") return shown.act(event.shiftKey ? "redo" : "undo"), true;
  if (key === "y") return shown.act("redo"), true;
  return false;
}

function single(event, shown) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === " " && (event.target === document.body || event.target === shown.stage.canvas)) {
    shown.stage.spaceHeld = true;
    shown.stage.canvas.classList.add("moving");
    return true;
  }
  if (key in DEED_KEYS) return shown.act(DEED_KEYS[key]), true;
  if (!shown.tools) return false;
  if (key in TOOL_KEYS) return shown.tools.choose(TOOL_KEYS[key]), true;
  if (key === "[" || key === "]") return shown.tools.stepWidth(key === "]" ? 1 : -1), true;
  return false;
}

function onCanvas(event, shown) {
  const { stage, painter } = shown;
  const arrow = ARROWS[event.key];
  if (arrow && (event.altKey || !painter)) return stage.panBy(-arrow[0] * PAN, -arrow[1] * PAN), true;
  if (arrow) return painter.moveByKeys(...arrow, event.shiftKey), true;
  if (event.key === "Enter" && painter) return event.repeat || painter.toggleByKeys(), true;
  return false;
}
