// What peers offer and no row of the models names: listed apart, only while its switch is on, and never chosen by itself.
import { backend, errorView } from "../backend/backend";
import type { CommunityView, ErrorView } from "../backend/types";
import { t } from "../text";
import { models } from "./models.svelte";
import { settings } from "./settings.svelte";

/** How the id of a model begins that is known by its digest alone. */
const BY_DIGEST = "sha256:";
/** So much of a digest tells two files apart on a screen. */
const SHORT = 12;

class Community {
  /** Null until the core has answered once. */
  view = $state.raw<CommunityView | null>(null);
  /** Why they cannot be listed or looked for. */
  problem = $state.raw<ErrorView | null>(null);
  /** Those whose description is on its way. */
  looking = $state.raw<readonly string[]>([]);
  /** Why a description did not come, by the id of its model. */
  problems = $state.raw<Readonly<Record<string, ErrorView>>>({});

  /** Lists that were asked for, and changes that were made meanwhile, in their order. */
  private begun = 0;
  /** The one of them that is shown: what was asked for before it is out of date. */
  private shown = 0;

  on = $derived(settings.value?.communityModels ?? false);
  rows = $derived(this.on ? (this.view?.rows ?? []) : []);

  async load(): Promise<void> {
    const at = ++this.begun;
    try {
      const view = await backend().communityList();
      if (at > this.shown) this.show(view, at);
    } catch (cause) {
      if (at > this.shown) this.problem = errorView(cause);
    }
  }

  private show(view: CommunityView | null, at = ++this.begun): void {
    this.shown = at;
    this.view = view;
  }

  /** Shows what is at hand at once, and looks for more. */
  async search(): Promise<void> {
    this.problem = null;
    await this.load();
    try {
      await backend().communitySearch();
    } catch (cause) {
      this.problem = errorView(cause);
    }
    await this.load();
  }

  async switch(on: boolean): Promise<void> {
    if (!(await settings.set({ communityModels: on }))) {
      this.problem = settings.problem;
      return;
    }
    if (on) await this.search();
    else this.show(null);
  }

  /** Fetches what a file says of itself. */
  async look(id: string): Promise<void> {
    if (this.looking.includes(id)) return;
    this.looking = [...this.looking, id];
    const { [id]: _, ...others } = this.problems;
    this.problems = others;
    try {
      const model = await backend().communityLook(id);
      if (this.view) this.show({ ...this.view, rows: this.view.rows.map((row) => (row.id === id ? model : row)) });
    } catch (cause) {
      this.problems = { ...this.problems, [id]: errorView(cause) };
    }
    this.looking = this.looking.filter((one) => one !== id);
  }
}

export const community = new Community();

/** What to call a chat's model that no row names; null where one does, or none is chosen. `said` is the core's word for it. */
export function unlistedName(model: string | null, said: string | null): string | null {
  if (!model?.startsWith(BY_DIGEST) || models.find(model)) return null;
  return community.rows.find((row) => row.id === model)?.name ?? said ?? t.community.byDigest(model.slice(BY_DIGEST.length, BY_DIGEST.length + SHORT));
}
