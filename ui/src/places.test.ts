// The places of money as they are mounted in the whole window, over the demo in each of its states.
import { mount, unmount } from "svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import App from "./App.svelte";
import { type Backend, useBackend } from "./backend/backend";
import type { Intent, Link, Payment } from "./backend/types";
import { demoBackend, type LinkScene, type Scenario } from "./demo/backend";
import { type MoneyScene, moneyStatus, payment } from "./demo/money";
import { INVITED } from "./demo/world";
import { invites } from "./features/peers/invites.svelte";
import { receipts } from "./features/receipts/receipts.svelte";
import { payments } from "./features/wallet/payments.svelte";
import { proofs } from "./features/wallet/proofs.svelte";
import { models } from "./lib/models.svelte";
import { money } from "./lib/money.svelte";
import { settings } from "./lib/settings.svelte";
import { toasts } from "./lib/toasts.svelte";
import { t } from "./text";

let app: ReturnType<typeof mount> | null = null;
let core: Backend;
let signed: Intent[];

afterEach(async () => {
  if (app) await unmount(app);
  app = null;
  money.status = null;
  money.problem = null;
  settings.value = null;
  proofs.open = null;
  receipts.open = null;
  payments.open = null;
  invites.link = null;
  toasts.list = [];
});

async function open(place: keyof typeof t.app.places, scene: MoneyScene, change: Partial<Backend> = {}, scenario: Scenario = "full", link: LinkScene | null = null): Promise<HTMLElement> {
  signed = [];
  core = { ...demoBackend(scenario, 0, {}, scene, link), ...change };
  const { signOpen } = core;
  useBackend({ ...core, signOpen: (intent) => (signed.push(intent), signOpen(intent)) });
  document.body.replaceChildren();
  app = mount(App, { target: document.body });
  const found = await vi.waitFor(() => button(t.app.places[place]));
  found.click();
  const main = await vi.waitFor(() => {
    const shown = document.querySelector("main");
    if (!shown?.querySelector("h1")) throw new Error("nothing is shown yet");
    return shown as HTMLElement;
  });
  // What a place asks the core for is there in the next turns of the loop.
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
  return main;
}

