// Where words stand in what is on screen, over the borders of bold text, links and code.

/** More marks than this help nobody, and a letter alone would make one of every other. */
export const MOST_FOUND = 1000;

/** The places of `words` in these elements, in any case and in the order in which they are read. */
export function placesOf(words: string, roots: Iterable<Element>): Range[] {
  const wanted = words.toLowerCase();
  const found: Range[] = [];
  if (!wanted.trim()) return found;
  for (const root of roots) {
    const nodes = textsOf(root);
    const text = nodes.map((node) => folded(node.data)).join("");
    for (let at = text.indexOf(wanted); at >= 0 && found.length < MOST_FOUND; at = text.indexOf(wanted, at + wanted.length)) {
      const range = document.createRange();
      range.setStart(...spot(nodes, at));
      range.setEnd(...spot(nodes, at + wanted.length - 1, 1));
      found.push(range);
    }
  }
  return found;
}

/** Lower case that is as long as the text: a few letters become two, and keep their place as they are. */
function folded(text: string): string {
  const lower = text.toLowerCase();
  return lower.length === text.length ? lower : [...text].map((letter) => (letter.toLowerCase().length === letter.length ? letter.toLowerCase() : letter)).join("");
}

/** The texts of an element; what a button says is no part of what was written. */
function textsOf(root: Element): Text[] {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) => (node.parentElement?.closest("button, .sr-only") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  const nodes: Text[] = [];
  while (walker.nextNode()) nodes.push(walker.currentNode as Text);
  return nodes;
}

/** The node and the place in it of the `at`th letter of all of them together, `after` letters on. */
function spot(nodes: Text[], at: number, after = 0): [Text, number] {
  let left = at;
  for (const node of nodes) {
    if (left < node.length) return [node, left + after];
    left -= node.length;
  }
  throw new RangeError(`there is no letter ${at}`);
}
