// Markdown of an answer as blocks, parsed once each. While text streams in, only the last block is parsed again:
// an answer of a hundred paragraphs costs as much per token as its last one.
//
// The text is hostile (a stranger's computer wrote it). Nothing here makes HTML: tokens become Svelte components, what
// Markdown calls "html" stays the characters it is, and formulas are set by typeset.ts.
import { Marked, type Token, type Tokens } from "marked";
import remend from "remend";
import { math } from "./math";

export type Block = { key: number; raw: string; token: Token };

/** One reader for all answers; `gfm` brings tables, task lists and strikethrough, `math` formulas. */
const marked = new Marked({ gfm: true, breaks: false, async: false }, math);

/** A line that opens more quotes or lists than this is not prose; parsing it takes stack and time. */
const MAX_OPENINGS = 32;
const DEEP = new RegExp(`^[ \\t]*(?:(?:>[ \\t]?|(?:[-*+]|\\d{1,9}[.)])[ \\t]+)){${MAX_OPENINGS},}`, "m");

function lex(markdown: string): Token[] {
  if (DEEP.test(markdown)) return [plain(markdown)];
  try {
    return marked.lexer(markdown);
  } catch {
    return [plain(markdown)];
  }
}

function plain(text: string): Tokens.Paragraph {
  return { type: "paragraph", raw: text, text, tokens: [{ type: "text", raw: text, text, escaped: false }] };
}

/** Blank lines and link definitions are read, and not seen. */
function visible(token: Token): boolean {
  return token.type !== "space" && token.type !== "def";
}

export class Blocks {
  /** Finished blocks: nothing that is appended can reach them any more. */
  private closed: Block[] = [];
  /** The text that they stand for. */
  private closedText = "";
  private seen: { source: string; streaming: boolean; blocks: Block[] } | null = null;
  /** How many characters were parsed in all: the measure of reuse. */
  parsed = 0;

  /** The blocks of `source`; those that did not change are the same objects as before. */
  update(text: string, streaming: boolean): Block[] {
    const source = text.replace(/\r\n?/g, "\n");
    if (this.seen?.source === source && this.seen.streaming === streaming) return this.seen.blocks;
    const blocks = streaming ? this.grow(source) : this.whole(source);
    this.seen = { source, streaming, blocks };
    return blocks;
  }

  private grow(source: string): Block[] {
    if (!source.startsWith(this.closedText)) {
      this.closed = [];
      this.closedText = "";
    }
    const tail = source.slice(this.closedText.length);
    this.parsed += tail.length;
    const found = lex(tail);
    const last = found.findLastIndex(visible);
    const before = found.slice(0, Math.max(last, 0));
    // Closing needs to know where in the source a token ended.
    const end = before.reduce((sum, token) => sum + token.raw.length, 0);
    const sound = found.reduce((sum, token) => sum + token.raw.length, 0) === tail.length;
    if (!sound) {
      return [...this.closed, ...found.filter(visible).map((token, index) => ({ key: this.closed.length + index, raw: token.raw, token }))];
    }
    for (const token of before) if (visible(token)) this.closed.push({ key: this.closed.length, raw: token.raw, token });
    this.closedText += tail.slice(0, end);
    const open = found[last];
    return open ? [...this.closed, { key: this.closed.length, raw: open.raw, token: heal(open) }] : [...this.closed];
  }

  /** Read once more as a whole, since a link may be defined below its use. */
  private whole(source: string): Block[] {
    this.parsed += source.length;
    const found = lex(source);
    const linked = found.some((token) => token.type === "def");
    return found.filter(visible).map((token, key) => {
      const known = linked ? undefined : this.closed[key];
      return known?.raw === token.raw ? known : { key, raw: token.raw, token };
    });
  }
}

/** Closes emphasis, code and links that are still being written, so that their marks do not flicker. */
function heal(token: Token): Token {
  if (token.type === "code" || token.type === "html" || token.type === "math") return token;
  const closed = remend(token.raw, { linkMode: "text-only", htmlTags: false, images: false, katex: false });
  if (closed === token.raw) return token;
  return lex(closed).find(visible) ?? token;
}
