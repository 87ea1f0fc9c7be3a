import { backend, errorView } from "../backend/backend";
import { type ErrorView, type MoneySettings, type Settings, withMoney } from "../backend/types";

class SettingsState {
  /** Null until the core has answered once. */
  value = $state.raw<Settings | null>(null);
  problem = $state.raw<ErrorView | null>(null);

  money = $derived(this.value?.money ?? null);

  async load(): Promise<void> {
    try {
      this.value = await backend().settingsGet();
    } catch (cause) {
      this.problem = errorView(cause);
    }
  }

  /** Shows the change at once and keeps it only if the core accepts it. */
  async set(change: Partial<Settings>): Promise<boolean> {
    const before = this.value;
    if (!before) return false;
    const wanted = { ...before, ...change };
    this.value = wanted;
    this.problem = null;
    try {
      await backend().settingsSet(wanted);
      return true;
    } catch (cause) {
      if (this.value === wanted) this.value = before;
      this.problem = errorView(cause);
      return false;
    }
  }

  /** The same, of what concerns money. */
  async setMoney(change: Partial<MoneySettings>): Promise<boolean> {
    return this.value !== null && (await this.set(withMoney(this.value, change)));
  }
}

export const settings = new SettingsState();
