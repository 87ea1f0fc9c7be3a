import type { Intent, WalletState } from "./core";
import { demoCore, PREVIEW } from "./demo-core";
import { start } from "./start";
import { followAppearance } from "./appearance";

// demo-signing.html?intent=send&wallet=locked&preview=unknown
const query = new URLSearchParams(location.search);
const kind = query.get("intent") ?? "send";
const wallet = (query.get("wallet") as WalletState | null) ?? (kind === "create" || kind === "import" ? "none" : "unlocked");
const preview = {
  unknown: { ...PREVIEW, known: false, title: "Call of a contract" },
  start: {
    ...PREVIEW,
    title: "Sign a first deposit that somebody else brings to the chain",
    feeMax: "0",
    simulation: "not_sent" as const,
    fields: [
      { name: "For who brings it", value: "0.05 DGC" },
      { name: "It may spend", value: "4.65 DGC" },
    ],
  },
  reverts: { ...PREVIEW, simulation: "reverts" as const, reason: "The receiver is locked by the token's admins." },
}[query.get("preview") ?? ""];
followAppearance(location.search);

const root = document.getElementById("page");
if (root) void start(demoCore({ kind, to: "", asset: "token", amount: "0" } as Intent, wallet, [preview ?? PREVIEW]), root);
