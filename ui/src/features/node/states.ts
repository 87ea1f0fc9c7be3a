// Each state of lending in words: one headline with its reason for the page, one short line for the foot switch.
import type { Meter, NodeStatus, ServingState } from "../../backend/types";
import { ago, clock, duration, figure } from "../../lib/format";
import { t } from "../../text";

export type Tone = "off" | "on" | "busy" | "paused" | "bad";
export type Said = { tone: Tone; headline: string; reason: string };

export function say(status: NodeStatus, wanted: boolean | null, now: number): Said {
  const { serving, servingModel } = status;
  if (wanted === true && serving.kind === "off") return { tone: "busy", headline: t.node.switchingOn, reason: t.node.offReason };
  if (wanted === false && serving.kind !== "off") return { tone: "busy", headline: t.node.switchingOff, reason: t.node.switchingOffReason };
  switch (serving.kind) {
    case "off":
      return { tone: "off", headline: t.node.off, reason: status.offMs === null ? t.node.offReason : `${t.node.offIn(duration(status.offMs))} ${t.node.offReason}` };
    case "preparing":
      return { tone: "busy", headline: t.node.preparing, reason: serving.step };
    case "waiting": {
      const since = ago(serving.sinceMs, now);
      return { tone: "on", headline: t.node.waiting, reason: servingModel ? t.node.waitingSince(servingModel, since) : t.node.waitingNoModel(since) };
    }
    case "serving":
      return { tone: "on", headline: t.node.serving(serving.jobs), reason: servingModel ? t.node.servingReason(servingModel) : t.node.servingReasonBare };
    case "paused_by_you":
      return { tone: "paused", headline: t.node.pausedYou, reason: serving.untilMs === null ? t.node.pausedOpen : t.node.pausedUntil(clock(serving.untilMs)) };
    case "paused_own_work":
      return { tone: "paused", headline: t.node.pausedOwn, reason: t.node.pausedOwnReason };
    case "attention":
      return { tone: "bad", headline: t.node.attention, reason: withFix(serving.error.message, serving.error.fix) };
    case "network_problem": {
      const good = serving.lastGoodMs === null ? null : t.node.lastGood(ago(serving.lastGoodMs, now));
      return { tone: "bad", headline: t.node.network, reason: withFix(serving.error.message, good ?? serving.error.fix) };
    }
  }
}

function withFix(message: string, fix: string | null): string {
  return fix ? `${message} ${fix}` : message;
}

export function line(status: NodeStatus, wanted: boolean | null): string {
  if (wanted !== null) return t.node.lineSwitching;
  const state = lineState(status.serving);
  return status.serving.kind === "off" && status.answeredToday === 0 ? state : t.node.lineToday(state, status.answeredToday);
}

function lineState(serving: ServingState): string {
  switch (serving.kind) {
    case "off":
      return t.node.lineOff;
    case "preparing":
      return t.node.linePreparing;
    case "waiting":
      return t.node.lineWaiting;
    case "serving":
      return t.node.lineServing(serving.jobs);
    case "paused_by_you":
      return t.node.linePaused;
    case "paused_own_work":
      return t.node.lineOwn;
    case "attention":
      return t.node.lineAttention;
    case "network_problem":
      return t.node.lineNetwork;
  }
}

/** Watts of now with what they are; without a figure `unit` says so, and `note` null stands for what the person can do. */
export function powerSaid(meter: Meter): { figure: string | null; unit: string; note: string | null } {
  if (meter.nowMw === null) return { figure: null, unit: t.node.powerNone, note: meter.kind === "metered" ? t.node.powerSoon : null };
  const watts = (milliwatts: number) => figure(Math.round(milliwatts / 100) / 10);
  if (meter.kind === "stated") return { figure: watts(meter.nowMw), unit: t.node.powerUnit, note: t.node.powerStated };
  return { figure: watts(meter.nowMw), unit: t.node.powerUnit, note: meter.idleMw === null ? t.node.powerMetered : t.node.powerIdle(watts(meter.idleMw)) };
}
