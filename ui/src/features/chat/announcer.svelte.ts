// What a screen reader is told of a streaming answer: whole sentences, never single tokens.

/** Short sentences are gathered until they are worth an announcement of their own. */
const LEAST_CHARS = 24;

/** Splits what can be said now from what must wait for its end. */
export function sentences(buffer: string): { say: string; rest: string } {
  let end = 0;
  for (const match of buffer.matchAll(/[.!?…:]["')\]]*\s+|\n+/g)) end = match.index + match[0].length;
  if (end < LEAST_CHARS) return { say: "", rest: buffer };
  return { say: buffer.slice(0, end).trim(), rest: buffer.slice(end) };
}

/** Marks of Markdown are noise when read aloud. */
export function spoken(markdown: string): string {
  return markdown
    .replace(/```[^\n]*\n?/g, " ")
    .replace(/[*_`#>|~]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}

class Announcer {
  text = $state("");
  private buffer = "";

  begin(): void {
    this.buffer = "";
    this.text = "";
  }

  hear(piece: string): void {
    const { say, rest } = sentences(this.buffer + piece);
    this.buffer = rest;
    if (say) this.text = spoken(say);
  }

  finish(ending: string): void {
    this.text = [spoken(this.buffer), ending].filter(Boolean).join(" ");
    this.buffer = "";
  }
}

export const announcer = new Announcer();
