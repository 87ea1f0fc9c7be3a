// The message tree as the window sees it: one path from the root, with the siblings of each message on it.
import { type Message, type MoveReason, paidOf, type Span } from "../../backend/types";
import { sum } from "../../lib/amount";

/** Where a message stands among the versions of its place. Versions are numbered from 1, oldest first. */
export type Branch = { at: number; all: number; before: string | null; after: string | null };

export function branchOf(message: Pick<Message, "id" | "siblings">): Branch | null {
  const all = message.siblings.length;
  const index = message.siblings.indexOf(message.id);
  if (all < 2 || index < 0) return null;
  return { at: index + 1, all, before: message.siblings[index - 1] ?? null, after: message.siblings[index + 1] ?? null };
}

/** The path after an answer started: what hangs below its parent is another branch and leaves the screen. */
export function pathWith<T extends { id: string }>(path: readonly T[], parent: string | null, added: readonly T[]): T[] {
  if (parent === null) return [...added];
  const at = path.findIndex((turn) => turn.id === parent);
  return [...(at < 0 ? path : path.slice(0, at + 1)), ...added];
}

/** The first message that the model still reads, when older ones are left out. */
export function cutBefore(messages: readonly Pick<Message, "id" | "leftOut">[]): string | null {
  const first = messages.findIndex((message) => !message.leftOut);
  return first > 0 ? (messages[first]?.id ?? null) : null;
}

/** The moves within one answer: where another computer than before went on, and why. */
export function moves(spans: readonly Span[]): { index: number; peer: string | null; why: MoveReason | null }[] {
  return spans.flatMap((span, at) => {
    const same = at === 0 || span.peer === spans[at - 1]?.peer;
    return same ? [] : [{ index: span.fromIndex, peer: span.peer, why: span.why }];
  });
}

/** One receipt per peer's part of an answer, in order. */
export function receipts(spans: readonly Span[]): string[] {
  return spans.flatMap((span) => (span.receipt === null ? [] : [span.receipt]));
}

/** What all parts of an answer were paid together, in base units; null where nothing is known to have been paid. */
export function paid(spans: readonly Span[]): bigint | null {
  const known = spans.flatMap((span) => paidOf(span) ?? []);
  return known.length === 0 ? null : sum(known);
}
