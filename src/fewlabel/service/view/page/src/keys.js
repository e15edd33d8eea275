// The keys of the page: what each does, for the page and for its help.

/** [keys as they are shown, what they do, the names of the keys, action]; keys that draw do so only while drawing. */
export function keysOf(actions) {
  return [
    ["↑ ↓", "the slice before or after", { ArrowUp: () => actions.slice(1), ArrowDown: () => actions.slice(-1) }],
    ["Page up, down", "five slices", { PageUp: () => actions.slice(5), PageDown: () => actions.slice(-5) }],
    ["← →", "the scan before or after", { ArrowLeft: () => actions.scan(-1), ArrowRight: () => actions.scan(1) }],
    ["V", "one plane, three planes, 3D", { v: actions.nextView }],
    ["P A X", "show or hide prediction, annotation, errors", {
      p: () => actions.toggle("prediction"),
      a: () => actions.toggle("annotation"),
      x: () => actions.toggle("errors"),
    }],
    ["D", "begin or leave drawing", { d: actions.draw }],
    ["B E O F M", "brush, eraser, outline that is filled, fill, move", {
      b: () => actions.tool("brush"),
      e: () => actions.tool("erase"),
      o: () => actions.tool("outline"),
      f: () => actions.tool("fill"),
      m: () => actions.tool("move"),
    }],
    ["1 to 9", "class", Object.fromEntries([...Array(9).keys()].map((at) => [`${at + 1}`, () => actions.label(at + 1)]))],
    ["[ ]", "smaller or larger brush", { "[": () => actions.size(-2), "]": () => actions.size(2) }],
    ["Z Y", "undo, redo; also with Ctrl", { z: actions.undo, y: actions.redo }],
    ["Ctrl S", "save as annotation", { "ctrl s": actions.save }],
    ["?", "these keys", { "?": actions.help }],
  ];
}

/** Listen before NiiVue does, whose own keys are others. */
export function listen(keys) {
  const known = Object.assign({}, ...keys.map(([, , each]) => each));
  window.addEventListener(
    "keydown",
    (event) => {
      const typing = event.target.matches?.("input[type=search], select, textarea");
      if (typing || event.altKey || event.metaKey || document.querySelector("dialog[open]")) {
        return;
      }
      const slides = event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow");
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const named = event.ctrlKey ? `ctrl ${key}` : key;
      const action = known[named] ?? (event.ctrlKey && (key === "z" || key === "y") ? known[key] : undefined);
      if (event.target.id === "canvas") {
        event.stopImmediatePropagation();
      }
      if (action && !slides) {
        event.preventDefault();
        action();
      }
    },
    { capture: true },
  );
}

/** Write the table of keys. */
export function describe(table, keys) {
  for (const [shown, meaning] of keys) {
    const row = table.insertRow();
    const name = document.createElement("kbd");
    name.textContent = shown;
    row.insertCell().append(name);
    row.insertCell().textContent = meaning;
  }
}
