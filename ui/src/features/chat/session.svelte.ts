// One conversation as it is open in the window: its path, its running answer, and the question that must be
// settled before something is sent (consent, a full context).
import { backend, errorView } from "../../backend/backend";
import type { AnswerEvent, ChatPatch, ChatView, ErrorView, ModelRow, Phase, Place, Sampling } from "../../backend/types";
import { unlistedName } from "../../lib/community.svelte";
import { models } from "../../lib/models.svelte";
import { attempt } from "../../lib/toasts.svelte";
import { t } from "../../text";
import { announcer } from "./announcer.svelte";
import { pathWith } from "./branches";
import { Turn } from "./turn.svelte";

/** What is about to be asked: `text` null answers the user message `parent` again, or goes on with its answer `from`. */
export type Ask = { parent: string | null; text: string | null; from?: string };
export type Progress = { phase: Phase; done: number; total: number; peer: string | null };
/** Consent or a choice about the full context, with what waits for it. */
export type Pending = { kind: "consent" | "full"; ask: Ask };

export const UNSAVED = "";

/** How freely a model chooses its words unless told otherwise: the starter loses the thread with any chance in them. */
function temperatureFor(model: Pick<ModelRow, "starter"> | null): number {
  return model?.starter ? 0 : 0.7;
}

/** What a new chat with this model begins with. */
export function usualSampling(model: ModelRow | null): Sampling {
  return { temperature: temperatureFor(model), topK: 40, topP: 0.95, minP: 0.05, repeatPenalty: 1, maxOut: 1024, seed: null };
}

export function blankChat(temporary: boolean, place: Place, model: ModelRow | null = null): ChatView {
  return {
    id: UNSAVED,
    title: "",
    pinned: false,
    temporary,
    model: null,
    unlisted: null,
    place,
    peer: null,
    consented: false,
    systemPrompt: null,
    sampling: usualSampling(model),
    onFull: "ask",
    messages: [],
    contextUsed: 0,
    contextLimit: 0,
  };
}

export class Session {
  view = $state.raw<ChatView>() as ChatView;
  turns = $state.raw<Turn[]>([]);
  draft = $state("");
  progress = $state.raw<Progress | null>(null);
  pending = $state.raw<Pending | null>(null);
  problem = $state.raw<ErrorView | null>(null);
  /** An answer asked from this window is on its way. */
  running = $state(false);
  stopping = $state(false);
  summarising = $state(false);
  /** Tokens that the draft would add; null while it is not known. */
  draftTokens = $state<number | null>(null);
  /** Changes made before the chat exists in the core. */
  private unsaved: ChatPatch = {};

  saved = $derived(this.view.id !== UNSAVED);
  answering = $derived(this.running || this.turns.some((turn) => turn.streaming));
  leaf = $derived(this.turns.at(-1)?.id ?? null);
  used = $derived(this.draftTokens ?? this.view.contextUsed);

  constructor(view: ChatView) {
    this.take(view);
  }

  /** A newer view of the core: messages that are on screen keep their place and their parsed text. */
  take(view: ChatView): void {
    const known = new Map(this.turns.map((turn) => [turn.id, turn]));
    this.view = view;
    this.turns = view.messages.map((message) => {
      const turn = known.get(message.id);
      if (!turn) return new Turn(message);
      turn.take(message);
      return turn;
    });
    this.draftTokens = null;
  }

  async reload(): Promise<void> {
    if (this.saved && !this.view.temporary) this.take(await backend().chatOpen(this.view.id));
  }

  /** A chat that is not written to disk; chosen before the first message, and what was typed and set stays. */
  setTemporary(temporary: boolean): void {
    if (!this.saved) this.view = { ...this.view, temporary };
  }

  async update(patch: ChatPatch): Promise<void> {
    if (!this.saved) {
      this.unsaved = { ...this.unsaved, ...patch };
      this.view = { ...this.view, ...patch };
      return;
    }
    const before = this.view;
    this.view = { ...before, ...patch };
    const view = await attempt(backend().chatUpdate(before.id, patch));
    if (view) this.view = { ...this.view, ...settingsOf(view) };
    else this.view = { ...this.view, ...settingsOf(before) };
  }

  /** Another model for this chat; a temperature that was not chosen by hand becomes that model's own. */
  async useModel(row: Pick<ModelRow, "id" | "starter"> | null, more: ChatPatch = {}): Promise<void> {
    const unlisted = unlistedName(this.view.model, this.view.unlisted) !== null;
    const before = temperatureFor(unlisted ? null : (models.find(this.view.model) ?? models.preferred));
    const after = temperatureFor(row ?? models.preferred);
    const sampling = this.view.sampling;
    const follow = sampling.temperature === before && before !== after ? { sampling: { ...sampling, temperature: after } } : {};
    await this.update({ model: row?.id ?? null, ...follow, ...more });
  }

  /** Sends the draft, or stops to ask first. The words stay in the composer until they are on their way. */
  async sendDraft(): Promise<void> {
    const text = this.draft.trim();
    if (!text || this.answering || this.pending) return;
    const { contextLimit, onFull } = this.view;
    if (onFull === "ask" && contextLimit > 0 && this.used > contextLimit) {
      this.pending = { kind: "full", ask: { parent: this.leaf, text } };
      return;
    }
    await this.ask({ parent: this.leaf, text });
  }

