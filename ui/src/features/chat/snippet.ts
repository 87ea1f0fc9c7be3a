/** A search snippet: the core marks what matched with U+0001 … U+0002, which no text on screen contains. */
export function parts(snippet: string): { text: string; match: boolean }[] {
  const found: { text: string; match: boolean }[] = [];
  for (const [index, piece] of snippet.split("\u0001").entries()) {
    const end = index === 0 ? -1 : piece.indexOf("\u0002");
    if (end >= 0) found.push({ text: piece.slice(0, end), match: true });
    const rest = piece.slice(end + 1);
    if (rest) found.push({ text: rest, match: false });
  }
  return found;
}
