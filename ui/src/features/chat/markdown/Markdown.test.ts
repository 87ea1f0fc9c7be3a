import { flushSync, mount, unmount } from "svelte";
import { afterEach, describe, expect, it } from "vitest";
import { linkQuestion } from "./links.svelte";
import Markdown from "./Markdown.svelte";

let shown: ReturnType<typeof mount> | null = null;

function show(source: string, streaming = false): HTMLElement {
  document.body.replaceChildren();
  shown = mount(Markdown, { target: document.body, props: { source, streaming } });
  flushSync();
  return document.body;
}

afterEach(async () => {
  if (shown) await unmount(shown);
  shown = null;
  linkQuestion.target = null;
});

describe("a stranger's text", () => {
  it.each([
    `<img src=x onerror="document.title='owned'">`,
    `<script>document.title="owned"</script>`,
    `inline <b onmouseover="x()">bold</b> html`,
    `<iframe srcdoc="<script>parent.x()</script>"></iframe>`,
    `<svg><animate onbegin=x() attributeName=x></svg>`,
    `<a href="javascript:x()">click</a>`,
    `<!-- comment --> after`,
    `<style>body{display:none}</style>`,
    `<math><mtext><img src=x onerror=x()></mtext></math>`,
  ])("renders %s as the characters it is", (source) => {
    for (const streaming of [true, false]) {
      const page = show(source, streaming);
      expect(page.textContent?.replaceAll("\u00a0", " ")).toContain(source);
      expect(page.querySelector("img, script, iframe, svg, style, math, b, a")).toBeNull();
    }
  });

  it.each(["javascript:x()", "JaVaScRiPt:x()", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//example.com", "tauri://localhost", "https://user:word@example.com/"])(
    "makes no link of %s",
    (href) => {
      const page = show(`[words](${href})`);
      expect(page.querySelector("a")).toBeNull();
      expect(page.textContent).toContain("words");
    },
  );

  it("says where a link leads and asks before it is opened", () => {
    const page = show("[harmless](https://evil.example/path)");
    const link = page.querySelector("a");
    expect(page.textContent).toContain("(evil.example)");
    const click = new MouseEvent("click", { bubbles: true, cancelable: true });
    link?.dispatchEvent(click);
    expect(click.defaultPrevented).toBe(true);
    expect(linkQuestion.target).toBe("https://evil.example/path");
  });

  it("does not load pictures: a picture is a link with its description", () => {
    const page = show("![my cat](https://tracker.example/pixel.png)");
    expect(page.querySelector("img")).toBeNull();
    expect(page.querySelector("a")?.textContent).toBe("Image: my cat");
  });

  it("turns character references into text, never into markup", () => {
    const page = show("&lt;img src=x&gt; &amp; &#60;b&#62; &unknown;");
    expect(page.textContent).toContain("<img src=x> & <b> &unknown;");
    expect(page.querySelector("img, b")).toBeNull();
  });

  it("escapes what stands in code", () => {
    const page = show("`<b>x</b>`\n\n```html\n<img src=x onerror=x()>\n```");
    expect(page.querySelector("b, img")).toBeNull();
    expect(page.querySelector("pre")?.textContent).toBe("<img src=x onerror=x()>");
  });

  it("bears nesting without end", () => {
    expect(show(`${"> ".repeat(5_000)}deep`).textContent).toContain("deep");
    expect(show(`${"*_".repeat(800)}deep`).textContent).toContain("deep");
  });
});

describe("Markdown", () => {
  it("shows lists, tables, tasks and headings", () => {
    const page = show("## Head\n\n1. one\n2. two\n\n- [x] done\n- [ ] open\n\n| a | b |\n| - | -: |\n| 1 | 2 |\n\n---\n\n~~gone~~");
    expect(page.querySelector("[data-level='2']")?.textContent).toBe("Head");
    expect([...page.querySelectorAll("ol > li")].map((item) => item.textContent?.trim())).toEqual(["one", "two"]);
    expect(page.querySelectorAll(".box")).toHaveLength(2);
    expect(page.querySelectorAll("td")).toHaveLength(2);
    expect(page.querySelector("hr")).not.toBeNull();
    expect(page.querySelector("del")?.textContent).toBe("gone");
  });

  it("labels code by the first word of its language", () => {
    expect(show("```python title=x\nx\n```").querySelector("figcaption span")?.textContent).toBe("python");
    expect(show("```\nx\n```").querySelector("figcaption span")?.textContent).toBe("text");
  });

  it("keeps finished blocks on the page while the next one grows", async () => {
    const page = show("First.\n\nSecond", true);
    const first = page.querySelector("p");
    expect(first?.textContent).toBe("First.");
    const grown = show("First.\n\nSecond grows.", true);
    expect(grown.querySelectorAll("p")).toHaveLength(2);
  });
});