  async ask(ask: Ask): Promise<void> {
    if (this.answering) return;
    this.problem = null;
    if (this.view.place !== "local" && !this.view.consented) {
      this.pending = { kind: "consent", ask };
      return;
    }
    this.pending = null;
    await this.run(ask);
  }

  async consent(): Promise<void> {
    const ask = this.pending?.ask;
    if (!ask) return;
    await this.update({ consented: true });
    if (this.view.consented) await this.ask(ask);
  }

  async stayHere(): Promise<void> {
    const ask = this.pending?.ask;
    if (!ask) return;
    await this.update({ place: "local", peer: null });
    await this.ask(ask);
  }

  async dropOldest(): Promise<void> {
    const ask = this.pending?.ask;
    if (!ask) return;
    await this.update({ onFull: "drop_oldest" });
    await this.ask(ask);
  }

  /** A new chat that begins with a summary of this one; the waiting question is handed back as its draft. */
  async summarise(): Promise<{ view: ChatView; draft: string } | null> {
    const draft = this.pending?.ask.text ?? "";
    this.summarising = true;
    const view = await attempt(backend().chatSummarise(this.view.id, () => {}));
    this.summarising = false;
    if (!view) return null;
    this.withdraw();
    if (this.draft === draft) this.draft = "";
    return { view, draft };
  }

  /** Takes back what waits for an answer; the words are still in the composer. */
  withdraw(): void {
    this.pending = null;
  }

  async stop(): Promise<void> {
    if (!this.answering || this.stopping) return;
    this.stopping = true;
    await attempt(backend().chatStop(this.view.id));
    this.stopping = false;
  }

  async choose(message: string): Promise<void> {
    const view = await attempt(backend().chatChoose(this.view.id, message));
    if (view) this.take(view);
  }

  /** How much of the context the draft would use; asked only for chats that exist. */
  async measure(): Promise<void> {
    if (!this.saved || this.answering) return;
    const draft = this.draft;
    try {
      const { used, limit } = await backend().chatContext(this.view.id, draft);
      if (this.draft !== draft) return;
      this.draftTokens = used;
      if (limit !== this.view.contextLimit) this.view = { ...this.view, contextLimit: limit };
    } catch {
      // A meter that cannot be read is not worth a message; sending will say what is wrong.
      this.draftTokens = null;
    }
  }

  private async run(ask: Ask): Promise<void> {
    this.running = true;
    let started = false;
    if (ask.text !== null && this.draft.trim() === ask.text) this.draft = "";
    try {
      await this.save();
      const receive = (event: AnswerEvent): void => {
        started ||= event.kind === "started";
        this.receive(event, Date.now());
      };
      if (ask.from === undefined) await backend().chatSend(this.view.id, ask.parent, ask.text, receive);
      else await backend().chatContinue(this.view.id, ask.from, receive);
      await this.reload();
    } catch (cause) {
      const view = errorView(cause);
      if (started) {
        await this.reload().catch(() => {});
        if (!this.turns.at(-1)?.message.error) this.problem = view;
      } else if (view.code === "consent_needed" || view.code === "context_full") {
        this.pending = { kind: view.code === "consent_needed" ? "consent" : "full", ask };
        if (ask.text) this.restore(ask.text);
      } else {
        this.problem = view;
        if (ask.text) this.restore(ask.text);
      }
    } finally {
      this.running = false;
      this.progress = null;
    }
  }

  /** Creates the chat in the core at its first message, with what was set before. */
  private async save(): Promise<void> {
    if (this.saved) return;
    const { place, sampling } = this.view;
    const created = await backend().chatCreate(this.view.temporary);
    const patch: ChatPatch = { ...this.unsaved };
    if (created.place !== place) patch.place = place;
    if (JSON.stringify(Object.entries(created.sampling).sort()) !== JSON.stringify(Object.entries(sampling).sort())) patch.sampling = sampling;
    this.view = created;
    this.unsaved = {};
    if (Object.keys(patch).length > 0) this.view = await backend().chatUpdate(created.id, patch);
  }

  receive(event: AnswerEvent, now: number): void {
    const answer = this.turns.at(-1);
    switch (event.kind) {
      case "started": {
        const parent = event.user ? event.user.parent : event.answer.parent;
        const added = (event.user ? [event.user, event.answer] : [event.answer]).map((message) => new Turn(message));
        this.turns = pathWith(this.turns, parent, added);
        this.draftTokens = null;
        announcer.begin();
        break;
      }
      case "phase":
        this.progress = event;
        break;
      case "text":
        this.progress = null;
        answer?.append(event, now);
        if (!event.reasoning) announcer.hear(event.append);
        break;
      case "placed":
        answer?.place(event.peer, event.index, event.why);
        break;
      case "titled":
        this.view = { ...this.view, title: event.title };
        break;
      case "finished":
        this.progress = null;
        this.turns.find((turn) => turn.id === event.message.id)?.take(event.message);
        this.view = { ...this.view, contextUsed: event.contextUsed, contextLimit: event.contextLimit };
        announcer.finish(t.chat.answered);
        break;
    }
  }

  private restore(text: string): void {
    this.draft = this.draft ? `${text}\n\n${this.draft}` : text;
  }
}

function settingsOf(view: ChatView): ChatPatch & Pick<ChatView, "unlisted" | "contextLimit" | "contextUsed"> {
  const { model, unlisted, place, peer, consented, systemPrompt, sampling, onFull, contextLimit, contextUsed } = view;
  return { model, unlisted, place, peer, consented, systemPrompt, sampling, onFull, contextLimit, contextUsed };
}
