import { backend } from "../../backend/backend";
import type { Payment } from "../../backend/types";
import { attempt } from "../../lib/toasts.svelte";

class Payments {
  open = $state.raw<Payment | null>(null);

  async show(job: string): Promise<void> {
    this.open = await attempt(backend().paymentOpen(job));
  }
}

export const payments = new Payments();
