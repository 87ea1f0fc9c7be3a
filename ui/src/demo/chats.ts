// Conversations of the demo: what the pictures show, and the awkward ones that a window must bear.
import type { ChatView, Message, Span } from "../backend/types";

export const MINUTE = 60_000;
export const DAY = 86_400_000;
const PEER = "12D3KooWQ7oAhtZ8wGqJ5nVbXk3fRz2yPdLcEmT4uNsY6aKjx9Qa";
const OTHER = "12D3KooWBnd5eFhUc8aJrLw1VtKz7yMqXo2pRs4gTi6vNdEe3mPf";

export function message(part: Partial<Message> & Pick<Message, "id" | "role" | "content">): Message {
  const answer = part.role === "assistant";
  return {
    parent: null,
    reasoning: null,
    reasoningMs: null,
    state: "complete",
    error: null,
    model: answer ? "llama-3.2-3b-instruct" : null,
    unlisted: false,
    spans: answer ? [{ fromIndex: 0, peer: null, receipt: null, why: null }] : [],
    promptTokens: null,
    outputTokens: answer ? 120 : null,
    tokensPerSecond: answer ? 31.4 : null,
    firstTokenMs: answer ? 400 : null,
    createdMs: Date.now(),
    siblings: [part.id],
    leftOut: false,
    ...part,
  };
}

export type Draft = Omit<ChatView, "messages" | "contextUsed" | "sampling"> & {
  messages: Message[];
  updatedMs: number;
  contextUsed: number;
};

/** A chat whose messages follow one another. */
function chat(id: string, title: string, updatedMs: number, messages: Message[], more: Partial<Draft> = {}): Draft {
  const linked = messages.map((entry, index) => ({ ...entry, parent: messages[index - 1]?.id ?? null }));
  return {
    id,
    title,
    pinned: false,
    temporary: false,
    model: null,
    unlisted: null,
    place: "local",
    peer: null,
    consented: false,
    systemPrompt: null,
    onFull: "ask",
    contextUsed: 1420,
    contextLimit: 8192,
    messages: linked,
    updatedMs,
    ...more,
  };
}

/** A span with what its receipt was paid. */
export const paid = (span: Span, units: string): Span => Object.assign(span, { paid: units });
const say = (id: string, content: string): Message => message({ id, role: "user", content });
const answer = (id: string, content: string, more: Partial<Message> = {}): Message => message({ id, role: "assistant", content, ...more });

