import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { en } from "./en";

/** Every text with the path that leads to it; functions are called with plain arguments. */
function texts(value: unknown, path: string): [string, string][] {
  if (typeof value === "string") return [[path, value]];
  if (typeof value === "function") return [[path, String((value as (...args: unknown[]) => string)(...Array.from({ length: value.length }, () => 2)))]];
  return Object.entries(value as object).flatMap(([key, inner]) => texts(inner, path ? `${path}.${key}` : key));
}

const all = texts(en, "");
const root = join(import.meta.dirname, "..");
const sources = (readdirSync(root, { recursive: true, encoding: "utf8" }) as string[])
  .filter((file) => /\.(svelte|ts)$/.test(file) && !/(\.test\.ts|^demo|^text|bindings\.ts)/.test(file))
  .map((file) => ({ file, source: readFileSync(join(root, file), "utf8") }));

describe("the English texts", () => {
  it("say something, without an exclamation mark or a stray space", () => {
    for (const [path, text] of all) {
      expect(text.trim(), path).not.toBe("");
      expect(text, path).not.toMatch(/!|^\s|\s$| {2}/);
    }
  });

  it("are all used", () => {
    const source = sources.map((entry) => entry.source).join("\n");
    const unused = all
      .map(([path]) => path.replace(/\.\d+(\.\w+)?$/, ""))
      .filter((path) => !source.includes(`t.${path}`) && !source.includes(`t.${path.slice(0, path.lastIndexOf("."))}[`) && !source.includes(`t.${path.slice(0, path.lastIndexOf("."))} as`));
    expect(unused).toEqual([]);
  });

  it("are the only English of the components", () => {
    // Between tags: words with a blank, outside of braces. Labels: attributes that a person meets.
    const loose = sources
      .filter(({ file }) => file.endsWith(".svelte"))
      .flatMap(({ file, source }) => {
        const markup = source.replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, "");
        const attributes = [...markup.matchAll(/\s(?:aria-label|title|placeholder|alt|label)="([A-Za-z][^"{]*)"/g)].map((found) => `${file}: ${found[1]}`);
        const words = [...markup.matchAll(/>\s*([A-Z][a-z]+(?: [a-z]+)+)[^<{]*</g)].map((found) => `${file}: ${found[1]}`);
        return [...attributes, ...words];
      });
    expect(loose).toEqual([]);
  });
});
