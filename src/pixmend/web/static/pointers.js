// Mouse, pen and fingers on a stage. One button or finger paints, where the painter may; two fingers zoom and move; so
// do the wheel, the middle button, and dragging with the space bar held down.

const WHEEL = 0.0015; // of zoom, in powers of e, to a pixel of the wheel
const LINE = 16; // pixels to a wheel's line

export function watchPointers(stage, painter = null) {
  const { canvas, view } = stage;
  const held = new Map(); // pointer -> where it was last, in canvas pixels
  let doing = null; // "paint", "move" or "pinch"

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || held.size === 2) return;
    if (event.button === 1) event.preventDefault(); // no scrolling by the middle button
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, stage.at(event));
    if (held.size === 2) {
      if (doing === "paint") painter.cancel();
      doing = "pinch";
    } else {
      const moves = event.button === 1 || stage.spaceHeld || !painter?.begin(view.toPicture(stage.at(event)));
      doing = moves ? "move" : "paint";
      if (stage.spaceHeld) stage.spaceUsed = true;
    }
    canvas.classList.toggle("moving", doing !== "paint");
  });

  canvas.addEventListener("pointermove", (event) => {
    if (painter && event.pointerType !== "touch") painter.hover(view.toPicture(stage.at(event)));
    if (!held.has(event.pointerId)) return;
    if (doing === "paint") {
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const each of passed.length ? passed : [event]) painter.move(view.toPicture(stage.at(each)));
    } else {
      drag(event);
    }
  });

  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (!held.delete(event.pointerId)) return;
      if (doing === "paint" && name === "pointerup") painter.end();
      else if (doing === "paint") painter.cancel();
      doing = held.size ? "move" : null;
      if (!doing) canvas.classList.remove("moving");
    });
  }

  canvas.addEventListener("pointerleave", () => painter?.hover(null));

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1;
      if (event.shiftKey) {
        stage.panBy(-(event.deltaX || event.deltaY) * pixels, 0);
      } else {
        const pinch = event.ctrlKey ? 6 : 1; // a pinch on a trackpad comes as a wheel with Ctrl, in small steps
        stage.zoomAt(Math.exp(-event.deltaY * pixels * WHEEL * pinch), stage.at(event));
      }
    },
    { passive: false },
  );

  let scale = 1; // of the gesture that goes on
  for (const name of ["gesturestart", "gesturechange"]) {
    // Safari has events of its own for a pinch on a trackpad; where fingers are held on a screen, they zoom already.
    canvas.addEventListener(name, (event) => {
      event.preventDefault();
      if (name === "gesturechange" && !held.size) stage.zoomAt(event.scale / scale, stage.at(event));
      scale = event.scale;
    });
  }

  /** Move the picture with the pointers that are held: two also zoom, by how their distance changes. */
  function drag(event) {
    const before = measure(held);
    held.set(event.pointerId, stage.at(event));
    const after = measure(held);
    stage.panBy((after.x - before.x) / stage.density, (after.y - before.y) / stage.density);
    if (held.size === 2) stage.zoomAt(after.distance / before.distance, after);
  }
}

/** The middle of one or two points, and their distance. */
function measure(held) {
  const [first, second = first] = held.values();
  return {
    x: (first.x + second.x) / 2,
    y: (first.y + second.y) / 2,
    distance: Math.max(1, Math.hypot(first.x - second.x, first.y - second.y)),
  };
}