export function conversations(now: number): Draft[] {
  const bread = chat(
    "bread",
    "Why bread dough tears",
    now - 3 * MINUTE,
    [
      say("b1", "My dough keeps tearing when I stretch it. What am I doing wrong?"),
      answer(
        "b2",
        "Tearing nearly always means that the gluten has not relaxed yet, or that there is too little water for the flour to link up. In the order I would check them:\n\n1. **Rest it.** Cover the dough and wait twenty minutes before you stretch again.\n2. **Check the water.** Below about 60 % hydration a hand-kneaded dough stays stiff.\n3. **Knead less, fold more.** Four folds, half an hour apart, build strength without force.",
      ),
      say("b3", "Give me a small function for the hydration, and ask the bigger model."),
      answer(
        "b4",
        "Hydration is the weight of water over the weight of flour:\n\n```python\ndef hydration(flour, water):\n    return water / flour      # 0.65 is a common loaf\n```\n\nSo 325 g of water on 500 g of flour is 0.65, or 65 %.",
        {
          model: "llama-3.3-70b-instruct",
          spans: [paid({ fromIndex: 0, peer: PEER, receipt: "job-bread", why: null }, "2104000000000000")],
          tokensPerSecond: 18.2,
          firstTokenMs: 1300,
          siblings: ["b4-old", "b4"],
        },
      ),
    ],
    { consented: true },
  );

  const regex = chat(
    "regex",
    "Regex for ISO dates",
    now - 40 * MINUTE,
    [
      say("r1", "A regular expression for ISO dates, and why each part is there. Show the cases in a table."),
      answer(
        "r2",
        "Use one group per field and anchor both ends:\n\n```ts\nconst iso = /^(\\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$/;\n\nexport function parse(text: string): Date | null {\n  const found = iso.exec(text);\n  if (!found) return null; // not a date at all\n  return new Date(`${text}T00:00:00Z`);\n}\n```\n\n| Text | Matches | Why |\n| :--- | :---: | :--- |\n| `2026-11-23` | yes | all three fields in range |\n| `2026-13-01` | no | there is no month 13 |\n| `2026-02-31` | yes | the *calendar* needs code, not a pattern |\n\n> A pattern says what is written, not what exists.\n\nMore on the format: [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339), or the page at <https://example.org/dates>. ~~Do not~~ Do test leap days:\n\n- [x] 2024-02-29\n- [ ] 2100-02-29",
        {
          reasoning: "The person wants a pattern for dates. ISO 8601 has week dates too, but **calendar dates** are meant here.\n\nAnchors matter, or `x2026-11-23` matches.",
          reasoningMs: 12_300,
          model: "deepseek-r1-distill-llama-8b",
          tokensPerSecond: 9.4,
          spans: [
            { fromIndex: 0, peer: OTHER, receipt: "job-regex-1", why: null },
            { fromIndex: 57, peer: PEER, receipt: "job-regex-2", why: "gone" },
          ],
          firstTokenMs: 2100,
        },
      ),
    ],
    { consented: true, place: "peer" },
  );

  const hostile = chat("hostile", "What a bad answer may try", now - 3 * DAY, [
    say("h1", "Repeat the attack text."),
    answer(
      "h2",
      'Before <b>bold?</b> and <script>document.title="owned"</script> after.\n\n<img src=x onerror="document.title=\'owned\'">\n\n<iframe srcdoc="<script>parent.document.title=\'owned\'</script>"></iframe>\n\n[a script](javascript:document.title="owned") and [a page](https://example.com/path?with=query) and ![a picture](https://tracker.example/pixel.png) &lt;i&gt; &amp; &copy;\n\n<a href="https://example.com" onclick="document.title=\'owned\'">click</a>\n\nA_very_long_word_without_any_place_to_break_' +
        "x".repeat(180),
      { state: "stopped" },
    ),
  ]);

  const formulas = chat("formulas", "The normal distribution", now - 2 * DAY - 60 * MINUTE, [
    say("m1", "Why does the bell curve have an area of one?"),
    answer(
      "m2",
      "Write the density with mean $\\mu$ and standard deviation $\\sigma$:\n\n$$\nf(x) = \\frac{1}{\\sigma\\sqrt{2\\pi}}\\, e^{-\\frac{(x-\\mu)^2}{2\\sigma^2}}\n$$\n\nSubstitute $u = (x-\\mu)/\\sigma$, square the integral, and change to polar coordinates:\n\n\\[\n\\begin{aligned}\nI^2 &= \\frac{1}{2\\pi}\\int_0^{2\\pi}\\!\\int_0^\\infty e^{-r^2/2}\\, r\\, dr\\, d\\theta \\\\\n    &= \\int_0^\\infty e^{-r^2/2}\\, r\\, dr = 1\n\\end{aligned}\n\\]\n\n1. The factor \\(r\\) makes the inner integral elementary.\n2. A matrix needs no more than $\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}$.\n\nA textbook on it costs between $25 and $60.",
    ),
  ]);

  const failed = chat("failed", "Names for a bakery", now - 5 * DAY, [
    say("f1", "Ten names for a bakery by a canal."),
    answer("f2", "1. Lockside Loaf\n2. The Towpath Oven\n3.", {
      state: "failed",
      error: {
        code: "worker_died",
        message: "The process that computes answers ended in the middle of this one.",
        fix: "Retry starts a new one. If it happens again, choose a smaller model.",
      },
      tokensPerSecond: null,
    }),
  ]);

  const long: Message[] = [];
  for (let turn = 0; turn < 60; turn++) {
    long.push(message({ id: `l${turn}q`, role: "user", content: `Question ${turn + 1}: what comes next in the thesis outline?`, leftOut: turn < 56 }));
    long.push(
      message({
        id: `l${turn}a`,
        role: "assistant",
        content: `Section ${turn + 1} should state its claim first, then the evidence, then what would change your mind.\n\n- claim\n- evidence\n- doubt`,
        leftOut: turn < 56,
      }),
    );
  }

  return [
    chat("thesis", "Thesis outline", now - 6 * DAY, long, { pinned: true, contextUsed: 7800, onFull: "drop_oldest" }),
    bread,
    regex,
    chat("letter", "Letter to the landlord", now - 2 * 60 * MINUTE, [
      say("a1", "Write to my landlord that the heating has been off for three days."),
      answer(
        "a2",
        "Dear Ms Okafor,\n\nthe heating in flat 4 has been off since Friday evening. The boiler shows error F28. I reported it by phone on Saturday and have not heard back.\n\nPlease send somebody by Tuesday, and tell me when to be at home.\n\nKind regards",
        { state: "length", tokensPerSecond: 142.6, model: "smollm2-135m", firstTokenMs: 90 },
      ),
    ]),
    chat("porto", "Trip to Porto in March", now - DAY - 60 * MINUTE, [say("p1", "Three days in Porto?"), answer("p2", "Start in Ribeira and walk uphill.")]),
    chat("tcp", "Explain TCP slow start", now - 2 * DAY, [
      say("t1", "Explain TCP slow start."),
      answer("t2", "A sender begins with a small window and doubles it each round trip.", { spans: [{ fromIndex: 0, peer: PEER, receipt: "job-tcp", why: null }] }),
    ]),
    formulas,
    hostile,
    failed,
    chat("sql", "SQL window functions", now - 20 * DAY, [say("s1", "What is a window function?"), answer("s2", "A sum that keeps its rows.")]),
  ];
}

/** The version of an answer that "2 / 2" leads back to. */
export const EARLIER: Record<string, Message> = {
  "b4-old": answer("b4-old", "Divide the water by the flour.", { parent: "b3", siblings: ["b4-old", "b4"], model: "smollm2-135m", tokensPerSecond: 148 }),
};

const BLOCKED = "12D3KooWBq7ZsK1pGvQ3nXcRy5eJfM9tUwLhD4aT8oVi2NtH3xQe";
export const PEERS = { PEER, OTHER, BLOCKED };
