// The line at the bottom: what just happened, and errors, which stay until they are closed or something else succeeds.
// Both are live regions, so that screen readers say them.

import { ApiError, Unreachable, Unreadable } from "./api.js";
import { hasWords, language, t } from "./i18n.js";

const said = document.querySelector("#said");
const error = document.querySelector("#error");

error.querySelector("button").addEventListener("click", clearError);

/** Say what happened; an error from before is over. */
export function say(text) {
  clearError();
  said.textContent = text;
}

export function clearError() {
  error.hidden = true;
}

/** Show an error of the server or of the page. */
export function fail(problem) {
  error.querySelector("p").textContent = describe(problem);
  error.hidden = false;
}

/** Run something that may fail, and say so where it does. */
export async function attempt(action) {
  try {
    return await action();
  } catch (problem) {
    const expected = [ApiError, Unreachable, Unreadable, PageError].some((kind) => problem instanceof kind);
    if (!expected) console.error(problem);
    fail(problem);
    return null;
  }
}

/** What the page itself refuses: already in the page's language. */
export class PageError extends Error {}

/** The server's line says all, but in English: other languages get the gist before it. */
function describe(problem) {
  if (problem instanceof Unreachable) return t("error.unreachable");
  if (problem instanceof Unreadable) return t("error.unreadable", { name: problem.message });
  if (!(problem instanceof ApiError)) return problem.message;
  const gist = `error.${problem.status}`;
  return language !== "en" && hasWords(gist) ? `${t(gist)} (${problem.message})` : problem.message;
}
