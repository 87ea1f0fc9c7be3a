// Pictures of every place over the demo backend, in light and dark, for a person to look at (ui/shots/, not kept),
// and the checks that only a browser can make: the policy refuses nothing the window needs, hostile text stays text,
// nothing is written to the console, nothing but the window's own files is asked for, and axe finds no fault: names, roles,
// order, contrast.
//
// npm run shots [-- NAME]   takes only the pictures whose name contains NAME. CHROMIUM names another browser.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { preview } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "shots");
const only = process.argv[2] ?? "";
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const open = (name) => async (page) => {
  await page.getByRole("navigation", { name: "Chats" }).getByText(name, { exact: true }).click();
  await page.waitForTimeout(150);
};
const place = (name) => async (page) => {
  await page.getByRole("navigation", { name: "Places" }).getByRole("button", { name, exact: true }).click();
  await page.waitForTimeout(150);
};
const send = async (page, text) => {
  await page.getByLabel("Ask anything").fill(text);
  await page.keyboard.press("Enter");
};
const step =
  (...steps) =>
  async (page) => {
    for (const one of steps) await one(page);
  };

const unfoldCommunity = (page) => page.getByRole("button", { name: "Community models" }).click();
const listCommunity = async (page) => {
  await page.getByRole("switch", { name: "List community models" }).click();
  await page.getByText("Harbour Chat 3B").waitFor();
};

