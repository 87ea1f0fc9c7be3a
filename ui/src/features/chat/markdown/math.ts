// Formulas in Markdown, as an extension of the reader: `$…$` and `\(…\)` within a line, `$$…$$` and `\[…\]` set apart.
//
// A formula is one only when it is closed: what is still being written stays the text it is, and so does "$5 and $6".
// Like TeX itself, no formula contains a blank line; so an unclosed one cannot reach further than its paragraph.
import type { MarkedExtension, TokenizerThis, Tokens } from "marked";

export type MathToken = Tokens.Generic & { type: "math"; raw: string; tex: string; display: boolean };

const BLANK_LINE = /\n[ \t]*\n/;

/** A dollar opens only before something that is no space, and closes only behind such, before no letter or digit. */
const DOLLAR = /^\$(?![\s$])((?:\\[^\n]|[^\\$])+)\$(?!\w)/;
const DOLLARS = /^\$\$(?!\$)((?:\\[\s\S]|[^\\$]|\$(?!\$))+)\$\$/;
const ROUND = /^\\\(((?:[^\\]|\\(?![()]))+)\\\)/;
const SQUARE = /^\\\[((?:[^\\]|\\(?![[\]]))+)\\\]/;

/** Where a formula may begin: no dollar behind a word ("US$5") or a backslash, no bracket behind two of them. */
const INLINE_START = /(?<![\w\\$])\$|(?<!\\)\\[([]/;
const BLOCK_START = /(?<=^|\n) {0,3}(?:\$\$|\\\[)/;
const BLOCK_OPENING = /^ {0,3}(?=\$\$|\\\[)/;

function formula(src: string): MathToken | undefined {
  for (const [mark, display] of [[DOLLARS, true], [DOLLAR, false], [SQUARE, true], [ROUND, false]] as const) {
    const found = mark.exec(src);
    const tex = found?.[1] ?? "";
    if (!found || tex.trim() === "" || BLANK_LINE.test(tex) || (mark === DOLLAR && /\s$/.test(tex))) continue;
    return { type: "math", raw: found[0], tex: tex.trim(), display };
  }
  return undefined;
}

/** Where a paragraph ends because a formula begins; a formula that began within its lines ends there instead. */
function blockStart(src: string): number | undefined {
  const at = BLOCK_START.exec(src)?.index;
  const open = src.slice(0, at).split("$$").length % 2 === 0;
  return open ? undefined : at;
}

export const math: MarkedExtension = {
  tokenizer: {
    // A line of "=" makes a heading of all the lines above it, but not of a formula that begins among them.
    lheading: (src: string) => {
      const line = /\n {0,3}(?:=+|-+)[ \t]*(?:\n|$)/.exec(src)?.index ?? 0;
      return blockStart(src.slice(1, line)) === undefined ? false : undefined;
    },
  },
  extensions: [
    {
      name: "mathBlock",
      level: "block",
      start: blockStart,
      tokenizer(this: TokenizerThis, src: string): Tokens.Generic | undefined {
        const indent = BLOCK_OPENING.exec(src)?.[0];
        if (indent === undefined) return undefined;
        const found = formula(src.slice(indent.length));
        const rest = found && /^[ \t]*(?:\n+|$)/.exec(src.slice(indent.length + found.raw.length))?.[0];
        if (found && rest !== undefined) return { ...found, raw: indent + found.raw + rest };
        // Unclosed, or with words behind it. The lines of a formula look like lists and headings ("+ b", "= c"), so the
        // paragraph is kept whole while the end may still come.
        const end = BLANK_LINE.exec(src)?.index ?? src.length;
        const raw = src.slice(0, end);
        const text = raw.trim();
        return { type: "paragraph", raw, text, tokens: this.lexer.inline(text, []) };
      },
    },
    {
      name: "mathInline",
      level: "inline",
      start: (src: string) => INLINE_START.exec(src)?.index,
      tokenizer: (src: string) => formula(src),
    },
  ],
};
