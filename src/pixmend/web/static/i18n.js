// The page's words, in words/en.json and words/zh.json: chosen by the browser's language, or by hand.

import { Unreachable } from "./api.js";

const LANGUAGES = ["en", "zh"];
const CHOSEN = "pixmend.language"; // what was chosen by hand holds for all tabs and visits

const CTRL = /^(Mac|iP)/.test(navigator.platform) ? "⌘" : "Ctrl"; // what the key is called

const listeners = new Set();
let words = {};

export let language = "en";

/** The language to begin with: what was chosen before, else the first of the browser's that the page has. */
export function preferredLanguage() {
  const wanted = [remembered(), ...navigator.languages].map((tag) => (tag ?? "").slice(0, 2).toLowerCase());
  return wanted.find((tag) => LANGUAGES.includes(tag)) ?? "en";
}

/** Load a language's words, put them wherever the document asks for words, and tell whoever wrote some itself. */
export async function useLanguage(tag, { remember = false } = {}) {
  words = await load(tag).catch(() => load(tag)); // one request may fail
  language = tag;
  if (remember) {
    try {
      localStorage.setItem(CHOSEN, tag);
    } catch {
      // A browser that keeps nothing: the choice holds until the page is closed.
    }
  }
  document.documentElement.lang = tag === "zh" ? "zh-CN" : tag;
  translate(document);
  for (const listener of listeners) listener();
}

async function load(tag) {
  try {
    const answer = await fetch(new URL(`words/${tag}.json`, import.meta.url));
    if (answer.ok) return await answer.json();
    throw new Error(answer.statusText);
  } catch (error) {
    throw new Unreachable(error.message);
  }
}

/** Call `listener` whenever the language has changed. */
export const onLanguage = (listener) => listeners.add(listener);

/** The words under `key`, with {names} replaced by `values`, {ctrl} by the key's name. An unknown key is its own words. */
export function t(key, values = {}) {
  const text = words[key];
  if (text === undefined) {
    if (Object.keys(words).length) console.error(`no words for ${key}`);
    return key;
  }
  const known = { ctrl: CTRL, ...values };
  return text.replace(/\{(\w+)\}/g, (_, name) => known[name] ?? "");
}

export const hasWords = (key) => key in words;

/** A number as this language writes it. */
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits }).format(value);

/** A large number in short: 4.5M, 451万. */
export const compact = (value) =>
  new Intl.NumberFormat(document.documentElement.lang, { notation: "compact" }).format(value);

/** A share of one as per cent, with one digit behind the point; so little that it would be 0 with two that are not. */
export const percent = (share) => {
  const digits = share < 0.0005 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 1 };
  return new Intl.NumberFormat(document.documentElement.lang, { style: "percent", ...digits }).format(share);
};

/** A time to wait, in words: seconds up to a minute and a half, then minutes. */
export function duration(seconds) {
  if (seconds < 90) return t("seconds", { n: number(Math.max(1, Math.ceil(seconds))) });
  return t("minutes", { n: number(Math.round(seconds / 60)) });
}

/** Fill in the words below `root`: `data-t` is an element's text, `data-t-label` its label and tooltip; or that alone. */
function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("kbd.ctrl")) element.textContent = CTRL;
  for (const element of root.querySelectorAll("[data-t-label]")) {
    const label = t(element.dataset.tLabel);
    element.setAttribute("aria-label", label);
    if (element.matches("button, a")) element.title = label;
  }
  for (const element of root.querySelectorAll("[data-t-title]")) element.title = t(element.dataset.tTitle);
}

function remembered() {
  try {
    return localStorage.getItem(CHOSEN);
  } catch {
    return null;
  }
}
