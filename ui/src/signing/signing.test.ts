import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { demoCore, type Log, PASSWORD, PREVIEW, WORDS } from "./demo-core";
import type { Intent, Preview, WalletState } from "./core";
import { start } from "./start";
import { followAppearance } from "./appearance";
import { t } from "./text";

let root: HTMLElement;
let log: Log;

beforeEach(() => {
  root = document.createElement("main");
  document.body.replaceChildren(root);
  log = [];
});

async function open(intent: Intent, wallet: WalletState, previews?: Preview[]): Promise<void> {
  await start(demoCore(intent, wallet, previews, log), root);
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));
const heading = () => root.querySelector("h1")?.textContent;
const said = () => root.querySelector(".problem")?.textContent ?? "";
const named = (name: string) => [...root.querySelectorAll("button")].find((one) => one.textContent === name);

async function press(name: string): Promise<void> {
  const found = named(name);
  if (!found) throw new Error(`there is no button ${name} on ${heading()}`);
  found.click();
  await settled();
}

/** By its label, as a screen reader finds it. */
function labelled(label: string): HTMLInputElement {
  const found = [...root.querySelectorAll("label")].find((one) => one.textContent === label);
  const control = found?.htmlFor ? root.querySelector<HTMLInputElement>(`#${found.htmlFor}`) : found?.querySelector("input");
  if (!control) throw new Error(`nothing is labelled ${label}`);
  return control;
}

function type(label: string, text: string): void {
  const control = labelled(label);
  control.value = text;
  control.dispatchEvent(new Event("input", { bubbles: true }));
}

const send: Intent = { kind: "send", to: PREVIEW.to, asset: "token", amount: "1500000000000000000" };

describe("making a wallet", () => {
  it("takes a password, shows the words, asks three back, and ends", async () => {
    await open({ kind: "create" }, "none");
    type(t.passwordNew, PASSWORD);
    type(t.passwordAgain, PASSWORD);
    await press(t.next);
    expect([...root.querySelectorAll(".words li")].map((word) => word.textContent)).toEqual(WORDS);
    await press(t.wordsWritten);
    expect(root.querySelector(".words")).toBeNull();
    type(t.askWord(3), " Abandon ");
    type(t.askWord(11), "abandon");
    type(t.askWord(24), "art");
    await press(t.askCheck);
    expect(root.textContent).toContain(t.doneCreated);
    await press(t.close);
    expect(log.map((entry) => entry.name)).toEqual(["create", "finish"]);
  });

  it.each([
    { why: t.passwordShort, once: "short", twice: "short" },
    { why: t.passwordLong, once: "x".repeat(257), twice: "x".repeat(257) },
    { why: t.passwordDiffers, once: PASSWORD, twice: "correct house" },
  ])("refuses a password: $why", async ({ once, twice, why }) => {
    await open({ kind: "create" }, "none");
    type(t.passwordNew, once);
    type(t.passwordAgain, twice);
    await press(t.next);
    expect(said()).toBe(why);
    expect(log).toEqual([]);
  });

  it("asks anew when a word is wrong, and lets the person confirm later", async () => {
    await open({ kind: "create" }, "none");
    type(t.passwordNew, PASSWORD);
    type(t.passwordAgain, PASSWORD);
    await press(t.next);
    await press(t.wordsWritten);
    type(t.askWord(3), "ability");
    await press(t.askCheck);
    expect(said()).toBe(t.askWrong);
    expect(labelled(t.askWord(3)).value).toBe("");
    await press(t.askLater);
    expect(log.at(-1)?.name).toBe("finish");
  });

  it("makes no second one", async () => {
    await open({ kind: "create" }, "locked");
    expect(heading()).toBe(t.createThere);
  });
});

