// What a reload of this tab must find again. Kept by the browser for one tab alone: two tabs do not disturb each other.

import { getPicture } from "./api.js";

const PREFIX = "pixmend.";

/** Keep a value under a name; false where the browser would not, as when it is too large. */
export function store(name, value) {
  try {
    sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** The value kept under a name, or null. */
export function stored(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** See that the server still has the picture that is kept under a name. Where it has not, an error says so, just once. */
export async function findPicture(name, { id }) {
  try {
    await getPicture(id);
  } catch (error) {
    if (error.gone) forget(name);
    throw error;
  }
}

function forget(name) {
  try {
    sessionStorage.removeItem(PREFIX + name);
  } catch {
    // A browser that keeps nothing has nothing to forget.
  }
}
