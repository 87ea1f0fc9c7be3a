// Markdown allows HTML's character references in text. The window shows text nodes only, so they are turned into
// their characters here: the common names and all numbers; an unknown name stays as it was written.
const NAMED: Record<string, string> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  reg: "®",
  trade: "™",
  hellip: "…",
  mdash: "—",
  ndash: "–",
  lsquo: "‘",
  rsquo: "’",
  ldquo: "“",
  rdquo: "”",
  laquo: "«",
  raquo: "»",
  bull: "•",
  middot: "·",
  deg: "°",
  plusmn: "±",
  times: "×",
  divide: "÷",
  le: "≤",
  ge: "≥",
  ne: "≠",
  rarr: "→",
  larr: "←",
  euro: "€",
  pound: "£",
};

export function decode(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z]{2,8}));/g, (raw, decimal, hex, name) => {
    if (name) return NAMED[name as string] ?? raw;
    const point = decimal ? Number.parseInt(decimal as string, 10) : Number.parseInt(hex as string, 16);
    const outside = point === 0 || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff);
    return outside ? "\ufffd" : String.fromCodePoint(point);
  });
}
