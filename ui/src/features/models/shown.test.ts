import { describe, expect, it } from "vitest";
import { modelRows } from "../../demo/world";
import { shown } from "./shown";

const rows = modelRows(false);

describe("the models table", () => {
  it("filters by place", () => {
    expect(shown(rows, "here", "").every((row) => row.state.kind !== "absent")).toBe(true);
    expect(shown(rows, "peers", "").every((row) => row.peers > 0)).toBe(true);
    expect(shown(rows, "all", "")).toHaveLength(rows.length);
  });
  it("finds every word in any column, in any case", () => {
    expect(shown(rows, "all", "LLAMA 3.2").map((row) => row.name)).toEqual(["Llama 3.2 3B"]);
    expect(shown(rows, "all", "mit thinks").map((row) => row.name)).toEqual(["DeepSeek R1 Distill 8B"]);
    expect(shown(rows, "all", "nothing such")).toEqual([]);
  });
});
