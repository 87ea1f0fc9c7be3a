import { backend } from "../../backend/backend";
import type { Receipt } from "../../backend/types";
import { attempt } from "../../lib/toasts.svelte";

class Receipts {
  open = $state.raw<Receipt | null>(null);

  async show(job: string): Promise<void> {
    this.open = await attempt(backend().receiptOpen(job));
  }
}

export const receipts = new Receipts();
