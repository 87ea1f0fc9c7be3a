import { describe, expect, it } from "vitest";
import { parts } from "./snippet";

describe("a search snippet", () => {
  it("shows what matched", () => {
    expect(parts("too little \u0001water\u0002 for the \u0001water\u0002")).toEqual([
      { text: "too little ", match: false },
      { text: "water", match: true },
      { text: " for the ", match: false },
      { text: "water", match: true },
    ]);
  });
  it("bears missing marks", () => {
    expect(parts("\u0001open")).toEqual([{ text: "open", match: false }]);
    expect(parts("plain")).toEqual([{ text: "plain", match: false }]);
    expect(parts("")).toEqual([]);
  });
});