/** name, address, what to do before the picture, and what must be true then. */
const pictures = [
  { name: "chat", does: open("Why bread dough tears") },
  { name: "chat-markdown", does: step(open("Regex for ISO dates"), (page) => page.getByText("Thought for 12 s").click()) },
  {
    name: "chat-formulas",
    does: step(open("The normal distribution"), (page) => page.locator(".katex").first().waitFor()),
    holds: async (page) => {
      const drawn = await page.locator("article .katex").count();
      if (drawn !== 7) throw new Error(`${drawn} formulas of 7 were set`);
      await page.getByText("between $25 and $60").waitFor();
      const faces = await page.evaluate(() => [...document.fonts].filter((face) => face.family.startsWith("KaTeX") && face.status === "loaded").length);
      if (faces === 0) throw new Error("the fonts of formulas were not loaded");
    },
  },
  { name: "chat-first", query: "scenario=first" },
  { name: "chat-bare", query: "scenario=bare" },
  { name: "chat-failed", does: open("Names for a bakery") },
  { name: "chat-length", does: open("Letter to the landlord") },
  {
    name: "chat-hostile",
    does: open("What a bad answer may try"),
    holds: async (page) => {
      if ((await page.title()) === "owned") throw new Error("a model's text ran as code");
      const made = await page.locator("article :is(img, script, iframe, b, i)").count();
      if (made !== 0) throw new Error(`a model's text made ${made} elements of its own`);
      await page.getByText("<img src=x onerror=").waitFor();
    },
  },
  { name: "chat-long", does: open("Thesis outline") },
  {
    name: "chat-search",
    does: step(place("Models"), async (page) => {
      await page.keyboard.press("Control+k");
      await page.keyboard.type("water");
      await page.getByText("chats found").or(page.getByText("chat found")).waitFor();
    }),
  },
  {
    name: "chat-find",
    does: step(open("Thesis outline"), async (page) => {
      await page.keyboard.press("Control+f");
      await page.keyboard.type("evidence");
      await page.keyboard.press("Enter");
      await page.getByText("2 of 120").waitFor();
    }),
  },
  {
    name: "chat-rename",
    does: step(open("Letter to the landlord"), async (page) => {
      await page.getByRole("button", { name: "More for this chat" }).click();
      await page.getByRole("menuitem", { name: "Rename" }).click();
      await page.waitForTimeout(200);
      await page.getByLabel("Title of the chat").waitFor();
    }),
  },
  { name: "keys", does: step((page) => page.keyboard.press("Control+/"), (page) => page.getByRole("dialog").waitFor(), (page) => page.waitForTimeout(200)) },
  {
    name: "chat-consent",
    does: async (page) => {
      await page.keyboard.press("Control+n");
      await page.getByRole("radio", { name: "A peer" }).click();
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByRole("alertdialog").waitFor();
    },
  },
  {
    name: "chat-in-line",
    query: "pace=600",
    does: async (page) => {
      await page.getByRole("radio", { name: "A peer" }).click();
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByRole("button", { name: "Send to a peer" }).click();
      await page.getByText("2nd in line").waitFor();
    },
  },
  {
    name: "chat-streaming",
    query: "pace=60",
    does: async (page) => {
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByText("Rayleigh scattering", { exact: true }).waitFor();
    },
  },
  {
    name: "chat-answered",
    does: async (page) => {
      await page.getByRole("radio", { name: "A peer" }).click();
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByRole("button", { name: "Send to a peer" }).click();
      await page.getByRole("button", { name: "Receipt" }).waitFor();
    },
  },
  { name: "chat-edit", does: step(open("Why bread dough tears"), (page) => page.getByRole("button", { name: "Edit" }).first().click()) },
  {
    name: "chat-settings",
    does: step(
      open("Why bread dough tears"),
      (page) => page.getByRole("button", { name: "More for this chat" }).click(),
      (page) => page.getByRole("menuitem", { name: "Chat settings" }).click(),
      (page) => page.getByRole("button", { name: "Sampling" }).click(),
    ),
  },
  { name: "chat-menu", does: step(open("Why bread dough tears"), (page) => page.getByRole("button", { name: "Model of this chat" }).click()) },
  {
    name: "chat-full",
    does: step(open("Thesis outline"), async (page) => {
      await page.getByRole("button", { name: "More for this chat" }).click();
      await page.getByRole("menuitem", { name: "Chat settings" }).click();
      await page.getByRole("radio", { name: "Ask me" }).click();
      await page.keyboard.press("Escape");
      await page.getByLabel("Ask anything").fill("Summarise every section again, with all of its evidence. ".repeat(40));
      await page.waitForTimeout(500);
      await page.getByLabel("Ask anything").press("Enter");
      await page.getByRole("alertdialog").waitFor();
    }),
  },
  {
    name: "chat-deleted",
    does: step(open("Letter to the landlord"), async (page) => {
      await page.getByRole("button", { name: "More for this chat" }).click();
      await page.getByRole("menuitem", { name: "Delete" }).click();
      await page.getByRole("button", { name: "Undo" }).waitFor();
    }),
  },
  { name: "receipt", does: step(open("Why bread dough tears"), (page) => page.getByRole("button", { name: "Receipt" }).click(), (page) => page.waitForTimeout(200)) },
  { name: "link", does: step(open("Regex for ISO dates"), (page) => page.getByRole("link", { name: "RFC 3339" }).click(), (page) => page.waitForTimeout(200)) },
  { name: "models", does: place("Models") },
  { name: "models-details", does: step(place("Models"), (page) => page.getByRole("button", { name: "Details of Llama 3.2 3B" }).click()), tall: true },
  {
    name: "models-discard",
    does: step(place("Models"), (page) => page.getByRole("button", { name: "Cancel the download" }).first().click(), (page) => page.getByText("What has come so far").waitFor(), (page) => page.waitForTimeout(200)),
  },
  {
    name: "models-drop",
    does: async (page) => {
      await page.evaluate(() => window.dispatchEvent(new CustomEvent("demo-drag", { detail: { kind: "over" } })));
      await page.getByText("Drop the model file here").waitFor();
    },
  },
  {
    name: "models-cap",
    does: step(
      place("Models"),
      (page) => page.getByRole("button", { name: "Details of Llama 3.2 3B" }).click(),
      (page) => page.getByRole("button", { name: "Change the most that you pay for Llama 3.2 3B" }).click(),
      (page) => page.waitForTimeout(250),
    ),
  },
  {
    name: "models-community",
    does: step(place("Models"), unfoldCommunity, listCommunity, async (page) => {
      await page.getByRole("button", { name: "Look at its description" }).first().click();
      await page.getByRole("button", { name: "Details of Northern Lights" }).click();
      await page.getByRole("button", { name: "Look at its description" }).first().click();
      await page.getByText("could not be fetched").waitFor();
    }),
    holds: async (page) => {
      if ((await page.getByRole("region", { name: "Community models" }).locator("b").count()) !== 0) throw new Error("a file's own name made an element");
    },
    tall: true,
  },
  { name: "models-community-off", does: step(place("Models"), unfoldCommunity), tall: true },
  {
    name: "chat-community",
    does: step(place("Models"), unfoldCommunity, listCommunity, async (page) => {
      await page.getByRole("button", { name: "Use on a peer: Harbour Chat 3B" }).click();
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByRole("button", { name: "Send to a peer" }).click();
      await page.getByRole("button", { name: "Receipt" }).waitFor();
    }),
  },
  {
    name: "chat-community-consent",
    does: step(place("Models"), unfoldCommunity, listCommunity, async (page) => {
      await page.getByRole("button", { name: "Use on a peer: Harbour Chat 3B" }).click();
      await send(page, "Explain in three sentences why the sky is blue.");
      await page.getByText("nobody reviewed it").waitFor();
    }),
    holds: async (page) => {
      if ((await page.getByRole("button", { name: "Answer on this computer" }).count()) !== 0) throw new Error("it cannot answer here");
    },
  },
  { name: "models-first", query: "scenario=first", does: place("Models") },
  { name: "models-empty", query: "scenario=first", does: step(place("Models"), (page) => page.getByRole("button", { name: "Offered by peers" }).click()) },
  { name: "models-refused", does: step(place("Models"), (page) => page.getByRole("button", { name: "Add a file" }).click(), (page) => page.waitForTimeout(150)) },
  { name: "node", does: step(place("Node"), (page) => page.getByRole("button", { name: "Check now" }).click(), (page) => page.getByText("Pass UDP port 4101").waitFor()), tall: true },
  {
    name: "node-clock",
    does: step(
      place("Node"),
      (page) => page.getByRole("button", { name: "Check now" }).click(),
      (page) => page.getByRole("button", { name: "The clock is right now" }).click(),
      (page) => page.waitForTimeout(250),
    ),
  },
  { name: "node-off", query: "scenario=first", does: place("Node"), tall: true },
  {
    name: "node-switched-off",
    does: step(place("Node"), async (page) => {
      await page.getByRole("switch", { name: "Lend this computer" }).first().click();
      await page.getByText("Off in 0.4 s").waitFor();
    }),
  },
  {
    name: "node-refused",
    does: step(place("Node"), async (page) => {
      await page.getByLabel("Address or invite").fill("my friend's laptop");
      await page.getByRole("button", { name: "Connect", exact: true }).click();
      await page.getByText("neither an address").waitFor();
    }),
  },
  { name: "invite", does: step(place("Node"), (page) => page.getByRole("button", { name: "Show my invite" }).click(), (page) => page.waitForTimeout(250)) },
  { name: "log", does: step(place("Node"), (page) => page.getByRole("button", { name: "Connection log" }).click(), (page) => page.waitForTimeout(250)) },
  { name: "compare", does: step(place("Node"), (page) => page.getByRole("button", { name: "Compare" }).click(), (page) => page.getByText("Not asked").waitFor()) },
  { name: "node-modes", query: "money=nowallet", does: place("Node") },
  { name: "node-joined", query: "money=paid", does: place("Node") },
  { name: "node-apart", query: "money=locked", does: place("Node") },
  { name: "wallet", does: step(place("Wallet"), (page) => page.getByText("earned in 30 days").first().waitFor()), tall: true },
  { name: "wallet-electricity", query: "money=locked", does: step(place("Wallet"), (page) => page.getByRole("button", { name: "Change figures" }).click(), (page) => page.waitForTimeout(250)) },
  { name: "wallet-off", query: "money=off", does: place("Wallet") },
  { name: "wallet-none", query: "money=nowallet", does: place("Wallet") },
  { name: "wallet-coinless", query: "money=nocoin", does: place("Wallet") },
  { name: "wallet-signed", query: "money=signed", does: step(place("Wallet"), (page) => page.getByRole("button", { name: "Copy the text" }).waitFor()) },
  {
    name: "wallet-sign-start",
    query: "money=tokenonly",
    does: step(place("Wallet"), (page) => page.getByRole("button", { name: "Sign for somebody to bring" }).click(), (page) => page.waitForTimeout(200)),
  },
  { name: "wallet-relay", does: step(place("Wallet"), (page) => page.getByRole("button", { name: "Bring somebody's deposit" }).click(), (page) => page.waitForTimeout(200)) },
  {
    name: "node-price",
    does: step(place("Node"), (page) => page.getByRole("button", { name: "Change the price of" }).last().click(), (page) => page.waitForTimeout(200)),
  },
  { name: "wallet-disagree", query: "money=disagree", does: place("Wallet") },
  { name: "wallet-receive", does: step(place("Wallet"), (page) => page.getByRole("button", { name: "Receive", exact: true }).click(), (page) => page.waitForTimeout(200)) },
  {
    name: "wallet-send",
    does: step(place("Wallet"), async (page) => {
      await page.getByRole("button", { name: "Send", exact: true }).click();
      await page.getByLabel("Amount in DGC").fill("1,5");
      await page.getByRole("button", { name: "Continue in the signing window" }).click();
      await page.getByText("a point for decimals").waitFor();
    }),
  },
  {
    name: "wallet-proof",
    does: step(place("Wallet"), async (page) => {
      await page.getByRole("button", { name: "Receipt and voucher" }).first().click();
      await page.getByText("not checked").waitFor();
    }),
  },
  {
    name: "vote",
    does: step(place("Vote"), async (page) => {
      await page.getByRole("button", { name: "Details of Lower the fee" }).click();
      await page.getByText("<b>Vote for it.</b>").waitFor();
    }),
    tall: true,
  },
  { name: "vote-propose", does: step(place("Vote"), (page) => page.getByRole("button", { name: "Propose", exact: true }).click(), (page) => page.waitForTimeout(200)) },
  { name: "settings", does: place("Settings"), tall: true },
  { name: "broken", query: "scenario=broken" },
  { name: "invited", query: "link=invite", does: (page) => page.getByText("Addresses that would be dialled").waitFor() },
  { name: "invited-own", query: "link=own&scenario=first", does: (page) => page.getByText("This is your own invite").waitFor() },
  { name: "invited-refused", query: "link=refused", does: (page) => page.getByText("This link was not opened").waitFor() },
  {
    name: "payment",
    does: step(open("Why bread dough tears"), async (page) => {
      await page.getByRole("button", { name: "Receipt" }).click();
      await page.getByRole("button", { name: "What paid for it" }).click();
      await page.getByText("This device signed this voucher").waitFor();
      await page.waitForTimeout(200);
    }),
  },
  {
    name: "toast-dialog",
    does: step(
      open("Letter to the landlord"),
      async (page) => {
        await page.getByRole("button", { name: "More for this chat" }).click();
        await page.getByRole("menuitem", { name: "Delete" }).click();
        await page.getByRole("button", { name: "Undo" }).waitFor();
      },
      place("Node"),
      (page) => page.getByRole("button", { name: "Show my invite" }).click(),
      (page) => page.waitForTimeout(250),
    ),
    holds: async (page) => {
      const dialog = await page.getByRole("dialog").boundingBox();
      const toast = await page.locator("[data-toasts] > div").boundingBox();
      if (dialog.y + dialog.height > toast.y) throw new Error("a toast lies over a dialog");
    },
  },
  { name: "signing-send", page: "demo-signing.html", query: "intent=send&wallet=locked" },
  { name: "signing-unknown", page: "demo-signing.html", query: "intent=send&preview=unknown" },
  { name: "signing-start", page: "demo-signing.html", query: "intent=sign_start&preview=start" },
  { name: "signing-reverts", page: "demo-signing.html", query: "intent=send&preview=reverts" },
  { name: "signing-import", page: "demo-signing.html", query: "intent=import" },
  {
    name: "signing-words",
    page: "demo-signing.html",
    query: "intent=create",
    does: async (page) => {
      await page.getByLabel("New password").fill("correct horse");
      await page.getByLabel("The same password again").fill("correct horse");
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: "I wrote them down" }).waitFor();
    },
  },
  {
    name: "signing-ask",
    page: "demo-signing.html",
    query: "intent=confirm_words",
    does: async (page) => {
      await page.getByRole("button", { name: "I have them on paper" }).click();
      await page.getByLabel("Password", { exact: true }).fill("correct horse");
      await page.keyboard.press("Enter");
      await page.getByLabel("Word 11").waitFor();
    },
  },
];

