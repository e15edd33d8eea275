// Bundle the page into built/: one script, one style sheet, the page, and the licences of all that is in the script.
// `node build.mjs FOLDER` writes elsewhere, to compare.
import { copyFile, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "built");
process.chdir(here);

const made = await build({
  entryPoints: ["src/main.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  legalComments: "none",
  outfile: join(out, "page.js"),
  metafile: true,
  // A codec of Zarr asks for them where it runs outside a browser; the page reads no Zarr.
  external: ["fs", "path", "url", "module"],
});
await mkdir(out, { recursive: true });
for (const name of ["index.html", "page.css"]) {
  await copyFile(join("src", name), join(out, name));
}

/** Folders of the packages whose code is in the script. */
const packages = new Set(
  Object.keys(made.metafile.inputs)
    .map((input) => input.match(/.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0])
    .filter(Boolean),
);
// NiiVue comes bundled: what it took in is named by its own list of dependencies.
const niivue = JSON.parse(await readFile("node_modules/@niivue/niivue/package.json", "utf8"));
const queue = Object.keys(niivue.dependencies);
while (queue.length > 0) {
  const folder = join("node_modules", queue.pop());
  if (!packages.has(folder)) {
    packages.add(folder);
    queue.push(...Object.keys(JSON.parse(await readFile(join(folder, "package.json"), "utf8")).dependencies ?? {}));
  }
}
const parts = [];
for (const folder of [...packages].sort()) {
  const about = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const names = (await readdir(folder)).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), "utf8")));
  const author = typeof about.author === "string" ? about.author : (about.author?.name ?? "");
  const text = texts.join("\n").trim() || `Its package holds no text of the licence. Author: ${author || "not named"}.`;
  const kind = typeof about.license === "string" ? about.license : (about.license?.type ?? "not named");
  parts.push(`${about.name} ${about.version} (${kind})\n\n${text}\n`);
}
const line = `${"=".repeat(80)}\n`;
const text = ["The page of fewlabel view holds code of these packages.\n", ...parts].join(`\n${line}\n`);
await writeFile(join(out, "licences.txt"), text.replaceAll("\r\n", "\n").replaceAll(/[ \t]+$/gm, ""));
