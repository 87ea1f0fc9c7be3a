import { describe, expect, it } from "vitest";
import { ago, bytes, bytesOf, context, dayGroup, duration, shortPeer, short, shortId, speed } from "./format";

describe("figures", () => {
  it("sizes are decimal", () => {
    expect([0, 12_000, 98_362_432, 2.46e9].map(bytes)).toEqual(["0 MB", "12 kB", "98 MB", "2.5 GB"]);
    expect(bytesOf(1.02e9, 2.5e9)).toBe("1.0 of 2.5 GB");
    expect(bytesOf(300e6, 2.5e9)).toBe("300 MB of 2.5 GB");
  });
  it("counts are short in meters", () => {
    expect([0, 999, 1400, 1000, 12_345].map(short)).toEqual(["0", "999", "1.4k", "1k", "12k"]);
    expect([8192, 131_072, 4000].map(context)).toEqual(["8k", "128k", "4k"]);
  });
  it("speeds have one decimal below ten", () => {
    expect([9.44, 9.96, 31.4].map(speed)).toEqual(["9.4", "10", "31"]);
  });
  it("times are as long as they are worth", () => {
    expect([0, 40, 412, 12_300, 100_000, 5_400_000, 7_200_000].map(duration)).toEqual(["0.0 s", "0.1 s", "0.4 s", "12 s", "2 min", "1 h 30 min", "2 h"]);
  });
  it("days are calendar days", () => {
    const noon = new Date(2026, 10, 23, 12).getTime();
    const hour = 3_600_000;
    expect(dayGroup(noon - 11 * hour, noon)).toBe("today");
    expect(dayGroup(noon - 13 * hour, noon)).toBe("yesterday");
    expect(dayGroup(noon - 36 * hour, noon)).toBe("yesterday");
    expect(dayGroup(noon - 37 * hour, noon)).toBe("week");
    expect(dayGroup(noon - 9 * 24 * hour, noon)).toBe("older");
    expect(ago(noon - 90_000, noon)).toBe("1 min ago");
  });
  it("peers are named by what differs", () => {
    expect(shortPeer("12D3KooWQ7oAhtZ8wGqJ5nVbXk3fRz2yPdLcEmT4uNsY6aKjx9Qa")).toBe("Kjx9Qa");
  });
  it("identifiers keep both ends", () => {
    expect(shortId("12D3KooWQ7oAhtZ8wGq9Qa")).toBe("12D3Ko…q9Qa");
    expect(shortId("short")).toBe("short");
  });
});
