// The vocabulary of the core as the window uses it: the generated types under one roof.
import type { Answered, Settings, Span } from "../bindings";
import type { MoneySettings } from "./money";

export type {
  Answered,
  AnswerEvent,
  AppInfo,
  ChatPatch,
  ChatSummary,
  ChatView,
  Check,
  CommunityModel,
  CommunityView,
  Dragged,
  ErrorView,
  Fit,
  Invite,
  Link,
  LogLine,
  Message,
  MessageState,
  Meter,
  ModelRow,
  MoveReason,
  ModelsView,
  ModelState,
  NodeStatus,
  OnFull,
  Peer,
  PeerChoice,
  Phase,
  Place,
  Preset,
  Reachability,
  Receipt,
  Sampling,
  SearchHit,
  ServingState,
  Settings,
  SourceView,
  Span,
  Theme,
} from "../bindings";

export type * from "./money";

/** What a span's receipt was paid, in base units; null where nothing was, or it is not known. */
export function paidOf(span: Span): string | null {
  return (span as Span & { paid?: string | null }).paid ?? null;
}

/** The change of the settings that changes this about money. */
export function withMoney(settings: Settings, change: Partial<MoneySettings>): Partial<Settings> {
  return { money: { ...settings.money, ...change } };
}
