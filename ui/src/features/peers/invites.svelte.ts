// Links that the system handed over, each shown and asked about before anybody is dialled.
import { backend, errorView } from "../../backend/backend";
import type { ErrorView, Link } from "../../backend/types";
import { attempt, toasts } from "../../lib/toasts.svelte";
import { t } from "../../text";

class Invites {
  /** What is asked about; null where no link waits. */
  link = $state.raw<Link | null>(null);
  connecting = $state(false);
  problem = $state.raw<ErrorView | null>(null);

  async look(): Promise<void> {
    if (this.link !== null) return;
    this.problem = null;
    this.link = await attempt(backend().linkWaiting());
  }

  /** The person said no, or has read why nothing was opened. */
  async close(): Promise<void> {
    this.link = null;
    await attempt(backend().linkDone());
  }

  async connect(text: string): Promise<void> {
    if (this.connecting) return;
    this.connecting = true;
    this.problem = null;
    try {
      const peer = await backend().peersConnect(text);
      toasts.say(t.peers.connected(peer.name));
      await this.close();
    } catch (cause) {
      this.problem = errorView(cause);
    } finally {
      this.connecting = false;
    }
  }
}

export const invites = new Invites();