/** By the name that a screen reader says. */
function button(name: string, within: ParentNode = document): HTMLButtonElement {
  const found = [...within.querySelectorAll("button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent?.trim()) === name);
  if (!found) throw new Error(`there is no button “${name}”`);
  return found;
}

const dialog = () => vi.waitFor(() => document.querySelector<HTMLElement>("[role=dialog]") ?? Promise.reject(new Error("no dialog")));
const text = (element: Element) => (element.textContent ?? "").replace(/\s+/g, " ");

async function fill(within: ParentNode, label: string, value: string): Promise<void> {
  const found = [...within.querySelectorAll("label")].find((one) => one.textContent?.startsWith(label));
  const input = found && document.querySelector<HTMLInputElement>(`#${found.htmlFor}`);
  if (!input) throw new Error(`nothing is labelled ${label}`);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise((resolve) => setTimeout(resolve, 0));
}

describe("the wallet's place", () => {
  it("says plainly that money is off, and the rest of the window works", async () => {
    const main = await open("wallet", "off");
    expect(text(main)).toContain(t.wallet.offTitle);
    expect(text(main)).toContain(t.wallet.offRest);
    button(t.wallet.offSettings, main).click();
    await vi.waitFor(() => expect(text(document.body)).toContain(t.settings.moneyNetworkHint));
  });

  it("says the same where the core knows nothing of money", async () => {
    const main = await open("wallet", "off", { moneyStatus: () => Promise.reject(new Error("Command money_status not found")) });
    expect(text(main)).toContain(t.wallet.offTitle);
    expect(text(main)).toContain("Command money_status not found");
  });

  it("offers to make a wallet or to bring one", async () => {
    const main = await open("wallet", "nowallet");
    button(t.wallet.import, main);
    button(t.wallet.create, main).click();
    await vi.waitFor(() => expect(money.status?.wallet).toBe("unlocked"));
    expect(signed).toEqual([{ kind: "create" }]);
    await vi.waitFor(() => expect(text(main)).toContain(t.wallet.backupTitle));
  });

  it("names what is missing, with its fix", async () => {
    const main = await open("wallet", "nocoin");
    for (const part of [t.wallet.stepsTitle, t.wallet.stepCoin("ETH"), t.wallet.stepToken("DGC"), t.wallet.stepDeposit]) expect(text(main)).toContain(part);
    // They are said once, as steps, and not as problems beside them.
    expect(text(main)).not.toContain("There is no ETH for the fee of the first deposit.");
    expect(text(main)).toContain("the account “Wallet” has no ETH to pay the fee.");
    expect(button(t.wallet.send, main).disabled).toBe(true);
    // What is missing is missing at the account for asking: that one is shown.
    const [, beside] = [...main.querySelectorAll("button")].filter((one) => one.textContent?.trim() === t.wallet.receive);
    beside?.click();
    const chosen = (await dialog()).querySelector("[role=radio][aria-checked=true]");
    expect(chosen?.textContent?.trim()).toBe(t.wallet.roles.spend);
  });

  it("asks the faucet of a test network for tokens, in the signing window", async () => {
    const main = await open("wallet", "notoken");
    button(t.wallet.faucet, main).click();
    await vi.waitFor(() => expect(document.body.textContent).toContain(t.wallet.faucetAsked));
    expect(signed).toEqual([{ kind: "faucet" }]);
  });

  it("lets who has tokens and no coin sign a deposit for somebody else to bring, and gives its text away", async () => {
    const main = await open("wallet", "tokenonly");
    button(t.wallet.signStart, main).click();
    const shown = await dialog();
    await fill(shown, t.money.amountLabel("DGC"), "5");
    await fill(shown, t.wallet.signStartShare, "5");
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.wallet.badShare));
    await fill(shown, t.wallet.signStartShare, "0.05");
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "sign_start", amount: "5000000000000000000", fee: "50000000000000000" }]));
    await vi.waitFor(() => expect(text(main)).toContain(t.wallet.startSigned("5 DGC (worth nothing)", "0.05 DGC (worth nothing)")));
    await vi.waitFor(() => button(t.wallet.startCopy, main));
    expect(() => button(t.wallet.signStart, main)).toThrow();
  });

  it("brings somebody's deposit, and takes no half of its text", async () => {
    const main = await open("wallet", "paid");
    button(t.wallet.relay, main).click();
    const shown = await dialog();
    const area = shown.querySelector("textarea");
    if (!area) throw new Error("there is no field for the text");
    const type = (value: string) => {
      area.value = value;
      area.dispatchEvent(new Event("input", { bubbles: true }));
    };
    type('{"format":1');
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.wallet.relayNeeded));
    expect(signed).toEqual([]);
    type(' {"format":1} ');
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "relay", start: '{"format":1}' }]));
  });

  it("shows what is left after the fee on claims", async () => {
    const main = await open("wallet", "paid");
    expect(text(main)).toContain(t.wallet.afterFee("2", "2.5519 DGC (worth nothing)"));
    expect(text(main)).toContain(t.wallet.paidFees("6.076 DGC (worth nothing)", "0.124 DGC (worth nothing)"));
  });

  it("shows the four words, and apart what is too small to collect", async () => {
    const main = await open("wallet", "paid");
    for (const word of [t.wallet.available, t.wallet.checking, t.wallet.paidOut, t.wallet.tooSmall]) expect(text(main)).toContain(word);
    const tiles = main.querySelector("dl");
    expect(tiles && text(tiles)).not.toContain("0.00213");
    await vi.waitFor(() => expect(text(main)).toContain(t.wallet.estimated));
  });

  it("hides the projection until there is data", async () => {
    const main = await open("wallet", "quiet");
    expect(text(main)).toContain(t.wallet.available);
    expect(text(main)).not.toContain(t.wallet.estimated);
  });

  it("says that the endpoints disagree, and sends nothing until they agree", async () => {
    const main = await open("wallet", "disagree");
    expect(text(main)).toContain("Two endpoints disagree.");
    expect(text(main)).toContain("It names another final block than the first one does.");
    expect(button(t.wallet.deposit, main).disabled).toBe(true);
    expect(button(t.wallet.receive, main).disabled).toBe(false);
  });

  it("lists transactions with their states, and what can be done about a stuck one", async () => {
    const main = await open("wallet", "paid");
    const speedUp = await vi.waitFor(() => button(t.wallet.speedUp, main));
    for (const state of ["sent", "mined", "failed", "final"] as const) expect(text(main)).toContain(t.wallet.states[state]);
    expect(text(main)).toContain("The token refused the transfer");
    speedUp.click();
    await vi.waitFor(() => expect(text(main)).toContain("It was sent again with a higher fee"));
    button(t.wallet.cancelTransaction, main).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.wallet.states.replaced));
    expect(signed).toEqual([
      { kind: "speed_up", id: "a1" },
      { kind: "cancel", id: "a1" },
    ]);
  });

  it("sends what was typed to the signing window, exactly, and nothing that is no amount", async () => {
    const main = await open("wallet", "paid");
    button(t.wallet.send, main).click();
    const shown = await dialog();
    await fill(shown, t.wallet.sendTo, "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31");
    await fill(shown, t.money.amountLabel("DGC"), "1,5");
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.money.badAmount));
    expect(signed).toEqual([]);
    await fill(shown, t.money.amountLabel("DGC"), "1.000000000000000001");
    button(t.money.askSign, shown).click();
    await vi.waitFor(() => expect(signed).toHaveLength(1));
    expect(signed[0]).toEqual({ kind: "send", to: "0x08C5eA1b7F36d9420a8B7fE1c93d50462fBa9D31", asset: "token", amount: "1000000000000000001" });
  });

  it("opens the proof of a row: what was signed, and “not checked” where the chain was not asked", async () => {
    const main = await open("wallet", "paid");
    (await vi.waitFor(() => button(t.earnings.openProof, main))).click();
    const shown = await dialog();
    expect(text(shown)).toContain(t.proof.signedValid);
    expect(text(shown)).toContain(t.proof.notChecked);
    button(t.proof.openReceipt, shown).click();
    await vi.waitFor(async () => expect(text(await dialog())).toContain(t.receipt.title));
  });

  it("says what measures energy, how it could, and takes the person's own figures", async () => {
    const main = await open("wallet", "locked");
    (await vi.waitFor(() => button(t.earnings.netChange, main))).click();
    const shown = await dialog();
    expect(text(shown)).toContain("only root may read it");
    expect(text(shown)).toContain("sudo chmod a+r");
    await fill(shown, t.earnings.watts, "6,5");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.earnings.badFigure));
    await fill(shown, t.earnings.watts, "65");
    await fill(shown, t.earnings.currency, "EUR");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money).toMatchObject({ watts: 65, currency: "EUR", tariff: 0.31, worth: 0.35 }));
  });

  it("asks for no watts where a meter counts, and tells what idle draws", async () => {
    const main = await open("wallet", "paid");
    await vi.waitFor(() => expect(text(main)).toMatch(/kWh.*electricity .* €.*net /s));
    button(t.earnings.netChange, main).click();
    const shown = await dialog();
    expect(text(shown)).toContain(t.earnings.idle("11.4"));
    expect(text(shown)).not.toContain(t.earnings.watts);
  });

  it("says what answers for nothing took, beside what was earned", async () => {
    const main = await open("wallet", "paid");
    await vi.waitFor(() => expect(text(main)).toContain(t.earnings.free("0.024 kWh", "0.00744 €")));
  });

  it("shows the power of now on the node's page, by the meter", async () => {
    const main = await open("node", "paid");
    expect(text(main)).toMatch(/Power now 57\.3 W/);
    expect(text(main)).toContain(t.node.powerIdle("11.4"));
  });

  it("says that power is not measured, and takes the person's figure in place, also without money", async () => {
    const main = await open("node", "off");
    expect(text(main)).toContain(t.node.powerNone);
    button(t.node.powerSet, main).click();
    const shown = await dialog();
    expect(text(shown)).toContain("only root may read it");
    await fill(shown, t.earnings.watts, "65");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money?.watts).toBe(65));
  });

  it("shows what each recent answer has earned, and which were for nothing", async () => {
    const main = await open("node", "paid");
    await vi.waitFor(() => expect(text(main)).toContain(t.modes.earned));
    const rows = [...main.querySelectorAll("tr")].map((row) => text(row));
    expect(rows.some((row) => row.includes("640") && /0\.000128/.test(row))).toBe(true);
    expect(rows.some((row) => row.includes("96") && row.includes(t.node.forFree))).toBe(true);
  });

  it("keeps limits to the last unit", async () => {
    const main = await open("wallet", "paid");
    button(t.wallet.changeLimits, main).click();
    const shown = await dialog();
    await fill(shown, t.wallet.caps.daily, "0.250000000000000001");
    await fill(shown, t.wallet.caps.chat, "");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money).toMatchObject({ daily: "250000000000000001", chat: null, mode: "lend_and_spend" }));
  });
});