describe("the words of a wallet", () => {
  it("are shown after the password alone", async () => {
    await open({ kind: "show_words" }, "unlocked");
    expect(root.querySelector(".words")).toBeNull();
    type(t.password, "wrong password");
    await press(t.next);
    expect(said()).toContain("The password is wrong.");
    expect(root.querySelector(".words")).toBeNull();
    type(t.password, PASSWORD);
    await press(t.next);
    expect(root.querySelectorAll(".words li")).toHaveLength(24);
  });

  it("are not needed to be remembered, and the password is", async () => {
    await open({ kind: "remember" }, "unlocked");
    type(t.password, "wrong password");
    await press(t.remember);
    expect(said()).toContain("The password is wrong.");
    expect(log).toEqual([]);
    type(t.password, PASSWORD);
    await press(t.remember);
    expect(root.textContent).toContain(t.doneRemembered);
    await press(t.close);
    expect(log.map((entry) => entry.name)).toEqual(["remember", "finish"]);
  });

  it("are confirmed from paper, or cancelled", async () => {
    await open({ kind: "confirm_words" }, "locked");
    await press(t.askHave);
    type(t.password, "wrong password");
    await press(t.next);
    expect(said()).toContain("The password is wrong.");
    type(t.password, PASSWORD);
    await press(t.next);
    await press(t.askLater);
    expect(log.map((entry) => entry.name)).toEqual(["cancel"]);
  });

  it("are imported as one line of small letters", async () => {
    await open({ kind: "import" }, "none");
    type(t.importWordsLabel, `  ${WORDS.join("\n ").toUpperCase()} `);
    expect(root.textContent).toContain(t.importWordsCount(24));
    type(t.passwordNew, PASSWORD);
    type(t.passwordAgain, PASSWORD);
    await press(t.importTitle);
    expect(root.textContent).toContain(t.doneImported);
  });

  it("say what is wrong with them", async () => {
    await open({ kind: "import" }, "none");
    type(t.importWordsLabel, "abandon ability");
    type(t.passwordNew, PASSWORD);
    type(t.passwordAgain, PASSWORD);
    await press(t.importTitle);
    expect(said()).toContain("do not belong together");
    expect(labelled(t.importWordsLabel).value).toBe("abandon ability");
  });
});

describe("a confirmation", () => {
  it("names what leaves, to whom, the fee, what is left, the call and the simulation, and is bound to the digest", async () => {
    await open(send, "unlocked");
    const text = root.textContent ?? "";
    for (const part of ["1.5 DGC", PREVIEW.to, "0.000215 ETH", "11.25 DGC", "0.0412 ETH", "1500000000000000000", t.simulationOk, PREVIEW.digest]) expect(text).toContain(part);
    // Every amount on a test network says so.
    expect(root.querySelectorAll(".amount")).toHaveLength(4);
    expect(root.querySelectorAll(".amount .test")).toHaveLength(4);
    await press(t.confirm);
    expect(log).toEqual([{ name: "confirm", input: PREVIEW.digest }]);
  });

  it("signs nothing without the password of a locked wallet", async () => {
    await open(send, "locked");
    await press(t.confirm);
    expect(said()).toBe(t.passwordNeeded);
    type(t.password, "wrong password");
    await press(t.confirm);
    expect(said()).toContain("The password is wrong.");
    expect(log).toEqual([]);
    type(t.password, PASSWORD);
    await press(t.confirm);
    expect(log.map((entry) => entry.name)).toEqual(["confirm"]);
  });

  it("asks for the password first where the preview itself needs the key", async () => {
    await open({ kind: "deposit", amount: "1" }, "locked");
    expect(heading()).toBe(t.unlockTitle);
    type(t.password, PASSWORD);
    await press(t.unlock);
    expect(heading()).toBe(PREVIEW.title);
    expect(() => labelled(t.password)).toThrow();
    await press(t.confirm);
    expect(log.map((entry) => entry.name)).toEqual(["unlock", "confirm"]);
  });

  it("is red and blocked until the person says that they know an unknown address", async () => {
    await open(send, "unlocked", [{ ...PREVIEW, known: false }]);
    expect(root.querySelector(".danger")?.textContent).toContain(t.unknownTitle);
    expect(named(t.confirm)?.disabled).toBe(true);
    expect(root.textContent).toContain(t.whyUnknown);
    labelled(t.unknownAgree).click();
    expect(named(t.confirm)?.disabled).toBe(false);
    expect(root.textContent).not.toContain(t.whyUnknown);
  });

  it("is blocked with its reason where the call would fail", async () => {
    await open(send, "unlocked", [{ ...PREVIEW, simulation: "reverts", reason: "The receiver is locked." }]);
    expect(named(t.confirm)?.disabled).toBe(true);
    expect(root.textContent).toContain("The receiver is locked.");
    expect(root.textContent).toContain(t.whyReverts);
    root.querySelector("form")?.requestSubmit();
    await settled();
    expect(log).toEqual([]);
  });

  it("is signed and not sent where somebody else brings it", async () => {
    await open(send, "unlocked", [{ ...PREVIEW, simulation: "not_sent", feeMax: "0" }]);
    expect(root.textContent).toContain(t.notSent);
    // It has no fee of this wallet's, and nothing was tried.
    for (const part of [t.fee, t.simulationOk, t.confirm]) expect(root.textContent).not.toContain(part);
    expect(root.textContent).toContain(t.confirmSign);
  });

  it("is shown anew where the chain moved on, and not signed until that was confirmed", async () => {
    const second = { ...PREVIEW, digest: "0xsecond", feeMax: "999000000000000" };
    await open(send, "unlocked", [PREVIEW, second]);
    await press(t.confirm);
    await settled();
    expect(log).toEqual([]);
    expect(root.textContent).toContain(t.changed);
    expect(root.textContent).toContain("0.000999 ETH");
    await press(t.confirm);
    expect(log).toEqual([{ name: "confirm", input: "0xsecond" }]);
  });

  it("writes times of the call as this computer's clock has them, amounts with what they are worth, and leaves out what is empty", async () => {
    const until = Date.UTC(2026, 11, 26, 12) / 1000;
    const fields = [
      { name: "Until (Unix seconds)", value: String(until) },
      { name: "Ever (Unix seconds)", value: "99999999999999999999" },
      { name: "Bond", value: "0.25 DGC" },
      { name: "Reason", value: "" },
    ];
    await open(send, "unlocked", [{ ...PREVIEW, fields }]);
    const rows = [...root.querySelectorAll(".call > div")].map((row) => [row.querySelector("dt")?.textContent, row.querySelector("dd")?.textContent]);
    expect(rows[0]?.[0]).toBe("Until");
    expect(rows[0]?.[1]).toContain("26 Dec 2026");
    expect(rows.slice(1)).toEqual([
      ["Ever (Unix seconds)", "99999999999999999999"],
      ["Bond", "0.25 DGC (worth nothing)"],
    ]);
  });

  it("renders what it is told as text alone", async () => {
    const evil = `<img src=x onerror="document.title='owned'"><script>1</script>`;
    await open(send, "unlocked", [{ ...PREVIEW, title: evil, to: evil, reason: evil, fields: [{ name: evil, value: evil }] }]);
    expect(root.querySelectorAll("img, script")).toHaveLength(0);
    expect(heading()).toBe(evil);
  });

  it("needs a wallet", async () => {
    await open(send, "none");
    expect(heading()).toBe(t.noWallet);
  });

  it("is cancelled by Escape", async () => {
    await open(send, "unlocked");
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    await settled();
    expect(log).toContainEqual({ name: "cancel", input: undefined });
  });
});

