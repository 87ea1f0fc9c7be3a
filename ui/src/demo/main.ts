import type { Theme } from "../backend/types";
import { start } from "../start";
import { demoBackend, type LinkScene, type Scenario } from "./backend";
import type { MoneyScene } from "./money";

// demo.html?scenario=first&money=nowallet&theme=dark&scale=2&pace=30&link=invite
const query = new URLSearchParams(location.search);
start(
  demoBackend(
    (query.get("scenario") as Scenario | null) ?? "full",
    Number(query.get("pace") ?? 12),
    { theme: (query.get("theme") as Theme | null) ?? "light", textScale: Number(query.get("scale") ?? 1) },
    (query.get("money") as MoneyScene | null) ?? undefined,
    query.get("link") as LinkScene | null,
  ),
);
