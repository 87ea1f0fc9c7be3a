import { flushSync, mount, unmount } from "svelte";
import { afterEach, describe, expect, it } from "vitest";
import { Blocks } from "./blocks";
import Markdown from "./Markdown.svelte";
import { typeset } from "./typeset";

let shown: ReturnType<typeof mount> | null = null;

async function show(source: string, streaming = false): Promise<HTMLElement> {
  document.body.replaceChildren();
  shown = mount(Markdown, { target: document.body, props: { source, streaming } });
  flushSync();
  // The typesetter is loaded with the first formula.
  await import("./typeset");
  await new Promise((resolve) => setTimeout(resolve));
  flushSync();
  return document.body;
}

afterEach(async () => {
  if (shown) await unmount(shown);
  shown = null;
});

/** What each formula on the page says in TeX, and whether it is set apart. */
function formulas(page: HTMLElement): [string, boolean][] {
  return [...page.querySelectorAll(".katex")].map((box) => [
    box.querySelector("annotation")?.textContent ?? "",
    box.parentElement?.classList.contains("katex-display") ?? false,
  ]);
}

describe("formulas", () => {
  it.each<[string, [string, boolean][]]>([
    ["The root $x^2$ is", [["x^2", false]]],
    ["($n$-th) and $a$, $b$.", [["n", false], ["a", false], ["b", false]]],
    ["with \\(a_{1} + b\\) inside", [["a_{1} + b", false]]],
    ["$$\n\\frac{a}{b}\n$$", [["\\frac{a}{b}", true]]],
    ["$$E = mc^2$$", [["E = mc^2", true]]],
    ["\\[\nx\n\\]", [["x", true]]],
    ["So\n$$\nx\n$$\nand **on**", [["x", true]]],
    ["within $$x + y$$ a line", [["x + y", true]]],
    ["$$\n\\begin{aligned}\na &= b \\\\\n  &= c\n\\end{aligned}\n$$", [["\\begin{aligned}\na &= b \\\\\n  &= c\n\\end{aligned}", true]]],
    ["- one $p$\n- two\n\n  $$\n  q\n  $$", [["p", false], ["q", true]]],
    ["| a | b |\n| - | - |\n| $x$ | $y$ |", [["x", false], ["y", false]]],
    ["$$\na\n+ b\n- c\n= d\n$$", [["a\n+ b\n- c\n= d", true]]],
  ])("sets %j", async (source, expected) => {
    expect(formulas(await show(source))).toEqual(expected);
  }); // prettier-ignore

  it.each([
    "It costs $5 and $6.",
    "Between $5-$10, or $5/$10.",
    "US$5 and A$6 and 7$",
    "$HOME:$PATH and $ x $",
    "Escaped \\$x\\$ here",
    "`$x$` and ``$y$``",
    "Two $\n\n$ paragraphs",
    "$$ is open",
    "\\( is open",
    "an empty $$$$ one",
  ])("leaves %j alone", async (source) => {
    const page = await show(source);
    expect(page.querySelector(".katex")).toBeNull();
    expect(page.textContent).toContain(source.includes("$") ? "$" : "is open");
  });

  it("stay text until they are closed", async () => {
    expect((await show("Sum: $$\n\\sum_{i", true)).querySelector(".katex")).toBeNull();
    expect(document.body.textContent).toContain("\\sum_{i");
    expect(formulas(await show("Sum: $$\n\\sum_{i}\n$$", true))).toEqual([["\\sum_{i}", true]]);
    expect(formulas(await show("So $a$ and $b", true))).toEqual([["a", false]]);
  });

  it("are the same blocks streamed as whole, also where their lines look like lists and headings", () => {
    const text = "Text\n\n$$\na\n+ b\n- c\n= d\n$$\n\nSo $x$ is\n$$\ny\n===\n$$\nlast\n\n$$ never closed\n- but over\n\nEnd.\n";
    const streamed = new Blocks();
    for (let end = 1; end <= text.length; end++) streamed.update(text.slice(0, end), true);
    const raws = (blocks: { raw: string }[]) => blocks.map((block) => block.raw.trim());
    expect(raws(streamed.update(text, true))).toEqual(raws(new Blocks().update(text, false)));
  });

  it("that cannot be set are shown as they were written", async () => {
    for (const source of ["$\\nonsense{x}$", "$\\frac{a$", "$x_1_2$", `$${"x".repeat(5000)}$`]) {
      const page = await show(source);
      expect(page.querySelector(".katex")).toBeNull();
      expect(page.textContent?.trim()).toBe(source);
    }
  });

  it("never end in an endless macro", async () => {
    const page = await show("$\\def\\a{\\a\\a}\\a$");
    expect(page.querySelector(".katex")).toBeNull();
  });

  it.each([
    "\\href{javascript:x()}{y}",
    "\\url{https://example.com}",
    "\\includegraphics{https://tracker.example/p.png}",
    "\\htmlClass{fixed inset-0}{y}",
    "\\htmlStyle{position:fixed}{y}",
    "\\htmlId{app}{y}",
    "\\htmlData{x=y}{z}",
    "\\text{<img src=x onerror=x()>}",
    "\\text{<script>x()</script>}",
  ])("bring nothing but type: %s", async (tex) => {
    const page = await show(`$${tex}$`);
    expect(page.querySelector("a, img, script, iframe, [id], [onerror], [href], [src], [data-x]")).toBeNull();
    expect(page.querySelector("[class*='inset'], [style*='fixed']")).toBeNull();
  });

  it("cannot ask for a size that covers the window", () => {
    expect(typeset("\\rule{9999em}{9999em}", false)).not.toContain("9999em;");
    expect(typeset("\\kern9999em x", false)).not.toContain("margin-right:9999em");
  });

  it("bear dollars without end", () => {
    const blocks = new Blocks();
    for (const text of ["$".repeat(20_000), "$a ".repeat(10_000), "\\(".repeat(10_000), "$$\n".repeat(5_000), "$\\".repeat(10_000)]) {
      expect(blocks.update(text, false).length).toBeGreaterThan(0);
    }
  });
});