describe("the vote's place", () => {
  it("says that tokens vote, what a proposal changes here, and what no vote can do", async () => {
    const main = await open("vote", "paid");
    await vi.waitFor(() => expect(text(main)).toContain("Lower the fee on claims"));
    for (const part of [t.vote.tokensVote, t.vote.here, "claimed in the last 30 days", t.vote.whats.other, t.vote.cannotTouch, t.vote.admins]) expect(text(main)).toContain(part);
    button(t.vote.against, main).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "vote", id: "p1", support: "against" }]));
  });

  it("lets anybody send a carried proposal on, and says until when one waits", async () => {
    const main = await open("vote", "paid");
    await vi.waitFor(() => expect(text(main)).toContain(t.vote.nextExecute));
    expect(text(main)).toContain("It was carried and waits until");
    button(t.vote.queue, main).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "queue", id: "p7" }]));
    await vi.waitFor(() => expect(button(t.vote.execute, main).disabled).toBe(false));
    button(t.vote.execute, main).click();
    await vi.waitFor(() => expect(signed.at(-1)).toEqual({ kind: "execute", id: "p5" }));
  });

  it("tells what this node goes by from what is only read", async () => {
    const main = await open("vote", "paid");
    await vi.waitFor(() => expect(text(main)).toContain(t.vote.paramsUnused));
    const card = [...main.querySelectorAll("h3")].find((one) => one.textContent === t.vote.paramsUnused)?.parentElement;
    const lists = [...(card?.querySelectorAll("dl") ?? [])].map(text);
    expect(lists[0]).toContain(t.vote.fee);
    expect(lists[1]).toContain(t.vote.auditRate);
    expect(lists[1]).not.toContain(t.vote.fee);
    // Of a change that nothing here goes by, nothing is claimed.
    expect(text(main)).toContain(t.vote.hereUnused);
  });

  it("says why one cannot vote", async () => {
    const main = await open("vote", "nocoin");
    await vi.waitFor(() => expect(text(main)).toContain("You cannot vote: the account “Wallet” has no ETH to pay the fee."));
    expect(() => button(t.vote.for, main)).toThrow();
  });

  it("works without a network by saying so", async () => {
    expect(text(await open("vote", "off"))).toContain(t.vote.offBody);
  });

  it("says that the proposals could not be read", async () => {
    const main = await open("vote", "paid", { voteStatus: () => Promise.reject(new Error("No endpoint answers.")) });
    await vi.waitFor(() => expect(text(main)).toContain(`${t.vote.loadFailed} No endpoint answers.`));
  });
});

