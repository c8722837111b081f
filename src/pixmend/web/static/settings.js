// The settings beside the picture, as values: read from the form, put into it, and filled with what the server offers.

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

/** The first field with a value that cannot be, or null; the browser says what is allowed. */
export const invalid = (form) => [...form.elements].find((field) => !field.checkValidity()) ?? null;

/** Offer `choices` ({value, text}) in a list. */
export function offer(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices.map(({ value, text }) => new Option(text, value)));
  if (choices.some(({ value }) => value === chosen)) select.value = chosen;
}

/** What a fill is told, of the form's values: all that was not left to the model. */
export function fillRequest({ quality, steps, sampler, seed, candidates, blur, grow }) {
  const chosen = { quality, steps, sampler, seed, candidates, blur, grow };
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== null));
}
