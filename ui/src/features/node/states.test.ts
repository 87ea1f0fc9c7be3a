import { describe, expect, it } from "vitest";
import type { ServingState } from "../../backend/types";
import { status } from "../../demo/world";
import { t } from "../../text";
import { line, powerSaid, say } from "./states";

const NOW = 1_800_000_000_000;
const error = { code: "x", message: "The port is closed.", fix: "Open it." };
const states: ServingState[] = [
  { kind: "off" },
  { kind: "preparing", step: "Loading the model", done: 1, total: 3 },
  { kind: "waiting", sinceMs: NOW - 120_000 },
  { kind: "serving", jobs: 1, tokensPerSecond: null },
  { kind: "paused_by_you", untilMs: NOW },
  { kind: "paused_by_you", untilMs: null },
  { kind: "paused_own_work" },
  { kind: "attention", error },
  { kind: "network_problem", error, lastGoodMs: NOW - 60_000 },
];

describe("lending in words", () => {
  it.each(states)("says $kind with a headline, a reason and a line", (serving) => {
    const now = { ...status(NOW), serving };
    const said = say(now, null, NOW);
    expect(said.headline).not.toBe("");
    expect(said.reason).not.toBe("");
    expect(line(now, null)).not.toBe("");
  });

  it("shows how long the last switch-off took, and only when off", () => {
    expect(say({ ...status(NOW), serving: { kind: "off" }, offMs: 412 }, null, NOW).reason).toMatch(/^Off in 0\.4 s\./);
    expect(say({ ...status(NOW), serving: { kind: "off" }, offMs: null }, null, NOW).reason).not.toContain("Off in");
  });

  it("counts one request as one", () => {
    expect(say({ ...status(NOW), serving: { kind: "serving", jobs: 1, tokensPerSecond: null } }, null, NOW).headline).toBe("Answering 1 request");
  });

  it("passes the fix on", () => {
    expect(say({ ...status(NOW), serving: { kind: "attention", error } }, null, NOW).reason).toBe("The port is closed. Open it.");
  });
});

describe("power in words", () => {
  const meter = { kind: "none" as const, detail: "", fix: null, idleMw: null, nowMw: null };

  it("is what the meter counts, or the person's figure under its name, or not measured", () => {
    expect(powerSaid(meter)).toEqual({ figure: null, unit: t.node.powerNone, note: null });
    expect(powerSaid({ ...meter, kind: "metered" })).toEqual({ figure: null, unit: t.node.powerNone, note: t.node.powerSoon });
    expect(powerSaid({ ...meter, kind: "metered", nowMw: 57_260 })).toEqual({ figure: "57.3", unit: "W", note: t.node.powerMetered });
    expect(powerSaid({ ...meter, kind: "metered", nowMw: 57_260, idleMw: 11_400 }).note).toBe(t.node.powerIdle("11.4"));
    expect(powerSaid({ ...meter, kind: "stated", nowMw: 65_000 })).toEqual({ figure: "65", unit: "W", note: t.node.powerStated });
    expect(powerSaid({ ...meter, kind: "stated", nowMw: 0 }).figure).toBe("0");
  });
});
