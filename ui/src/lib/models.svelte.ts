import { backend, errorView } from "../backend/backend";
import type { ErrorView, ModelRow, ModelsView } from "../backend/types";
import { t } from "../text";
import { places } from "./places.svelte";
import { settings } from "./settings.svelte";
import { attempt, toasts } from "./toasts.svelte";

class Models {
  /** Null until the core has answered once. */
  view = $state.raw<ModelsView | null>(null);

  /** A file of the person's is being read, to be added. */
  adding = $state(false);
  /** Why the last one was not added. */
  refused = $state.raw<ErrorView | null>(null);

  /** Downloads that were seen under way: a file that is only read again at the start is no news. */
  private coming = new Set<string>();

  rows = $derived(this.view?.rows ?? []);
  ready = $derived(this.rows.filter((row) => row.state.kind === "ready"));
  /** What a new chat uses: the chosen default, or the first that is here. */
  preferred = $derived(
    this.rows.find((row) => row.id === settings.value?.defaultModel) ?? this.rows.find((row) => row.isDefault) ?? this.ready[0] ?? null,
  );
  better = $derived(this.rows.find((row) => row.id === this.view?.better) ?? null);

  async load(): Promise<void> {
    this.view = await attempt(backend().modelsList());
  }

  /** A snapshot of the core; a download that has come to its end is said where it is not in sight. */
  take(view: ModelsView): void {
    this.view = view;
    for (const row of view.rows) {
      if (row.state.kind === "downloading") this.coming.add(row.id);
      if (row.state.kind === "absent") this.coming.delete(row.id);
      if (row.state.kind !== "ready" || !this.coming.delete(row.id)) continue;
      const use = row.isDefault ? null : { label: t.chat.betterUse, run: () => void this.makeDefault(row.id) };
      toasts.say(t.chat.betterReady(row.name), use);
    }
  }

  async add(path: string): Promise<void> {
    this.refused = null;
    this.adding = true;
    try {
      toasts.say(t.models.added((await backend().modelAdd(path)).name));
    } catch (cause) {
      this.refused = errorView(cause);
    } finally {
      this.adding = false;
    }
  }

  /** Model files that were let go over the window; the first that cannot be added is said, and the rest wait for it. */
  async addDropped(paths: string[]): Promise<void> {
    const files = paths.filter((path) => /\.gguf$/i.test(path));
    if (files.length === 0) {
      toasts.warn({ message: t.models.dropOther, fix: t.models.dropOtherFix });
      return;
    }
    places.go("models");
    for (const file of files) {
      await this.add(file);
      if (this.refused) return;
    }
  }

  /** By the id of its row, or by its digest as a chat may name it. */
  find(id: string | null): ModelRow | null {
    return id === null ? null : (this.rows.find((row) => row.id === id || (row.digest !== null && id === `sha256:${row.digest}`)) ?? null);
  }

  /** The name to show for a model that an answer names by id or by name. */
  nameOf(model: string): string {
    return this.find(model)?.name ?? model;
  }

  async download(row: ModelRow): Promise<void> {
    await attempt(backend().modelDownload(row.id));
  }
  async pause(row: ModelRow): Promise<void> {
    await attempt(backend().modelPause(row.id));
  }
  async cancel(row: ModelRow): Promise<void> {
    await attempt(backend().modelCancel(row.id));
  }
  async remove(row: ModelRow): Promise<void> {
    await attempt(backend().modelRemove(row.id));
  }
  async makeDefault(id: string): Promise<boolean> {
    const done = await attempt(backend().modelDefault(id).then(() => true));
    if (done && settings.value) settings.value = { ...settings.value, defaultModel: id };
    return done === true;
  }
}

export const models = new Models();
