import { describe, expect, it } from "vitest";
import { branchOf, cutBefore, moves, paid, pathWith, receipts } from "./branches";

const turn = (id: string) => ({ id });

describe("branches", () => {
  it("count from one, oldest first, and know their neighbours", () => {
    expect(branchOf({ id: "b", siblings: ["a", "b", "c"] })).toEqual({ at: 2, all: 3, before: "a", after: "c" });
    expect(branchOf({ id: "a", siblings: ["a", "b"] })).toEqual({ at: 1, all: 2, before: null, after: "b" });
  });

  it("are not shown for a message without versions", () => {
    expect(branchOf({ id: "a", siblings: ["a"] })).toBeNull();
    expect(branchOf({ id: "a", siblings: ["x", "y"] })).toBeNull();
  });
});

describe("the path after an answer started", () => {
  const path = ["q1", "a1", "q2", "a2"].map(turn);

  it("grows at its end", () => {
    expect(pathWith(path, "a2", [turn("q3"), turn("a3")]).map((entry) => entry.id)).toEqual(["q1", "a1", "q2", "a2", "q3", "a3"]);
  });
  it("is cut below an edited question", () => {
    expect(pathWith(path, "a1", [turn("q2b"), turn("a2b")]).map((entry) => entry.id)).toEqual(["q1", "a1", "q2b", "a2b"]);
  });
  it("is cut below the question that is answered again", () => {
    expect(pathWith(path, "q1", [turn("a1b")]).map((entry) => entry.id)).toEqual(["q1", "a1b"]);
  });
  it("begins anew at the root", () => {
    expect(pathWith(path, null, [turn("q1b"), turn("a1b")]).map((entry) => entry.id)).toEqual(["q1b", "a1b"]);
  });
  it("loses nothing when the parent is not on screen", () => {
    expect(pathWith(path, "elsewhere", [turn("a")])).toHaveLength(5);
  });
});

describe("the cut of a full context", () => {
  it("stands before the first message that is still read", () => {
    expect(cutBefore([{ id: "a", leftOut: true }, { id: "b", leftOut: true }, { id: "c", leftOut: false }])).toBe("c");
  });
  it("is absent while everything is read", () => {
    expect(cutBefore([{ id: "a", leftOut: false }])).toBeNull();
    expect(cutBefore([])).toBeNull();
  });
});

describe("spans", () => {
  const spans = [
    { fromIndex: 0, peer: "p", receipt: "r1", why: null },
    { fromIndex: 57, peer: null, receipt: null, why: "gone" as const },
    { fromIndex: 90, peer: "q", receipt: "r2", why: null },
  ];
  it("after the first are moves", () => {
    expect(moves(spans)).toEqual([
      { index: 57, peer: null, why: "gone" },
      { index: 90, peer: "q", why: null },
    ]);
  });
  it("by the same computer are none", () => {
    const part = (fromIndex: number, peer: string | null) => ({ fromIndex, peer, receipt: null, why: null });
    expect(moves([part(0, null), part(80, null)])).toEqual([]);
    expect(moves([part(0, "p"), part(80, "p"), part(90, null)])).toEqual([{ index: 90, peer: null, why: null }]);
  });
  it("of peers carry receipts", () => {
    expect(receipts(spans)).toEqual(["r1", "r2"]);
  });
});

describe("what an answer was paid", () => {
  const span = (paid?: string | null) => ({ fromIndex: 0, peer: "p", receipt: "r", why: null, ...(paid === undefined ? {} : { paid }) });

  it("is the sum over its parts, to the last unit", () => {
    expect(paid([span("9007199254740993"), span("2")])).toBe(9007199254740995n);
  });

  it("is nothing where no part is known to have been paid", () => {
    expect(paid([span(), span(null)])).toBeNull();
    expect(paid([span("0")])).toBe(0n);
  });
});
