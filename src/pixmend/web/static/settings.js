// The settings beside the picture, as values: read from the form, put into it, and filled with what the server offers.

import { t } from "./i18n.js";
import { PageError } from "./messages.js";

/** The form's numbers and choices by name; null for what was left empty, so that the model decides. */
export function read(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name) continue;
    const number = field.type === "number" || field.type === "range";
    if (field.type === "checkbox") values[field.name] = field.checked;
    else if (field.value === "" || (number && !field.checkValidity())) values[field.name] = null;
    else values[field.name] = number ? field.valueAsNumber : field.value;
  }
  return values;
}

/** Put values into the form; names that it does not have are left out. */
export function write(form, values) {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    if (field.type === "checkbox") field.checked = value;
    else field.value = value ?? "";
  }
}

/** The value of one field, which must have one; throws a PageError else. */
export function required(form, name) {
  const value = read(form)[name];
  if (value === null) throw complaint(form.elements.namedItem(name));
  return value;
}

/** Throw a PageError, and go to the field, where one has a value that cannot be. */
export function check(form) {
  const wrong = [...form.elements].find((field) => !field.checkValidity());
  if (wrong) throw complaint(wrong);
}

/** What is wrong with a field, in the browser's words. */
function complaint(field) {
  const around = field.closest("details");
  if (around) around.open = true;
  field.focus();
  const name = field.closest("label")?.querySelector("span")?.textContent ?? "";
  return new PageError(`${name}: ${field.validationMessage || t("error.empty")}`);
}

/** Hold the numbers to what the server allows. */
export function limitTo(form, { limits }) {
  form.elements.candidates.max = limits.candidates;
  form.elements.steps.max = limits.steps;
  form.elements.seed.max = Number.MAX_SAFE_INTEGER;
}

/** Fill the lists with what the server offers, in the page's language. */
export function offerChoices(form, { qualities, samplers, kinds }) {
  offer(form.elements.quality, qualities.map(({ name }) => [name, t(`quality.${name}`)]));
  offer(form.elements.detail, ["picture", "model"].map((name) => [name, t(`detail.${name}`)]));
  offer(form.elements.sampler, [["", t("by.model")], ...samplers.map((name) => [name, name])]);
  offer(form.elements.kind, kinds.map(({ name }) => [name, t(`kind.${name}`)]));
}

function offer(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  if (choices.some(([value]) => value === chosen)) select.value = chosen;
}

/** What a fill is told, of the form's values: all that was not left to the model. */
export function fillRequest({ quality, detail, steps, sampler, seed, candidates, blur, grow }) {
  const chosen = { quality, detail, steps, sampler, seed, candidates, blur, grow };
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== null));
}