const frames = [
  { suffix: "light", width: 1280, height: 800, theme: "light" },
  { suffix: "dark", width: 1280, height: 800, theme: "dark" },
];
/** The size that the signing window opens with. */
const signing = { width: 560, height: 720 };
/** And with twice the size of text. */
const largeSigning = { width: 840, height: 720 };
const narrow = ["toast-dialog", "chat", "chat-find", "chat-rename", "chat-first", "chat-consent", "chat-community-consent", "models", "models-details", "models-community", "chat-community", "node", "wallet", "vote", "settings", "invited", "payment", "receipt"];
const scaled = ["chat", "chat-first", "models", "models-details", "models-community", "chat-community", "node", "wallet", "vote", "settings", "invited", "payment", "signing-send"];

function planned() {
  const plan = [];
  for (const picture of pictures) {
    for (const frame of frames) plan.push({ ...picture, ...frame, ...(picture.page ? signing : {}) });
    if (narrow.includes(picture.name)) {
      plan.push({ ...picture, suffix: "480", width: 480, height: 800, theme: "light" });
      plan.push({ ...picture, suffix: "640", width: 640, height: 800, theme: "light" });
      plan.push({ ...picture, suffix: "900", width: 900, height: 800, theme: "dark" });
    }
    if (scaled.includes(picture.name)) plan.push({ ...picture, suffix: "200", ...(picture.page ? largeSigning : { width: 1280, height: 800 }), theme: "light", scale: 2 });
  }
  return plan.filter((entry) => `${entry.name}-${entry.suffix}`.includes(only));
}

