// What is about to be signed: what leaves to the last unit, the rest in figures that nobody has to count the digits of; and the signature bound to its digest.
import { amount, type Length, marked } from "../lib/amount";
import { type Preview, refusal } from "./core";
import { el, field, reveal, secret } from "./dom";
import type { Page } from "./page";
import { t } from "./text";
import { unlock } from "./wallet";

export async function confirm(page: Page, locked: boolean, note: string | null = null): Promise<void> {
  const preview = await previewOf(page);
  // What carries a permit is signed in part before it can be shown: then the password comes first.
  if (preview === "locked") return unlock(page, () => confirm(page, false, note));
  const password = locked ? secret("password") : null;
  const agree = preview.known ? null : el("input", { type: "checkbox" });
  const reverts = preview.simulation === "reverts";

  page.show({
    title: preview.title,
    content: [
      note === null ? null : el("p", { class: "note", role: "status" }, note),
      agree === null ? null : el("div", { class: "danger" }, el("p", { class: "strong" }, t.unknownTitle), el("p", {}, t.unknownBody), el("label", { class: "check" }, agree, t.unknownAgree)),
      figures(preview),
      call(preview),
      simulation(preview),
      el("p", { class: "digest" }, `${t.digest} `, el("code", {}, preview.digest), el("br"), t.digestNote),
      ...(password === null ? [] : [field(t.password, password), reveal(t.show, [password])]),
    ],
    aside: { name: t.again, look: "plain", act: () => confirm(page, locked) },
    actions: [
      page.cancel(),
      {
        name: preview.simulation === "not_sent" ? t.confirmSign : t.confirm,
        look: "solid",
        act: async () => {
          if (password?.value === "") return page.refuse({ message: t.passwordNeeded, fix: null });
          await sign(page, preview.digest, password?.value ?? null, locked);
        },
      },
    ],
  });

  const settle = (): void => page.block(reverts ? t.whyReverts : agree !== null && !agree.checked ? t.whyUnknown : null);
  agree?.addEventListener("change", settle);
  settle();
}

async function previewOf(page: Page): Promise<Preview | "locked"> {
  try {
    return await page.core.preview();
  } catch (cause) {
    if (refusal(cause).code === "wallet_locked") return "locked";
    throw cause;
  }
}

/** What was shown is no longer what would be signed. */
const MOVED_ON = ["changed", "signing_other_preview"];

/** Where the chain moved on, the digest no longer holds: the new preview is shown and must be confirmed anew. */
async function sign(page: Page, digest: string, password: string | null, locked: boolean): Promise<void> {
  try {
    await page.core.confirm(digest, password);
  } catch (cause) {
    if (!MOVED_ON.includes(refusal(cause).code)) throw cause;
    await confirm(page, locked, t.changed);
  }
}

function money(units: string | null, symbol: string, test: boolean, length: Length = "exact"): HTMLElement {
  if (units === null) return el("span", { class: "amount" }, t.notEnough(symbol));
  return el("span", { class: "amount", title: `${amount(units)} ${symbol}` }, `${amount(units, length)} ${symbol}`, test ? el("span", { class: "test" }, ` ${t.worthNothing}`) : null);
}

function figures(preview: Preview): HTMLElement {
  const { test, symbol, coin } = preview.network;
  const row = (name: string, ...values: HTMLElement[]) => el("div", {}, el("dt", {}, name), ...values.map((value) => el("dd", {}, value)));
  return el(
    "dl",
    { class: "figures" },
    row(t.leaves, ...(preview.leaves.length === 0 ? [el("span", {}, t.nothingLeaves)] : preview.leaves.map((asset) => money(asset.amount, asset.symbol, test)))),
    row(t.to, el("code", { class: preview.known ? null : "bad" }, preview.to), el("span", { class: "quiet" }, preview.network.title)),
    ...(preview.simulation === "not_sent" ? [] : [row(t.fee, money(preview.feeMax, coin, test, "at_most"))]),
    row(t.after, money(preview.tokenAfter, symbol, test, "brief"), money(preview.coinAfter, coin, test, "brief")),
  );
}

function call(preview: Preview): HTMLElement | null {
  const fields = preview.fields.filter(({ value }) => value !== "").map((each) => readable(each, preview));
  if (fields.length === 0) return null;
  return el(
    "section",
    {},
    el("h2", {}, t.call),
    el("dl", { class: "call" }, ...fields.map(({ name, value }) => el("div", {}, el("dt", {}, name), el("dd", {}, el("code", {}, value))))),
  );
}

type Field = Preview["fields"][number];

const SECONDS = " (Unix seconds)";

/** A time is one of this computer's clock, and an amount on a test network says what it is worth. */
function readable({ name, value }: Field, { network }: Preview): Field {
  const time = name.endsWith(SECONDS) ? new Date(Number(value) * 1000) : null;
  if (time !== null && !Number.isNaN(time.getTime())) return { name: name.slice(0, -SECONDS.length), value: time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) };
  return { name, value: network.test ? marked(value, [network.symbol, network.coin], t.inSentence) : value };
}

function simulation(preview: Preview): HTMLElement {
  // It is signed and not sent: who sends it tries it first.
  if (preview.simulation === "not_sent") return el("p", { class: "quiet" }, t.notSent);
  if (preview.simulation === "not_tried") return el("p", { class: "quiet" }, t.notTried);
  const ok = preview.simulation === "ok";
  return el("p", { class: ok ? "good" : "bad" }, `${t.simulation}: ${ok ? t.simulationOk : t.simulationReverts}`, ok || preview.reason === null ? null : el("span", { class: "block" }, preview.reason));
}

/** Nothing to sign with. */
export function noWallet(page: Page): void {
  page.show({ title: t.noWallet, actions: [{ name: t.close, look: "solid", act: () => page.core.cancel() }] });
}
