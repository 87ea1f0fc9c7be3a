import type { ModelRow } from "../../backend/types";

export type Filter = "all" | "here" | "peers";

/** The rows that a filter and a search leave, in the catalogue's order. Every word must be found somewhere. */
export function shown(rows: readonly ModelRow[], filter: Filter, query: string): ModelRow[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    if (filter === "here" && row.state.kind === "absent") return false;
    if (filter === "peers" && row.peers === 0) return false;
    const text = [row.name, row.family, row.about, row.licence, row.parameters, row.quant].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
