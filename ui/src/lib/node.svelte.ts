import { backend, errorView } from "../backend/backend";
import type { ErrorView, NodeStatus } from "../backend/types";
import { attempt } from "./toasts.svelte";

class Node {
  /** Null until the core has answered once. */
  status = $state.raw<NodeStatus | null>(null);
  /** The wish while a switch is on its way; null when it has arrived. */
  wanted = $state<boolean | null>(null);
  problem = $state.raw<ErrorView | null>(null);

  /** On is everything but off: a paused node is switched on, and waits. */
  on = $derived(this.wanted ?? (this.status !== null && this.status.serving.kind !== "off"));
  peers = $derived((this.status?.peers ?? []).filter((peer) => !peer.blocked));
  /** Peers that could answer a question now. */
  offering = $derived(this.peers.filter((peer) => peer.models.length > 0));

  async load(): Promise<void> {
    this.status = await attempt(backend().nodeStatus());
  }

  async toggle(on: boolean): Promise<void> {
    if (this.wanted !== null) return;
    this.wanted = on;
    this.problem = null;
    try {
      this.status = await backend().nodeSwitch(on);
    } catch (cause) {
      this.problem = errorView(cause);
    } finally {
      this.wanted = null;
    }
  }

  async pause(minutes: number): Promise<void> {
    await attempt(backend().nodePause(minutes));
  }

  async resume(): Promise<void> {
    await attempt(backend().nodeResume());
  }
}

export const node = new Node();
