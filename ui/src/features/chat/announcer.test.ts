import { describe, expect, it } from "vitest";
import { sentences, spoken } from "./announcer.svelte";

describe("announcements", () => {
  it("wait for the end of a sentence", () => {
    expect(sentences("The capital of France is").say).toBe("");
    expect(sentences("The capital of France is Paris. It li")).toEqual({ say: "The capital of France is Paris.", rest: "It li" });
  });
  it("are not made of crumbs", () => {
    expect(sentences("Yes. ").say).toBe("");
    expect(sentences("Yes. That is what I would do. ").say).toBe("Yes. That is what I would do.");
  });
  it("leave out the marks of Markdown", () => {
    expect(spoken("**Rest it.** Use `fold`\n\n```python\nx\n```")).toBe("Rest it. Use fold x");
  });
});