describe("the node's place", () => {
  const radio = (main: ParentNode, name: string) => {
    const found = [...main.querySelectorAll<HTMLButtonElement>("[role=radio]")].find((one) => text(one).trim().startsWith(name));
    if (!found) throw new Error(`there is no mode ${name}`);
    return found;
  };

  it("lets one of three modes be chosen", async () => {
    const main = await open("node", "paid");
    expect(radio(main, t.modes.lendAndSpend).getAttribute("aria-checked")).toBe("true");
    radio(main, t.modes.earn).click();
    await vi.waitFor(() => expect(settings.money?.mode).toBe("earn"));
    expect(radio(main, t.modes.earn).getAttribute("aria-checked")).toBe("true");
  });

  it("joins earning and spending in the signing window", async () => {
    const status = { ...moneyStatus("paid", 0), joined: "no" as const };
    const main = await open("node", "paid", { moneyStatus: () => Promise.resolve(status) });
    await vi.waitFor(() => expect(text(main)).toContain(t.modes.apart));
    button(t.modes.join, main).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "join" }]));
  });

  it("says that earnings are spent at once only where the chain has them joined", async () => {
    const main = await open("node", "paid");
    expect(text(main)).toContain(t.modes.joined);
    button(t.modes.unjoin, main).click();
    await vi.waitFor(() => expect(signed).toEqual([{ kind: "unjoin" }]));
  });

  it.each([
    ["off", t.modes.whyNoNetwork],
    ["nowallet", t.modes.whyNoWallet],
  ] as const)("blocks the modes that earn, with their reason (%s)", async (scene, why) => {
    const main = await open("node", scene);
    const earn = radio(main, t.modes.earn);
    expect(text(earn)).toContain(why);
    earn.click();
    expect(settings.money?.mode).toBe("free");
    expect(radio(main, t.modes.free).getAttribute("aria-checked")).toBe("true");
  });

  it("says where its price comes from, and takes another", async () => {
    const main = await open("node", "paid");
    expect(text(main)).toContain(t.modes.medianPrice);
    button(t.modes.change, main).click();
    const shown = await dialog();
    await fill(shown, t.modes.priceOwn, "0.3");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money?.price).toBe("300000000000000000"));
    await vi.waitFor(() => expect(text(main)).toContain(t.modes.ownPrice));
  });

  it("takes the part that the cache costs, and no figure that is none", async () => {
    const main = await open("node", "paid");
    expect(text(main)).toContain(t.modes.readingPart(false, null));
    button(t.modes.change, main).click();
    const shown = await dialog();
    await fill(shown, t.modes.priceCached, "101");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.modes.badPercent));
    await fill(shown, t.modes.priceCached, "25");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money?.cached).toBe(25));
    await vi.waitFor(() => expect(text(main)).toContain(t.modes.readingPart(false, 25)));
  });

  it("takes a price for one model, and gives it up again", async () => {
    const main = await open("node", "paid");
    const name = models.nameOf("smollm2-135m");
    await vi.waitFor(() => button(t.modes.changeModel(name), main));
    button(t.modes.changeModel(name), main).click();
    const shown = await dialog();
    await fill(shown, t.modes.priceOwn, "0.7");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(settings.money?.models["smollm2-135m"]).toEqual({ price: "700000000000000000", floor: null }));
    // That of another model stays.
    expect(settings.money?.models["llama-3.2-3b-instruct"]).toEqual({ price: "400000000000000000", floor: null });
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")).toBeNull());
    button(t.modes.changeModel(name), main).click();
    button(t.modes.asAll, await dialog()).click();
    await vi.waitFor(() => expect(settings.money?.models["smollm2-135m"]).toBeUndefined());
  });
});

