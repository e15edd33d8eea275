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

/** Folders of all packages that the page is made of: NiiVue and what it depends on, those that were bundled among them. */
const packages = new Set();
const queue = ["@niivue/niivue"];
while (queue.length > 0) {
  const folder = join("node_modules", queue.pop());
  if (!packages.has(folder)) {
    packages.add(folder);
    queue.push(...Object.keys(JSON.parse(await readFile(join(folder, "package.json"), "utf8")).dependencies ?? {}));
  }
}
for (const input of Object.keys(made.metafile.inputs)) {
  const folder = input.match(/node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0];
  if (folder && !packages.has(folder)) {
    throw new Error(`${folder} is bundled, and nothing depends on it`);
  }
}
const parts = [];
for (const folder of [...packages].sort()) {
  const about = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const names = (await readdir(folder)).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name)).sort();
  // Where the package leaves out the text of its licence, it lies beside this file, from the project's own repository.
  const given = names.length ? names.map((name) => join(folder, name)) : [`licences/${about.name.replace("/", "-")}.txt`];
  const text = (await Promise.all(given.map((name) => readFile(name, "utf8")))).join("\n").trim();
  const kind = typeof about.license === "string" ? about.license : (about.license?.type ?? "not named");
  parts.push(`${about.name} ${about.version} (${kind})\n\n${text}\n`);
}
const line = `${"=".repeat(80)}\n`;
const text = ["The page of fewlabel view holds code of these packages.\n", ...parts].join(`\n${line}\n`);
await writeFile(join(out, "licences.txt"), text.replaceAll("\r\n", "\n").replaceAll(/[ \t]+$/gm, ""));
