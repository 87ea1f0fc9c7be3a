import { svelte } from "@sveltejs/vite-plugin-svelte";
import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vitest/config";

/** The policy of the real window (src-tauri/tauri.conf.json), so that the demo meets the same refusals. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "style-src-attr 'unsafe-inline'",
  "img-src 'self' blob: data:",
  "font-src 'self'",
  "connect-src ipc: http://ipc.localhost",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** KaTeX's style sheet names each font three times; every web view that runs this reads the first. */
const oneFontFormat = {
  name: "one-font-format",
  enforce: "pre" as const,
  transform: (code: string, id: string) =>
    id.includes("katex.min.css") ? code.replace(/,url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)/g, "") : undefined,
};

// Two windows, the main one and the one that signs, each with an entry that talks to the core through Tauri and one
// that talks to the in-browser demo of the pictures and browser tests. Only the first two go into ui/dist.
export default defineConfig(({ mode }) => {
  const demo = mode === "demo";
  return {
    plugins: [oneFontFormat, tailwindcss(), svelte()],
    clearScreen: false,
    build: {
      target: "es2022",
      outDir: demo ? "shots/app" : "dist",
      emptyOutDir: true,
      // A data: font or module would be refused by the policy.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      chunkSizeWarningLimit: 400,
      rollupOptions: { input: demo ? ["demo.html", "demo-signing.html"] : ["index.html", "signing.html"] },
    },
    preview: { headers: { "Content-Security-Policy": policy } },
    test: {
      environment: "jsdom",
      include: ["src/**/*.test.ts"],
      setupFiles: ["src/test-setup.ts"],
      restoreMocks: true,
    },
    resolve: process.env.VITEST ? { conditions: ["browser"] } : {},
  };
});
