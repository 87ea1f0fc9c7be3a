import { describe, expect, it } from "vitest";
import { Blocks, type Block } from "./blocks";

const DOCUMENT = `# Bread

Rest it. **Cover** the dough, then \`fold\` it.

1. one
2. two

   still two
3. three

\`\`\`python
def f(x):

    return x
\`\`\`

| a | b |
| - | - |
| 1 | 2 |

> quoted
> twice

Last words with a [link](https://example.com) and *emphasis*.
`;

const raws = (blocks: Block[]): string[] => blocks.map((block) => block.raw.trimEnd());

/** Cuts of a fixed but irregular length, so that marks are split in every way. */
function pieces(text: string, lengths: number[]): string[] {
  const found: string[] = [];
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const next = lengths[turn % lengths.length] ?? 1;
    found.push(text.slice(at, at + next));
    at += next;
  }
  return found;
}

describe("blocks of a streaming answer", () => {
  it.each([[[1]], [[3, 1, 7]], [[5, 2]], [[40]]])("are the same as of the whole text, cut by %j", (lengths) => {
    const streamed = new Blocks();
    let text = "";
    for (const piece of pieces(DOCUMENT, lengths)) {
      text += piece;
      streamed.update(text, true);
    }
    const grown = raws(streamed.update(text, true));
    const whole = raws(new Blocks().update(DOCUMENT, false));
    expect(grown).toEqual(whole);
    expect(raws(streamed.update(text, false))).toEqual(whole);
  });

  it("keeps finished blocks as the same objects while text is appended", () => {
    const blocks = new Blocks();
    const before = blocks.update("First.\n\nSecond.\n\nThird", true);
    const after = blocks.update("First.\n\nSecond.\n\nThird grows.", true);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).toBe(before[1]);
    expect(after[2]).not.toBe(before[2]);
    expect(after.map((block) => block.key)).toEqual([0, 1, 2]);
  });

  it("keeps the key of the open block when it is finished, so that its place on the page is reused", () => {
    const blocks = new Blocks();
    const open = blocks.update("First", true).at(-1)?.key;
    const closed = blocks.update("First.\n\nSecond", true)[0]?.key;
    expect(closed).toBe(open);
  });

  it("parses each character about once, not once per token", () => {
    const blocks = new Blocks();
    const paragraph = "Twenty words of an answer stand here so that a block has the length that blocks have in life.\n\n";
    let text = "";
    for (let turn = 0; turn < 100; turn++) {
      for (const piece of pieces(paragraph, [8])) {
        text += piece;
        blocks.update(text, true);
      }
    }
    // Re-parsing everything would cost some six million characters; the open block alone, a dozen times its length.
    expect(blocks.parsed).toBeLessThan(text.length * 16);
  });

  it("closes open marks while streaming and leaves them as written at the end", () => {
    const blocks = new Blocks();
    const open = blocks.update("This is **bold", true)[0]?.token;
    expect(JSON.stringify(open)).toContain('"strong"');
    const ended = blocks.update("This is **bold", false)[0]?.token;
    expect(JSON.stringify(ended)).not.toContain('"strong"');
  });

  it("finds links that are defined below their use, once the answer is whole", () => {
    const text = "See [the page][1].\n\nMore.\n\n[1]: https://example.com/\n";
    const blocks = new Blocks();
    blocks.update(text, true);
    expect(JSON.stringify(blocks.update(text, false)[0]?.token)).toContain("https://example.com/");
  });

  it("starts over when the text is another one", () => {
    const blocks = new Blocks();
    blocks.update("One.\n\nTwo.", true);
    expect(raws(blocks.update("Else.", true))).toEqual(["Else."]);
  });

  it("takes line ends of any system", () => {
    expect(raws(new Blocks().update("One.\r\n\r\nTwo.", false))).toEqual(["One.", "Two."]);
  });

  it.each([
    ["quotes", ">".repeat(20_000)],
    ["lists", "- ".repeat(20_000)],
    ["brackets", "[".repeat(5_000)],
    ["stars", "*a ".repeat(3_000)],
    ["ticks", "`".repeat(5_001)],
    ["pipes", `${"|".repeat(2_000)}\n${"|-".repeat(2_000)}|`],
  ])("bears %s without end", (_, text) => {
    const blocks = new Blocks();
    expect(blocks.update(text, true).length).toBeGreaterThan(0);
    expect(blocks.update(text, false).length).toBeGreaterThan(0);
  });
});
