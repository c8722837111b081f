// What the server offers, as functions. Each answers what the server answered, or throws an ApiError.

/** What the server refused: its status ("job" for a job that failed), its one line, and when to try again (429). */
export class ApiError extends Error {
  constructor(status, detail, retryAfter = null) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether what was asked for is not there, or not any more. */
  get gone() {
    return this.status === 404 || this.status === 410;
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {}

/** A file cannot be read, whose name is the message: it is a folder, or is not there any more. */
export class Unreadable extends Error {}

export const about = () => json("GET", "/api/about");
export const getPicture = (id) => json("GET", `/api/pictures/${id}`);
export const openPicture = async (file) => json("POST", "/api/pictures", form({ file: await readable(file) }));
export const uploadMask = async (file, picture) =>
  json("POST", "/api/masks", form({ file: await readable(file), picture }));
export const renderMask = async (picture, operations) =>
  (await call("POST", "/api/masks/render", { picture, operations })).blob();
export const startFill = (request) => json("POST", "/api/fills", request);
export const startExtension = (request) => json("POST", "/api/extensions", request);
export const startDenoising = (request) => json("POST", "/api/denoisings", request);
export const getJob = (id) => json("GET", `/api/jobs/${id}`);
export const getJobs = () => json("GET", "/api/jobs");
export const cancelJob = (id) => json("DELETE", `/api/jobs/${id}`);
export const keepResult = (job, index) => json("POST", `/api/jobs/${job}/results/${index}/keep`);

/** Ask for something for the sake of asking: the server forgets what nobody asked for in a long time. */
export const touch = (address) => call("GET", address);

export const pictureUrl = (id) => `/api/pictures/${id}`;
export const resultUrl = (job, index) => `/api/jobs/${job}/results/${index}`;
export const eventsUrl = (job) => `/api/jobs/${job}/events`;
export const fileUrl = (base) => `${base}/file`;
export const maskUrl = (id) => `/api/masks/${id}`;

/** The smallest part of the picture or result at `base`. */
export const pixelUrl = (base) => viewUrl(base, { left: 0, top: 0, width: 1, height: 1, scale: 1 });

/** The picture or result at `base`, or a part of it, at a scale of at most 1. */
export function viewUrl(base, { left, top, width, height, scale }) {
  return `${base}/view?${new URLSearchParams({ left, top, width, height, scale })}`;
}

/** The file, if it can be read: else a request with it would fail as if the server did not answer. */
async function readable(file) {
  try {
    await (file.size ? file.slice(0, 1) : file).arrayBuffer(); // of what was never there, a slice is just empty
  } catch {
    throw new Unreadable(file.name);
  }
  return file;
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return data;
}

async function json(method, path, body) {
  return (await call(method, path, body)).json();
}

async function call(method, path, body) {
  const request = { method, headers: {} };
  if (body instanceof FormData) {
    request.body = body;
  } else if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (error) {
    throw new Unreachable(error.message);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let detail = answer.statusText;
  try {
    const said = (await answer.json()).detail;
    detail = typeof said === "string" ? said : JSON.stringify(said);
  } catch {
    // Not JSON: something between the page and the server answered. The status is all there is to say.
  }
  const seconds = Number(answer.headers.get("Retry-After"));
  return new ApiError(answer.status, detail, Number.isFinite(seconds) && seconds > 0 ? seconds : null);
}
