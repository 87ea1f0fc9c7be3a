// Colours for code: parsed to a tree of class names and text, never to HTML. Loaded with the first code block.
import { createLowlight } from "lowlight";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import lua from "highlight.js/lib/languages/lua";
import markdown from "highlight.js/lib/languages/markdown";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

/** A run of code in one colour; `kind` is the language's name for it (keyword, string, comment …). */
export type Run = { text: string; kind: string | null };

const lowlight = createLowlight({
  bash, c, cpp, csharp, css, diff, go, ini, java, javascript, json, kotlin, lua, markdown, php, python, r, ruby, rust, sql, swift,
  typescript, xml, yaml,
}); // prettier-ignore
lowlight.registerAlias({ javascript: ["jsx", "mjs"], typescript: ["tsx"], xml: ["svelte", "vue"], ini: ["toml"], bash: ["shell", "console"] });

type Node = ReturnType<typeof lowlight.highlight>["children"][number];

export function highlight(code: string, language: string): Run[] | null {
  if (!lowlight.registered(language)) return null;
  const runs: Run[] = [];
  const walk = (nodes: readonly Node[], kind: string | null): void => {
    for (const node of nodes) {
      if (node.type === "text") runs.push({ text: node.value, kind });
      else if (node.type === "element") {
        const names = node.properties["className"];
        const first = Array.isArray(names) ? String(names[0] ?? "") : "";
        walk(node.children as Node[], first.startsWith("hljs-") ? first.slice(5) : kind);
      }
    }
  };
  walk(lowlight.highlight(language, code).children, null);
  return runs;
}
