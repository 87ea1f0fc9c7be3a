import { tauriCore } from "./core";
import { start } from "./start";
import { followAppearance } from "./appearance";

followAppearance(location.search);
const root = document.getElementById("page");
if (root) void start(tauriCore, root);
