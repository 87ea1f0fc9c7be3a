// The models that are in no catalogue, as they are mounted in the whole window, over the demo.
import { mount, unmount } from "svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import App from "./App.svelte";
import { type Backend, BackendError, useBackend } from "./backend/backend";
import type { CommunityModel, CommunityView, Settings } from "./backend/types";
import { demoBackend } from "./demo/backend";
import { communityRows, SAYS } from "./demo/community";
import { chats } from "./features/chat/chats.svelte";
import { community, unlistedName } from "./lib/community.svelte";
import { models } from "./lib/models.svelte";
import { node } from "./lib/node.svelte";
import { places } from "./lib/places.svelte";
import { settings } from "./lib/settings.svelte";
import { toasts } from "./lib/toasts.svelte";
import { t } from "./text";

let app: ReturnType<typeof mount> | null = null;
let core: Backend;

afterEach(async () => {
  if (app) await unmount(app);
  app = null;
  community.view = null;
  community.problem = null;
  community.problems = {};
  settings.value = null;
  toasts.list = [];
  places.go("chat");
});

/** The window at its models, with the section unfolded. */
async function open(on: boolean, change: Partial<Backend> = {}, set: Partial<Settings> = {}): Promise<HTMLElement> {
  core = { ...demoBackend("full", 0, { communityModels: on, ...set }), ...change };
  useBackend(core);
  document.body.replaceChildren();
  chats.fresh();
  app = mount(App, { target: document.body });
  await vi.waitFor(() => expect(settings.value?.communityModels).toBe(on));
  await vi.waitFor(() => expect(models.view).not.toBeNull());
  places.go("models");
  const section = await vi.waitFor(() => document.querySelector<HTMLElement>(`section[aria-label="${t.community.title}"]`) ?? Promise.reject(new Error("no section")));
  section.querySelector<HTMLButtonElement>("h2 button")?.click();
  await vi.waitFor(() => expect(text(section)).toContain(t.community.what));
  return section;
}