describe("the peers on the node's place", () => {
  it("shows who would be asked, and why another is not", async () => {
    const main = await open("node", "off");
    button(t.peers.compare, main).click();
    const shown = await dialog();
    await vi.waitFor(() => expect(text(shown)).toContain(t.peers.notTaken));
    expect(text(shown)).toContain(t.format.percent(83));
    expect(text(shown)).toContain("it asks more than your highest price");
  });
});

describe("every place of money", () => {
  const states: [keyof typeof t.app.places, MoneyScene][] = (["wallet", "vote", "node"] as const).flatMap((place) =>
    (["off", "nowallet", "nocoin", "notoken", "disagree", "offline", "locked", "quiet", "paid"] as const).map((scene): [typeof place, MoneyScene] => [place, scene]),
  );

  it.each(states)("%s (%s): every amount on a test network is worth nothing, and everything has a name", async (place, scene) => {
    const main = await open(place, scene);
    const bare = [...text(document.body).matchAll(/[\d.]\s*(?:DGC|ETH)\b(?!\s*\(?\s*worth nothing)(.{0,30})/g)].map((found) => found[0]);
    expect(bare).toEqual([]);
    for (const control of main.querySelectorAll("button, input, select, [role=switch]")) {
      const name = control.getAttribute("aria-label") ?? (control.textContent?.trim() || control.id);
      expect(name, control.outerHTML.slice(0, 120)).not.toBe("");
    }
    // What cannot be pressed says why, somewhere in sight.
    const dead = [...main.querySelectorAll<HTMLButtonElement>("button:disabled")].filter((one) => one.textContent?.trim() !== t.peers.connectButton);
    for (const one of dead) expect(text(main), one.textContent ?? "").toMatch(new RegExp(`${one.textContent?.trim()}[^.]*: [a-zA-Z]`));
  });
});

describe("a link that was followed", () => {
  const dialled = (): [string[], Partial<Backend>] => {
    const texts: string[] = [];
    return [texts, { peersConnect: (text) => (texts.push(text), demoBackend("full", 0).peersConnect(text)) }];
  };

  it("is shown with all that it would dial, and dials nobody before the person says so", async () => {
    const [texts, change] = dialled();
    await open("chat", "off", change, "full", "invite");
    const shown = await dialog();
    expect(text(shown)).toContain(t.peers.linkTitle);
    for (const part of [INVITED.peer, ...INVITED.addresses]) expect(text(shown)).toContain(part);
    expect(texts).toEqual([]);
    button(t.peers.connectButton, shown).click();
    await vi.waitFor(() => expect(texts).toEqual([INVITED.text]));
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")).toBeNull());
    expect(await core.linkWaiting()).toBeNull();
  });

  it("dials nobody where the person says no", async () => {
    const [texts, change] = dialled();
    await open("chat", "off", change, "full", "invite");
    button(t.common.cancel, await dialog()).click();
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")).toBeNull());
    expect(await core.linkWaiting()).toBeNull();
    expect(texts).toEqual([]);
  });

  it("offers nothing to press where it leads to this computer, or is refused", async () => {
    for (const [scene, said] of [
      ["own", t.peers.linkOwn],
      ["refused", t.peers.linkRefused],
    ] as const) {
      const [, change] = dialled();
      await open("chat", "off", change, "full", scene);
      const shown = await dialog();
      expect(text(shown)).toContain(said);
      expect(() => button(t.peers.connectButton, shown)).toThrow();
      if (app) await unmount(app);
      app = null;
      invites.link = null;
    }
  });

  it("says in place why the computer was not reached, and can be tried again", async () => {
    await open("chat", "off", { peersConnect: () => Promise.reject(new Error("Nobody answered there.")) }, "full", "invite");
    const shown = await dialog();
    button(t.peers.connectButton, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain("Nobody answered there."));
    button(t.peers.connectButton, shown);
  });

  it("that comes while the window is open is asked for", async () => {
    let tell = () => {};
    let waiting: Link | null = null;
    await open("chat", "off", { onLink: async (listener) => ((tell = listener), () => {}), linkWaiting: async () => waiting });
    expect(document.querySelector("[role=dialog]")).toBeNull();
    waiting = INVITED;
    tell();
    expect(text(await dialog())).toContain(INVITED.peer);
  });
});

describe("what paid for an answer", () => {
  it("opens from its receipt: what was signed, for whom, and what the chain says", async () => {
    await open("chat", "paid");
    await receipts.show("of-mine");
    button(t.payment.open, await dialog()).click();
    await vi.waitFor(() => expect(text(document.body)).toContain(t.payment.made));
    const shown = text(await dialog());
    for (const part of [t.payment.title, t.proof.covered, t.payment.reservation, "0.00056 DGC", "0.041256 DGC"]) expect(shown).toContain(part);
    button(t.proof.openReceipt, await dialog()).click();
    await vi.waitFor(() => expect(receipts.open).not.toBeNull());
  });

  it("claims no signature where the key is gone, and is not offered where nothing was paid", async () => {
    const bare = (job: string): Payment => ({ job, receipt: false, vouchers: payment(job, Date.now()).vouchers.map((voucher) => ({ ...voucher, signature: null, reservation: null, chain: null })) });
    await open("chat", "paid", { paymentOpen: async (job) => bare(job) });
    await payments.show("of-mine");
    const shown = text(await dialog());
    expect(shown).toContain(t.payment.keyGone);
    expect(shown).not.toContain(t.payment.made);
    expect(shown).toContain(t.proof.notChecked);
    payments.open = null;
    await vi.waitFor(() => expect(document.querySelector("[role=dialog]")).toBeNull());
    await receipts.show("job-1");
    expect(() => button(t.payment.open)).toThrow();
  });
});

describe("the price at the model", () => {
  it("says what is asked here and by others, and is set there", async () => {
    const main = await open("models", "paid");
    const name = models.find("llama-3.2-3b-instruct")?.name ?? "";
    expect(text(main)).toContain(`${t.models.youAsk("0.4 DGC")} · ${t.models.othersAsk("0.2 DGC")} · ${t.modes.written} · ${t.money.worthNothing}`);
    button(t.models.details(name), main).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.models.payMost));
    button(t.modes.changeModel(name), main).click();
    const shown = await dialog();
    await fill(shown, t.modes.priceOwn, "0.7");
    button(t.wallet.save, shown).click();
    await vi.waitFor(async () => expect((await core.settingsGet()).money.models["llama-3.2-3b-instruct"]?.price).toBe("700000000000000000"));
  });

  it("takes a limit of its own, which goes before the one for all, and gives it up again", async () => {
    const main = await open("models", "paid");
    const name = models.find("llama-3.2-3b-instruct")?.name ?? "";
    button(t.models.details(name), main).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.models.payMostNote));
    button(t.models.changeCap(name), main).click();
    const shown = await dialog();
    expect(text(shown)).toContain(t.models.capHint("4 DGC (worth nothing)"));
    await fill(shown, t.models.capField, "1,5");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain(t.money.badAmount));
    await fill(shown, t.models.capField, "1.5");
    button(t.wallet.save, shown).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.models.payMostOwn));
    expect((await core.settingsGet()).money.caps["llama-3.2-3b-instruct"]).toBe("1500000000000000000");
    expect((await core.settingsGet()).priceCap).toBe("4000000000000000000");
    button(t.models.changeCap(name), main).click();
    button(t.modes.asAll, await dialog()).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.models.payMostNote));
    expect(Object.keys((await core.settingsGet()).money.caps)).toEqual(["smollm2-135m"]);
  });

  it("is not there where money is off", async () => {
    const main = await open("models", "off");
    button(t.models.details(models.rows[0]?.name ?? ""), main).click();
    await vi.waitFor(() => expect(text(main)).toContain(t.models.digest));
    expect(text(main)).not.toContain(t.models.payMost);
  });
});

