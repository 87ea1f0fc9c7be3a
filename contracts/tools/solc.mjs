#!/usr/bin/env node
// The compiler as forge wants to call it, from the npm package: forge would otherwise download one.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");

if (process.argv.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (process.argv.includes("--standard-json")) {
  const input = readFileSync(0, "utf8");
  // forge names every source in the input, so an import that is not there is an error and not a file to look for.
  process.stdout.write(solc.compile(input));
} else {
  console.error("usage: solc.mjs --version | --standard-json < input.json");
  process.exit(2);
}
