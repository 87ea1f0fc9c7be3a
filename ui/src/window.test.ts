// What the keyboard and dragged files do to the whole window, over the demo.
import { mount, unmount } from "svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "./App.svelte";
import { type Backend, useBackend } from "./backend/backend";
import type { Dragged, ModelRow, ModelsView } from "./backend/types";
import { demoBackend } from "./demo/backend";
import { chats } from "./features/chat/chats.svelte";
import { models } from "./lib/models.svelte";
import { places } from "./lib/places.svelte";
import { settings } from "./lib/settings.svelte";
import { toasts } from "./lib/toasts.svelte";
import { t } from "./text";

let app: ReturnType<typeof mount>;
let core: Backend;
let tellModels: (view: ModelsView) => void = () => {};
let drag: (drag: Dragged) => void = () => {};

beforeEach(async () => {
  core = demoBackend("full", 0);
  const { onModels } = core;
  core.onModels = (listener) => {
    tellModels = listener;
    return onModels(listener);
  };
  core.onFiles = async (listener) => {
    drag = listener;
    return () => {};
  };
  useBackend(core);
  document.body.replaceChildren();
  chats.fresh();
  app = mount(App, { target: document.body });
  await vi.waitFor(() => expect(chats.list?.length).toBeGreaterThan(5));
  await vi.waitFor(() => expect(settings.value?.textScale).toBe(1));
});

afterEach(async () => {
  await unmount(app);
  toasts.list = [];
  models.refused = null;
  places.go("chat");
});

