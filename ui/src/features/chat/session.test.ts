import { beforeEach, describe, expect, it } from "vitest";
import { type Backend, useBackend } from "../../backend/backend";
import { ANSWER, demoBackend } from "../../demo/backend";
import { models } from "../../lib/models.svelte";
import { fileName } from "./chats.svelte";
import { blankChat, Session } from "./session.svelte";

let core: Backend;

beforeEach(() => {
  core = demoBackend("first", 0);
  useBackend(core);
});

const texts = (session: Session): string[] => session.turns.map((turn) => turn.text);

describe("a session", () => {
  it("creates its chat with the first message, streams, and takes the title", async () => {
    const session = new Session(blankChat(false, "local"));
    session.draft = "  Why is the sky blue?  ";
    await session.sendDraft();
    expect(texts(session)).toEqual(["Why is the sky blue?", ANSWER]);
    expect(session.turns[1]?.message.state).toBe("complete");
    expect(session.view.title).toContain("Why is the sky");
    expect(session.draft).toBe("");
    expect(session.answering).toBe(false);
  });

  it("keeps what was set before the chat existed", async () => {
    const session = new Session(blankChat(false, "local"));
    await session.update({ systemPrompt: "Be brief." });
    session.draft = "Hello";
    await session.sendDraft();
    expect((await core.chatOpen(session.view.id)).systemPrompt).toBe("Be brief.");
  });

  it("lets the starter choose its likeliest words, and a chosen temperature stand", async () => {
    const [starter, other] = (await core.modelsList()).rows;
    const session = new Session(blankChat(false, "local", starter));
    session.draft = "Hello";
    await session.sendDraft();
    expect((await core.chatOpen(session.view.id)).sampling.temperature).toBe(0);
    models.view = await core.modelsList();
    await session.useModel(other ?? null);
    expect(session.view.sampling.temperature).toBe(0.7);
    await session.update({ sampling: { ...session.view.sampling, temperature: 0.4 } });
    await session.useModel(starter ?? null);
    expect(session.view.sampling.temperature).toBe(0.4);
  });

  it("answers again as another branch, and edits as another branch", async () => {
    const session = new Session(blankChat(false, "local"));
    session.draft = "One";
    await session.sendDraft();
    const [question, answer] = session.turns;
    await session.ask({ parent: question?.id ?? null, text: null });
    expect(session.turns).toHaveLength(2);
    expect(session.turns[1]?.message.siblings).toContain(answer?.id);
    await session.ask({ parent: null, text: "One, edited" });
    expect(texts(session)[0]).toBe("One, edited");
    expect(session.turns[0]?.message.siblings).toContain(question?.id);
  });

  it("asks before words leave the computer, and sends nothing until then", async () => {
    const session = new Session(blankChat(false, "peer"));
    session.draft = "Private";
    await session.sendDraft();
    expect(session.pending?.kind).toBe("consent");
    expect(session.turns).toHaveLength(0);
    expect(await core.chatsList()).toEqual([]);
    expect(session.draft).toBe("Private");
    session.withdraw();
    expect(session.draft).toBe("Private");
  });

  it("answers here when the person says no", async () => {
    const session = new Session(blankChat(false, "peer"));
    session.draft = "Private";
    await session.sendDraft();
    await session.stayHere();
    expect(session.view.place).toBe("local");
    expect(session.turns[1]?.remote).toBe(false);
  });

  it("asks once for a chat", async () => {
    core = demoBackend("full", 0);
    useBackend(core);
    const session = new Session(blankChat(false, "peer"));
    session.draft = "One";
    await session.sendDraft();
    await session.consent();
    expect(session.turns[1]?.remote).toBe(true);
    session.draft = "Two";
    await session.sendDraft();
    expect(session.pending).toBeNull();
    expect(session.turns).toHaveLength(4);
  });

  it("gives the words back when the core refuses", async () => {
    useBackend(demoBackend("bare", 0));
    const session = new Session(blankChat(false, "local"));
    session.draft = "Hello";
    await session.sendDraft();
    expect(session.problem?.code).toBe("model_missing");
    expect(session.draft).toBe("Hello");
  });

  it("says that the context is full before it sends", async () => {
    core = demoBackend("full", 0);
    useBackend(core);
    const session = new Session(await core.chatOpen("bread"));
    session.draft = "x".repeat(40_000);
    await session.measure();
    await session.sendDraft();
    expect(session.pending?.kind).toBe("full");
    expect(session.turns).toHaveLength(4);
    await session.dropOldest();
    expect(session.view.onFull).toBe("drop_oldest");
    expect(session.turns).toHaveLength(6);
  });

  it("stops within an answer and keeps what was written", async () => {
    useBackend(demoBackend("first", 2));
    const session = new Session(blankChat(false, "local"));
    session.draft = "Hello";
    const sent = session.sendDraft();
    while (!session.turns[1]?.text) await new Promise((resolve) => setTimeout(resolve));
    await session.stop();
    await sent;
    expect(session.turns[1]?.message.state).toBe("stopped");
    expect(ANSWER.startsWith(session.turns[1]?.text ?? "?")).toBe(true);
  });

  it("goes on with a cut answer where it ended, as another branch and without a question in between", async () => {
    useBackend(demoBackend("first", 2));
    const session = new Session(blankChat(false, "local"));
    session.draft = "Hello";
    const sent = session.sendDraft();
    while (!session.turns[1]?.text) await new Promise((resolve) => setTimeout(resolve));
    await session.stop();
    await sent;
    const [question, cut] = session.turns;
    const begun = cut?.text ?? "";
    const going = session.ask({ parent: question?.id ?? null, text: null, from: cut?.id ?? "" });
    while (session.turns[1]?.id === cut?.id) await new Promise((resolve) => setTimeout(resolve));
    expect(session.turns[1]?.text.startsWith(begun)).toBe(true);
    await going;
    expect(texts(session)).toEqual(["Hello", begun + ANSWER]);
    expect(session.turns[1]?.message.siblings).toContain(cut?.id);
  });

  it("keeps the text it streamed when a snapshot of the running answer is behind", () => {
    const session = new Session(blankChat(false, "local"));
    const base = { ...blankChat(false, "local"), id: "c" };
    const message = {
      id: "a", parent: null, role: "assistant" as const, content: "", reasoning: null, reasoningMs: null, state: "streaming" as const, error: null, model: null,
      unlisted: false, spans: [], promptTokens: null, outputTokens: null, tokensPerSecond: null, firstTokenMs: null, createdMs: 0, siblings: ["a"], leftOut: false,
    }; // prettier-ignore
    session.receive({ kind: "started", chat: "c", user: null, answer: message }, 0);
    session.receive({ kind: "text", append: "thinking", reasoning: true, tokens: 1 }, 1000);
    session.receive({ kind: "placed", peer: "p", index: 0, why: null }, 2000);
    session.receive({ kind: "text", append: "Paris", reasoning: false, tokens: 2 }, 4000);
    expect(session.turns[0]?.remote).toBe(true);
    session.take({ ...base, messages: [{ ...message, content: "Pa" }] });
    expect(session.turns[0]?.text).toBe("Paris");
    expect(session.turns[0]?.reasoningMs).toBe(3000);
  });
});

describe("the name of an exported file", () => {
  it.each([
    ["Why bread dough tears", "Why bread dough tears"],
    ["../../etc/passwd", "etc passwd"],
    ['a/b\\c:d*e?f"g<h>i|j', "a b c d e f g h i j"],
    ["\u0000\n...", "chat"],
    ["x".repeat(300), "x".repeat(80)],
  ])("%j becomes %j", (title, name) => {
    expect(fileName(title)).toBe(name);
  });
});
