import { describe, expect, it } from "vitest";
import { keysOf } from "./keys";

describe("keys", () => {
  it("are named as on the keyboard of the computer", () => {
    expect(keysOf("Mod N", false)).toBe("Ctrl N");
    expect(keysOf("Mod N", true)).toBe("⌘ N");
    expect(keysOf("Shift Enter", true)).toBe("⇧ Enter");
  });
});
