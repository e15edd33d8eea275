// What the server is asked. The token came with the link; from then on a cookie that this script cannot read goes along.

/** An answer that is no success; `message` is what the server says, and `asks` what it would have confirmed. */
export class Refusal extends Error {
  constructor(status, message, asks) {
    super(message);
    this.status = status;
    this.asks = asks;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Refusal(0, "The server does not answer. Is it still running in the terminal?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refusal(answer.status, told.detail ?? `The server answers ${answer.status}.`, told.asks);
  }
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (path, body) => json(path, { method: "POST", body });

export const state = () => json("api/state");
export const about = (place) => json(`api/scans/${place}`);
export const askPrediction = (place) => post(`api/scans/${place}/prediction`);
export const predictionState = (place) => json(`api/scans/${place}/prediction/state`);
export const startLearning = () => post("api/learn");
export const learning = () => json("api/learn");

/** Bytes of a NIfTI file: `image?channel=0`, `prediction`, `annotation` or `errors`. */
export const volume = async (place, kind) => (await ask(`api/scans/${place}/${kind}`)).arrayBuffer();

/**
 * Save a drawing, a NIfTI file; `slices` are the numbers of those that count, all without it, and `empty` says that a
 * mask without any structure is right.
 */
export const save = (place, bytes, slices, empty) => {
  const words = [...(slices ? [`slices=${slices.join(",")}`] : []), ...(empty ? ["empty=true"] : [])];
  return post(`api/scans/${place}/annotation${words.length ? `?${words.join("&")}` : ""}`, bytes);
};
