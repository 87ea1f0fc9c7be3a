import { backend } from "../../backend/backend";
import type { Proof, Units } from "../../backend/types";
import { attempt } from "../../lib/toasts.svelte";

class Proofs {
  open = $state.raw<{ proof: Proof; paid: Units } | null>(null);

  async show(job: string, paid: Units): Promise<void> {
    const proof = await attempt(backend().proofOpen(job));
    this.open = proof && { proof, paid };
  }
}

export const proofs = new Proofs();
