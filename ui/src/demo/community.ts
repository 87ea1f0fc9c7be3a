// Models of the demo that are in no catalogue, and what some peers say of them.
import type { CommunityModel } from "../backend/types";

const HEX = "0123456789abcdef";
/** A digest that looks like one. */
const digestOf = (seed: number): string => Array.from({ length: 64 }, (_, at) => HEX[Math.floor(Math.abs(Math.sin(seed * 91 + at * 17)) * 1e6) % 16]).join("");

function offered(seed: number, part: Partial<CommunityModel>): CommunityModel {
  const digest = digestOf(seed);
  return {
    id: `sha256:${digest}`,
    name: `model ${digest.slice(0, 12)}`,
    digest,
    peers: 1,
    connected: 1,
    contextMax: 8192,
    prices: { inputLow: "0", inputHigh: "0", outputLow: "0", outputHigh: "0", free: 1 },
    quants: ["Q4_K_M"],
    speed: { low: 18, high: 18 },
    heads: 1,
    headBytes: 6_210_000,
    says: null,
    ...part,
  };
}

/** What the first one says once it was looked at; its name is one that tries to be more than text. */
export const SAYS: NonNullable<CommunityModel["says"]> = {
  name: "Northern Lights 9B <b>Official</b>",
  architecture: "qwen2",
  parameters: "9.2B",
  quant: "Q4_K_M",
  context: 32_768,
  runsHere: true,
  takesChat: true,
};

export function communityRows(): CommunityModel[] {
  const money = (units: number) => `${units}00000000000000000`;
  return [
    offered(5, { peers: 4, connected: 2, contextMax: 32_768, prices: { inputLow: "0", inputHigh: money(4), outputLow: "0", outputHigh: money(12), free: 1 }, speed: { low: 11, high: 34 }, quants: ["Q4_K_M", "Q5_K_M"] }),
    offered(2, {
      name: "Harbour Chat 3B",
      peers: 2,
      speed: { low: 22, high: 25 },
      headBytes: 1_790_000,
      prices: { inputLow: "0", inputHigh: "0", outputLow: "0", outputHigh: "0", free: 2 },
      says: { name: "Harbour Chat 3B", architecture: "llama", parameters: "3.2B", quant: "Q4_K_M", context: 8192, runsHere: true, takesChat: true },
    }),
    offered(11, { peers: 3, connected: 0, heads: 2, contextMax: 4096, speed: null, prices: { inputLow: money(3), inputHigh: money(3), outputLow: money(9), outputHigh: money(9), free: 0 } }),
    offered(8, {
      name: "mamba-frontier",
      speed: { low: 40, high: 40 },
      says: { name: "mamba-frontier", architecture: "mamba", parameters: "7B", quant: "Q8_0", context: 16_384, runsHere: false, takesChat: false },
    }),
  ];
}