describe("a clock that was once ahead", () => {
  it("is forgotten once a person has read what that gives up, and the checks run again", async () => {
    const main = await open("node", "paid");
    button(t.node.checksNow, main).click();
    (await vi.waitFor(() => button(t.node.forgetClock, main))).click();
    const shown = await dialog();
    expect(text(shown)).toContain(t.node.forgetClockBody);
    button(t.node.forgetClockDo, shown).click();
    await vi.waitFor(() => expect(text(main)).toContain("The clock has not gone back."));
    expect(() => button(t.node.forgetClock, main)).toThrow();
  });

  it("stays where it is, and why is said in place, where the core refuses", async () => {
    const main = await open("node", "paid", { forgetClock: () => Promise.reject(new Error("This computer's clock is the wrong one.")) });
    button(t.node.checksNow, main).click();
    (await vi.waitFor(() => button(t.node.forgetClock, main))).click();
    const shown = await dialog();
    button(t.node.forgetClockDo, shown).click();
    await vi.waitFor(() => expect(text(shown)).toContain("the wrong one"));
    button(t.node.forgetClockDo, shown);
  });
});

describe("a toast", () => {
  it("is read and dismissed beside an open dialog, which stays", async () => {
    await open("wallet", "paid");
    proofs.open = { proof: await core.proofOpen("paid-1"), paid: "1" };
    await dialog();
    toasts.warn({ message: "Something went wrong.", fix: null });
    const dismiss = await vi.waitFor(() => button(t.common.dismiss));
    expect(document.documentElement.style.getPropertyValue("--toasts")).not.toBe("0px");
    dismiss.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
    dismiss.click();
    await vi.waitFor(() => expect(toasts.list).toEqual([]));
    expect(proofs.open).not.toBeNull();
    expect(document.documentElement.style.getPropertyValue("--toasts")).toBe("0px");
  });
});