mkdirSync(out, { recursive: true });
const server = await preview({ root, mode: "demo", build: { outDir: join(out, "app") }, preview: { host: "127.0.0.1", port: 0 }, logLevel: "warn" });
const base = server.resolvedUrls.local[0];
const profile = mkdtempSync(join(tmpdir(), "shots-"));
const context = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: flags });
let failures = 0;

for (const picture of planned()) {
  const name = `${picture.name}-${picture.suffix}`;
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (line) => ["error", "warning"].includes(line.type()) && complaints.push(line.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => !/^(data|blob):/.test(request.url()) && !request.url().startsWith(base) && complaints.push(`asked for ${request.url()}`));
  // The real window freezes the prototypes as well (tauri.conf.json, freezePrototype).
  await page.addInitScript(() => Object.freeze(Object.prototype));
  await page.setViewportSize({ width: picture.width, height: picture.height });
  await page.emulateMedia({ reducedMotion: "reduce" });
  try {
    await page.goto(`${base}${picture.page ?? "demo.html"}?theme=${picture.theme}&scale=${picture.scale ?? 1}&${picture.query ?? ""}`);
    await page.waitForFunction(() => document.querySelector("main")?.textContent?.trim());
    await page.evaluate(() => document.fonts.ready);
    page.setDefaultTimeout(5000);
    if (picture.width <= 900 || picture.scale) await unfold(page, picture);
    await picture.does?.(page);
    await picture.holds?.(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) throw new Error(`the page is ${wide} px too wide`);
    if (picture.tall) await grow(page, picture);
    complaints.push(...(await faults(page)));
    await page.mouse.move(0, 0);
    await page.screenshot({ path: join(out, `${name}.png`) });
    if (complaints.length > 0) throw new Error(complaints.join("\n"));
    console.log(`ok      ${name}`);
  } catch (error) {
    failures++;
    await page.screenshot({ path: join(out, `${name}.png`) }).catch(() => {});
    console.log(`FAILED  ${name}: ${error instanceof Error ? error.message : error}`);
  }
  await page.close();
}