function button(name: string, within: ParentNode = document): HTMLButtonElement {
  const found = [...within.querySelectorAll("button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent?.trim()) === name);
  if (!found) throw new Error(`there is no button “${name}”`);
  return found;
}

const look = (name: string) => `${t.community.look}: ${t.community.named(name)}`;
const use = (name: string) => `${t.community.use}: ${t.community.named(name)}`;
const text = (element: Element) => (element.textContent ?? "").replace(/\s+/g, " ");
const [unseen, , apart, alien] = communityRows() as [CommunityModel, CommunityModel, CommunityModel, CommunityModel];
const view = (rows: CommunityModel[], more: Partial<CommunityView> = {}): CommunityView => ({ on: true, searching: false, rows, leftOut: 0, ...more });

describe("community models", () => {
  it("are off by default: none is listed and nobody is looked for", async () => {
    const listed = vi.fn();
    const section = await open(false, { communityList: listed, communitySearch: listed });
    expect(section.querySelector("li")).toBeNull();
    expect(section.querySelector("[role=switch]")?.getAttribute("aria-checked")).toBe("false");
    expect(listed).not.toHaveBeenCalled();
    expect(text(document.querySelector("main") ?? document.body)).not.toContain(unseen.name);
  });

  it("are listed once they are switched on, apart from the others, and gone when they are switched off", async () => {
    const section = await open(false);
    section.querySelector<HTMLButtonElement>("[role=switch]")?.click();
    await vi.waitFor(() => expect(section.querySelectorAll("li")).toHaveLength(communityRows().length));
    expect((await core.settingsGet()).communityModels).toBe(true);
    for (const row of section.querySelectorAll("li")) expect(row.closest("section")).toBe(section);
    section.querySelector<HTMLButtonElement>("[role=switch]")?.click();
    await vi.waitFor(() => expect(section.querySelector("li")).toBeNull());
    expect((await core.settingsGet()).communityModels).toBe(false);
  });

  it("stand with what is not known of them, and what peers say is said to be theirs", async () => {
    const section = await open(true);
    await vi.waitFor(() => expect(section.querySelector("li")).not.toBeNull());
    const row = section.querySelector("li") ?? section;
    expect(text(row)).toContain(t.models.peers(unseen.peers));
    expect(text(row)).toContain(t.community.saidSpeed(t.community.range("11", "34")));
    button(t.community.details(t.community.named(unseen.name)), row).click();
    for (const fact of [t.community.made, t.community.licence, t.community.real]) await vi.waitFor(() => expect(text(row)).toContain(`${fact} ${t.common.unknown}`));
    expect(text(row)).toContain(`${t.community.reviewed} ${t.community.byNobody}`);
    expect(text(row)).toContain(unseen.digest);
  });

  it("say what they call themselves once their description was fetched, as text and not checked", async () => {
    const section = await open(true);
    (await vi.waitFor(() => button(look(unseen.name), section))).click();
    const row = await vi.waitFor(() => button(t.community.details(t.community.named(SAYS.name)), section).closest("li") ?? section);
    expect(text(row)).toContain(t.community.said);
    expect(row.querySelector("b")).toBeNull();
    button(t.community.details(t.community.named(SAYS.name)), row).click();
    await vi.waitFor(() => expect(text(row)).toContain(t.community.ownWord(SAYS.name)));
    expect(() => button(look(SAYS.name), row)).toThrow();
  });

  it("are said not to be checked and not to be known wherever their name stands alone, and what is under way is told", async () => {
    let told = () => {};
    const section = await open(true, { communityLook: () => new Promise((done) => (told = () => done({ ...unseen, name: SAYS.name, says: SAYS }))) });
    const status = section.querySelector("[role=status]") ?? expect.fail("no status");
    await vi.waitFor(() => expect(text(status)).toBe(t.community.offered(communityRows().length)));
    button(look(unseen.name), section).click();
    await vi.waitFor(() => expect(text(status)).toBe(t.community.looking));
    told();
    const details = await vi.waitFor(() => button(t.community.details(t.community.named(SAYS.name)), section));
    const described = (details.getAttribute("aria-describedby") ?? "").split(" ").map((id) => document.getElementById(id));
    expect(described.map((element) => element && text(element))).toEqual([t.community.said, expect.stringContaining(t.models.peers(unseen.peers))]);
    expect(section.contains(status)).toBe(true);
    button(use(SAYS.name), section).click();
    expect(toasts.list.map((toast) => toast.text)).toEqual([t.community.usingPeer(SAYS.name)]);
    expect(t.community.usingPeer(SAYS.name)).toContain(t.community.notInCatalogue);
  });

  it("are not listed as they were before the last change", async () => {
    const section = await open(true);
    await vi.waitFor(() => expect(section.querySelector("li")).not.toBeNull());
    let late = () => {};
    useBackend({ ...core, communityList: () => new Promise((done) => (late = () => done(view([unseen])))), communityLook: () => Promise.resolve({ ...unseen, name: SAYS.name, says: SAYS }) });
    const listing = community.load();
    await community.look(unseen.id);
    late();
    await listing;
    expect(community.rows.find((row) => row.id === unseen.id)?.says).toEqual(SAYS);
    const again = community.load();
    await community.switch(false);
    late();
    await again;
    expect(community.view).toBeNull();
  });

  it("say why a description did not come, beside the row, with the next step", async () => {
    const section = await open(true, { communityLook: () => Promise.reject(new BackendError({ code: "head_missing", message: "It was another one.", fix: "Ask somebody else." })) });
    (await vi.waitFor(() => button(look(unseen.name), section))).click();
    await vi.waitFor(() => expect(text(section.querySelector("[role=alert]") ?? section)).toContain("It was another one. Ask somebody else."));
    expect(toasts.list).toEqual([]);
  });

  it("are told where peers name different descriptions, and where nothing can be written to one", async () => {
    const section = await open(true);
    await vi.waitFor(() => expect(text(section)).toContain(t.community.disagree(apart.heads)));
    expect(text(section)).toContain(t.community.cannot);
    expect(() => button(use(alien.name), section)).toThrow();
  });

  it("are said to be none, and to be many more than are listed", async () => {
    const none = await open(true, { communityList: () => Promise.resolve(view([])) });
    await vi.waitFor(() => expect(text(none)).toContain(t.community.emptyTitle));
    community.view = view([unseen], { leftOut: 7 });
    await vi.waitFor(() => expect(text(none)).toContain(t.community.more(7)));
    community.view = view([], { searching: true });
    await vi.waitFor(() => expect(text(none)).toContain(t.community.searching));
  });

  it("say why they could not be looked for", async () => {
    const section = await open(true, { communitySearch: () => Promise.reject(new BackendError({ code: "network_down", message: "No port.", fix: "Start again." })) });
    await vi.waitFor(() => expect(text(section)).toContain("No port."));
  });

  it("are asked only in a chat that was given one: a new chat on a peer, which has its name and its consent to come", async () => {
    const section = await open(true);
    (await vi.waitFor(() => button(use(unseen.name), section))).click();
    await vi.waitFor(() => expect(places.place).toBe("chat"));
    const chat = chats.open.view;
    expect([chat.model, chat.place, chat.peer, chat.consented]).toEqual([unseen.id, "peer", null, false]);
    const picker = await vi.waitFor(() => button(t.chat.model));
    await vi.waitFor(() => expect(text(picker)).toContain(unseen.name));
    expect(text(picker)).toContain(t.community.notInCatalogue);
    chats.open.draft = "hello";
    await chats.open.sendDraft();
    expect(chats.open.pending?.kind).toBe("consent");
    // It cannot answer here, and nobody says that it can.
    const card = await vi.waitFor(() => document.querySelector<HTMLElement>("[role=alertdialog]") ?? Promise.reject(new Error("no card")));
    expect(text(card)).toContain(t.community.consent);
    expect(() => button(t.chat.consentNo, card)).toThrow();
    expect(button(t.chat.consentYes, card).disabled).toBe(false);
    await chats.open.consent();
    await vi.waitFor(() => expect(chats.open.turns.at(-1)?.message.state).toBe("complete"));
    const answer = await vi.waitFor(() => document.querySelector("article") ?? Promise.reject(new Error("no answer")));
    await vi.waitFor(() => expect(text(answer)).toContain(t.community.notInCatalogue));
  });
});

describe("what is chosen where nobody chose", () => {
  it("is never one of them: neither the picker of a new chat nor the rows list any, also where the settings name one", async () => {
    await open(true, {}, { defaultModel: unseen.id });
    await vi.waitFor(() => expect(community.rows.length).toBeGreaterThan(0));
    expect(settings.value?.defaultModel).toBe(unseen.id);
    chats.fresh();
    places.go("chat");
    const picker = await vi.waitFor(() => button(t.chat.model));
    const chosen = models.preferred ?? expect.fail("no model");
    expect(models.rows).toContain(chosen);
    expect(text(picker)).toContain(chosen.name);
    picker.click();
    const menu = await vi.waitFor(() => document.querySelector<HTMLElement>("[role=menu]") ?? Promise.reject(new Error("no menu")));
    for (const row of community.rows) expect(text(menu)).not.toContain(row.name);
    expect(text(menu)).not.toContain(t.community.group);
    // A peer that offers nothing else is nobody who could be asked by chance.
    const peer = node.peers[0] ?? expect.fail("no peer");
    if (node.status) node.status = { ...node.status, peers: [{ ...peer, models: [], unlisted: 3 }] };
    expect(node.offering).toEqual([]);
  });

  it("is known again once a row names the file", async () => {
    await open(true);
    const row = models.rows[0] ?? expect.fail("no model");
    expect(models.find(`sha256:${row.digest}`)?.id).toBe(row.id);
    expect(unlistedName(`sha256:${row.digest}`, "Something else")).toBeNull();
    expect(unlistedName("sha256:abcdef0123456789", "Its own name")).toBe("Its own name");
    expect(unlistedName("sha256:abcdef0123456789", null)).toBe(t.community.byDigest("abcdef012345"));
  });
});
