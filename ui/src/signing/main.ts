import { tauriCore } from "./core";
import { start } from "./start";
import { followTheme } from "./theme";

followTheme(location.search);
const root = document.getElementById("page");
if (root) void start(tauriCore, root);