describe("the look of this window", () => {
  const dark = () => document.documentElement.classList.contains("dark");

  it("is the one that the app is set to, else the system's", () => {
    followAppearance("?theme=dark");
    expect(dark()).toBe(true);
    followAppearance("?theme=light");
    expect(dark()).toBe(false);
    const asked = vi.spyOn(globalThis, "matchMedia").mockReturnValue({ matches: true, addEventListener: () => {} } as unknown as MediaQueryList);
    followAppearance("");
    expect(dark()).toBe(true);
    asked.mockRestore();
    followAppearance("");
    expect(dark()).toBe(false);
  });

  it("follows a change of the app while the window is open", () => {
    const tell = (theme: string, scale: number) => document.dispatchEvent(new CustomEvent("appearance", { detail: { theme, scale } }));
    const size = () => document.documentElement.style.fontSize;
    followAppearance("?theme=light&scale=1.5");
    expect(size()).toBe("24px");
    tell("dark", 2);
    expect([dark(), size()]).toEqual([true, "32px"]);
    tell("system", 1);
    expect([dark(), size()]).toEqual([false, "16px"]);
    tell("light", Number.NaN);
    expect(size()).toBe("16px");
  });
});

describe("the file of this window", () => {
  const folder = import.meta.dirname;
  const sources = readdirSync(folder)
    .filter((file) => file.endsWith(".ts") && !file.includes("test"))
    .map((file) => readFileSync(join(folder, file), "utf8"));

  it("sets no markup, and imports nothing of the main window but how amounts are written", () => {
    for (const source of sources) {
      expect(source).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(/);
      for (const [, path] of source.matchAll(/^(?:import|export)[^"\n]*"([^"]+)"/gm)) {
        if (path?.startsWith("../")) expect(path).toBe("../lib/amount");
      }
    }
  });

  it("has a policy of its own that is no wider than the main window's", () => {
    const page = readFileSync(join(folder, "../../signing.html"), "utf8");
    const policy = /content="(default-src[^"]+)"/.exec(page)?.[1] ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|\*|https:/);
    expect(page).not.toMatch(/\son\w+=|<style|<script(?![^>]*src=)/);
  });
});
