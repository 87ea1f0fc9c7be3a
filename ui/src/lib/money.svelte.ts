import { backend, errorView } from "../backend/backend";
import type { Account, AccountRole, AskedPrice, ErrorView, Intent, MoneyStatus, OfferPrice } from "../backend/types";
import { t } from "../text";
import { amount, type Length, marked } from "./amount";
import { attempt } from "./toasts.svelte";

class Money {
  /** Null until the core has answered once. */
  status = $state.raw<MoneyStatus | null>(null);
  /** Why the core cannot say anything of money; the rest of the window works. */
  problem = $state.raw<ErrorView | null>(null);
  /** What peers ask, by the id of the model. */
  offers = $state.raw<OfferPrice[]>([]);
  /** What this computer asks for the models that it lends. */
  prices = $state.raw<AskedPrice[]>([]);
  /** The signing window is open: a second one would only come to the front. */
  signing = $state(false);

  network = $derived(this.status?.network ?? null);
  symbol = $derived(this.network?.symbol ?? "DGC");
  test = $derived(this.network?.test ?? false);
  /** The account that asking is paid from: the wallet itself where what is earned is spent. */
  payer = $derived(this.account(this.status?.mode === "lend_and_spend" ? "wallet" : "spend"));

  /** A snapshot of the core; what peers ask moves with it. */
  take(status: MoneyStatus): void {
    this.status = status;
    this.problem = null;
    void this.loadOffers();
    void this.loadPrices();
  }

  async load(): Promise<void> {
    try {
      this.take(await backend().moneyStatus());
    } catch (cause) {
      this.problem = errorView(cause);
    }
  }

  async loadOffers(): Promise<void> {
    if (!this.network) {
      this.offers = [];
      return;
    }
    try {
      this.offers = await backend().moneyOffers();
    } catch {
      // Prices are shown where they are known; the quote of a job binds them anyway.
      this.offers = [];
    }
  }

  async loadPrices(): Promise<void> {
    if (!this.network) {
      this.prices = [];
      return;
    }
    try {
      this.prices = await backend().moneyPrices();
    } catch {
      this.prices = [];
    }
  }

  /** An amount inside of a sentence; Amount.svelte is for one that stands by itself. */
  say(units: string | bigint, symbol: string = this.symbol, length: Length = "brief"): string {
    const said = `${amount(units, length)} ${symbol}`;
    return this.test ? t.money.inSentence(said) : said;
  }

  /** An amount in a line that says once, at its end, what all of its amounts are worth. */
  plain(units: string | bigint): string {
    return `${amount(units, "brief")} ${this.symbol}`;
  }

  /** Such a line; on a test network it says that its amounts are worth nothing. */
  line(parts: readonly string[]): string {
    const marked = this.test && parts.some((part) => part.includes(this.symbol));
    return (marked ? [...parts, t.money.worthNothing] : parts).join(" · ");
  }

  /** A sentence of the core, with what every amount on a test network must say. */
  label(text: string): string {
    if (!this.test || !this.network) return text;
    return marked(text, [this.network.symbol, this.network.coin], t.money.inSentence);
  }

  account(role: AccountRole): Account | null {
    return this.status?.accounts.find((account) => account.role === role) ?? null;
  }

  /** The vote lists the file of this row. */
  lists(model: string): boolean {
    return this.status?.rules?.listed.some((listed) => listed.model === model) ?? false;
  }

  offerOf(model: string | null): OfferPrice | null {
    return this.offers.find((offer) => offer.model === model) ?? null;
  }

  /** Asks the person in the signing window; true when they signed. */
  async sign(intent: Intent): Promise<boolean> {
    this.signing = true;
    const answer = await attempt(backend().signOpen(intent));
    this.signing = false;
    return answer === "done";
  }
}

export const money = new Money();
