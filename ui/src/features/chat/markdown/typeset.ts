// Formulas as pages of type. Loaded with the first formula.
//
// The TeX is a stranger's. KaTeX runs it without trust (no links, pictures, classes or files) and with caps, and what it
// gives passes an allow list once more before it becomes markup: nothing but boxes, lines and MathML.
import DOMPurify from "dompurify";
import katex from "katex";
import "katex/dist/katex.min.css";

/** A page of TeX. Longer text in one formula is not mathematics. */
const MAX_CHARS = 4000;
/** Macros that a formula may unfold; KaTeX's own is meant for whole documents. */
const MAX_EXPANSIONS = 200;
/** Sizes given in the TeX end here, so that no formula draws over what is not its own. */
const MAX_EM = 20;

// prettier-ignore
const ALLOWED_TAGS = [
  "span", "svg", "path", "line",
  "math", "semantics", "annotation", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mstyle", "mpadded", "mphantom", "menclose",
  "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd",
];
// prettier-ignore
const ALLOWED_ATTR = [
  "class", "style", "aria-hidden", "xmlns", "encoding", "display", "viewBox", "preserveAspectRatio", "width", "height", "d",
  "x1", "x2", "y1", "y2", "stroke-width", "mathvariant", "stretchy", "fence", "separator", "accent", "accentunder", "lspace", "rspace",
  "linethickness", "columnalign", "columnspacing", "rowspacing", "scriptlevel", "displaystyle", "movablelimits", "minsize", "maxsize",
  "mathcolor", "mathbackground", "mathsize", "notation", "voffset",
];

/** Markup of a formula that may be put on the page, or null when it is not one that can be set. */
export function typeset(tex: string, display: boolean): string | null {
  if (tex.length > MAX_CHARS) return null;
  try {
    const html = katex.renderToString(tex, {
      displayMode: display,
      throwOnError: true,
      trust: false,
      strict: "ignore",
      maxExpand: MAX_EXPANSIONS,
      maxSize: MAX_EM,
    });
    return DOMPurify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
  } catch {
    return null;
  }
}
