import { describe, expect, it } from "vitest";
import { placesOf } from "./find";

function written(html: string): Element {
  const root = document.createElement("div");
  root.innerHTML = html;
  return root;
}
const found = (words: string, ...html: string[]) => placesOf(words, html.map(written)).map(String);

describe("words in a chat", () => {
  it("are found in any case, each once, in their order", () => {
    expect(found("water", "Water, then <b>more WATER</b>", "no", "waterwater")).toEqual(["Water", "WATER", "water", "water"]);
  });
  it("are found over the borders of bold text and code", () => {
    expect(found("rest it now", "<p><strong>Rest it</strong> <code>now</code></p>")).toEqual(["Rest it now"]);
  });
  it("are what was written, and not what a button says", () => {
    expect(found("copy", "<figure><button>Copy</button>copy that</figure>")).toEqual(["copy"]);
  });
  it("keep their place behind letters whose small form is longer", () => {
    expect(found("x", "İİx")).toEqual(["x"]);
  });
  it("are nothing where nothing is looked for", () => {
    expect(found(" ", "a b")).toEqual([]);
    expect(found("zebra", "a b")).toEqual([]);
  });
});
