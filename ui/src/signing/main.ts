import { tauriCore } from "./core";
import { start } from "./start";

const root = document.getElementById("page");
if (root) void start(tauriCore, root);
