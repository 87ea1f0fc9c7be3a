import type { AnswerEvent, Message, MoveReason } from "../../backend/types";

/** One message on screen. Text grows while it streams; the rest is replaced as a whole. */
export class Turn {
  readonly id: string;
  message = $state.raw<Message>() as Message;
  text = $state("");
  reasoning = $state("");
  /** When the first word of reasoning came, to count "Thought for …" until the core has measured it. */
  reasoningSince: number | null = null;
  reasoningMs = $state<number | null>(null);

  constructor(message: Message) {
    this.id = message.id;
    this.take(message);
  }

  streaming = $derived(this.message.state === "streaming");
  thinking = $derived(this.streaming && this.reasoning !== "" && this.text === "");
  remote = $derived(this.message.spans.some((span) => span.peer !== null));

  take(message: Message): void {
    this.message = message;
    // A snapshot of a running answer may be behind what has been streamed here.
    if (message.state !== "streaming" || message.content.length > this.text.length) this.text = message.content;
    const reasoning = message.reasoning ?? "";
    if (message.state !== "streaming" || reasoning.length > this.reasoning.length) this.reasoning = reasoning;
    if (message.reasoningMs !== null) this.reasoningMs = message.reasoningMs;
  }

  append(event: Extract<AnswerEvent, { kind: "text" }>, now: number): void {
    if (event.reasoning) {
      this.reasoningSince ??= now;
      this.reasoning += event.append;
    } else {
      if (this.reasoningSince !== null && this.reasoningMs === null) this.reasoningMs = now - this.reasoningSince;
      this.text += event.append;
    }
  }

  /** Who writes from here on. */
  place(peer: string | null, index: number, why: MoveReason | null): void {
    const spans = [...this.message.spans, { fromIndex: index, peer, receipt: null, why }];
    this.message = { ...this.message, spans };
  }
}
