import { mount } from "svelte";
import App from "./App.svelte";
import { type Backend, useBackend } from "./backend/backend";
import "./app.css";

export function start(backend: Backend): void {
  useBackend(backend);
  const target = document.getElementById("app");
  if (target) mount(App, { target });
}