const press = (key: string, more: KeyboardEventInit = {}) => (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
const field = (label: string) => vi.waitFor(() => document.querySelector<HTMLInputElement>(`input[aria-label="${label}"]`) ?? Promise.reject(new Error(`no field ${label}`)));
const type = (input: HTMLInputElement, text: string) => {
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
const said = () => (document.body.textContent ?? "").replace(/\s+/g, " ");

describe("the keyboard", () => {
  it("makes the text larger, smaller, and as it was", async () => {
    press("+", { ctrlKey: true, shiftKey: true });
    await vi.waitFor(() => expect(settings.value?.textScale).toBe(1.1));
    press("=", { ctrlKey: true });
    await vi.waitFor(() => expect(settings.value?.textScale).toBe(1.25));
    press("-", { ctrlKey: true });
    await vi.waitFor(() => expect(settings.value?.textScale).toBe(1.1));
    press("0", { ctrlKey: true });
    await vi.waitFor(async () => expect((await core.settingsGet()).textScale).toBe(1));
  });

  it("shows what it does, and leaves the places alone while that is open", async () => {
    press("/", { ctrlKey: true });
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")?.textContent).toContain(t.keys.title));
    press("2", { ctrlKey: true });
    expect(places.place).toBe("chat");
  });

  it("finds words in the open chat, one after the other", async () => {
    await chats.show("bread");
    press("f", { ctrlKey: true });
    const words = await field(t.find.label);
    type(words, "water");
    await vi.waitFor(() => expect(said()).toContain("1 of 6"));
    words.focus();
    press("Enter");
    await vi.waitFor(() => expect(said()).toContain("2 of 6"));
    press("Enter", { shiftKey: true });
    press("Enter", { shiftKey: true });
    await vi.waitFor(() => expect(said()).toContain("6 of 6"));
    press("Escape");
    await vi.waitFor(() => expect(document.querySelector(`input[aria-label="${t.find.label}"]`)).toBeNull());
  });

  it("opens the first chat that a search found", async () => {
    press("k", { ctrlKey: true });
    const search = await field(t.chats.search);
    type(search, "gluten");
    search.focus();
    press("Enter");
    await vi.waitFor(() => expect(chats.open.view.id).toBe("bread"));
  });
});

describe("the title of a chat", () => {
  it("is changed in the header where the list is not in sight, and Esc keeps the old one", async () => {
    await chats.show("letter");
    places.frame = "bar";
    chats.renaming = "letter";
    type(await field(t.chats.renameLabel), "Nothing");
    (await field(t.chats.renameLabel)).focus();
    press("Escape");
    await vi.waitFor(() => expect(document.querySelector(`input[aria-label="${t.chats.renameLabel}"]`)).toBeNull());
    expect((await core.chatOpen("letter")).title).toBe("Letter to the landlord");
    chats.renaming = "letter";
    const title = await field(t.chats.renameLabel);
    type(title, "Heating");
    title.focus();
    press("Enter");
    await vi.waitFor(async () => expect((await core.chatOpen("letter")).title).toBe("Heating"));
    places.frame = "wide";
  });
});

describe("files dragged over the window", () => {
  it("are told where they go, and a model file is added", async () => {
    const added = vi.spyOn(core, "modelAdd").mockResolvedValue({ name: "Mine" } as ModelRow);
    drag({ kind: "over" });
    await vi.waitFor(() => expect(said()).toContain(t.models.drop));
    drag({ kind: "dropped", paths: ["/data/notes.txt", "/data/Mine.GGUF"] });
    await vi.waitFor(() => expect(toasts.list.at(-1)?.text).toBe(t.models.added("Mine")));
    expect(added.mock.calls).toEqual([["/data/Mine.GGUF"]]);
    expect(places.place).toBe("models");
    expect(said()).not.toContain(t.models.drop);
  });

  it("are left alone where none is a model, and a refusal is said under Models", async () => {
    const added = vi.spyOn(core, "modelAdd");
    drag({ kind: "dropped", paths: ["/data/notes.txt"] });
    await vi.waitFor(() => expect(toasts.list.at(-1)?.text).toBe(t.models.dropOther));
    expect(added).not.toHaveBeenCalled();
    drag({ kind: "dropped", paths: ["/data/phi-3.gguf"] });
    await vi.waitFor(() => expect(said()).toContain("cannot run that architecture"));
  });
});

describe("a download", () => {
  const rowOf = (id: string) => models.find(id) ?? expect.fail(`no model ${id}`);
  const button = (name: string) => vi.waitFor(() => [...document.querySelectorAll("button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent?.trim()) === name) ?? Promise.reject(new Error(`no button ${name}`)));

  it("that has come far is given up only after a question", async () => {
    places.go("models");
    const row = rowOf("qwen2.5-7b-instruct");
    (await button(`${t.models.cancel}: ${row.name}`)).click();
    (await button(t.models.discardNo)).click();
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")).toBeNull());
    expect(rowOf(row.id).state.kind).toBe("downloading");
    (await button(`${t.models.cancel}: ${row.name}`)).click();
    (await button(t.models.discardYes)).click();
    await vi.waitFor(() => expect(rowOf(row.id).state.kind).toBe("absent"));
  });

  it("is said to be ready when it is, once, and can be used from there", async () => {
    const view = await core.modelsList();
    const ready: ModelsView = { ...view, rows: view.rows.map((row) => (row.id === "qwen2.5-7b-instruct" ? { ...row, state: { kind: "ready", path: "/q.gguf", loaded: false } } : row)) };
    tellModels(view);
    tellModels(ready);
    tellModels(ready);
    // The added file was being read when the window opened: that is no download.
    const read: ModelsView = { ...ready, rows: ready.rows.map((row) => (row.id === "ministral-8b" ? { ...row, state: { kind: "verifying", done: 1, total: 2 } } : row)) };
    tellModels(read);
    tellModels({ ...read, rows: read.rows.map((row) => (row.id === "ministral-8b" ? { ...row, state: { kind: "ready", path: "/m.gguf", loaded: false } } : row)) });
    const name = rowOf("qwen2.5-7b-instruct").name;
    expect(toasts.list.map((toast) => toast.text)).toEqual([t.chat.betterReady(name)]);
    toasts.list[0]?.action?.run();
    await vi.waitFor(() => expect(settings.value?.defaultModel).toBe("qwen2.5-7b-instruct"));
  });
});