await context.close();
await server.close();
rmSync(profile, { recursive: true, force: true });
if (failures > 0) {
  console.log(`${failures} of the pictures failed`);
  process.exit(1);
}

/** What axe finds, each with the element it is about. It runs beside the page: the policy does not let the page load it. */
async function faults(page) {
  await page.evaluate(axe);
  // A menu hangs over the page, and belongs to none of its regions.
  const rules = { region: { enabled: false } };
  const runOnly = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await page.evaluate((options) => window.axe.run(document, options), { runOnly, rules });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html, any }) => `${id}: ${html.slice(0, 160)} ${any[0]?.message ?? ""}`));
}

/** Where the sidebar is folded, it is opened before a chat is chosen; choosing one folds it again. */
async function unfold(page, picture) {
  if (!picture.does || !["chat", "chat-find", "chat-rename", "receipt", "payment", "toast-dialog"].includes(picture.name)) return;
  const button = page.getByRole("button", { name: "Show chats" });
  if (await button.isVisible()) await button.click();
}

/** Pages longer than the window are shown whole. */
async function grow(page, picture) {
  const height = await page.evaluate(() => {
    const scroller = document.querySelector("main > div");
    return scroller ? scroller.scrollHeight - scroller.clientHeight : 0;
  });
  if (height > 0) await page.setViewportSize({ width: picture.width, height: Math.min(3200, picture.height + height) });
  await page.waitForTimeout(100);
}
