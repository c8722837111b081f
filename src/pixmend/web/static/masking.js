// What the buttons beside the picture do to its mask, and masks that come or go as files.

import { renderMask, uploadMask as send } from "./api.js";
import { percent, t } from "./i18n.js";
import { say } from "./messages.js";
import { alpha, clear, grow, invert, holdsDrawn, kind, uploaded } from "./operations.js";
import { required } from "./settings.js";

/** Each button's operation, by the form's values. */
const OPERATIONS = {
  invert: () => invert(),
  clear: () => clear(),
  grow: (form) => grow(required(form, "by")),
  shrink: (form) => grow(-required(form, "by")),
  alpha: () => alpha(),
  kind: (form) => kind(required(form, "kind"), required(form, "kind_seed")),
};

/** Do to the mask what the button `name` says; nothing where it says nothing about masks. */
export function addOperation(name, history, form) {
  if (name in OPERATIONS) add(OPERATIONS[name](form), history, form);
}

/** Send the file that was chosen, and add it to the mask. */
export async function uploadMask(input, history, form) {
  const [file] = input.files;
  input.value = ""; // so that the same file can be chosen again
  if (!file) return;
  const { picture } = history;
  const { id, share } = await send(file, picture.id);
  if (history.picture !== picture) return; // another one is painted on by now
  add(uploaded(id), history, form);
  say(t("said.mask", { share: percent(share) }));
}

/** Save the mask at the picture's own size, white where it fills. */
export async function downloadMask({ picture, operations }) {
  const address = URL.createObjectURL(await renderMask(picture.id, operations));
  const download = `${picture.name.replace(/\.\w+$/, "")}-mask.png`;
  Object.assign(document.createElement("a"), { href: address, download }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000); // when the browser has surely taken it
}

/** A mask that is not drawn by hand is exact: it gets a margin only where one is asked for. */
function add(operation, history, form) {
  const exact = ["uploaded", "kind", "alpha"].includes(operation.op);
  const margin = form.elements.grow;
  if (exact && !holdsDrawn(history.operations) && margin.value !== "0") {
    margin.dataset.before = margin.value;
    margin.value = "0";
  }
  history.add({ operations: [operation] });
}

/** Where a mask begins anew, the margin is again what it was before such a mask. */
export function restoreMargin(form) {
  const margin = form.elements.grow;
  if (margin.dataset.before) margin.value = margin.dataset.before;
  delete margin.dataset.before;
}
