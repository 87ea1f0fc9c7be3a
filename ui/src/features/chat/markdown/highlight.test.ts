import { describe, expect, it } from "vitest";
import { highlight } from "./highlight";

describe("highlighting", () => {
  it("cuts code into runs that are the code again", () => {
    const code = "def f(x):\n    return x  # <b>note</b>\n";
    const runs = highlight(code, "python") ?? [];
    expect(runs.map((run) => run.text).join("")).toBe(code);
    expect(runs.some((run) => run.kind === "keyword" && run.text === "def")).toBe(true);
    expect(runs.some((run) => run.kind === "comment")).toBe(true);
  });

  it("leaves a language that it does not know alone", () => {
    expect(highlight("x", "brainfog")).toBeNull();
  });
});
