// Starts the agents' page.

import { render } from "preact";

import "@octopus/core/theme.css";
import { App } from "./app";
import "./style.css";

render(<App />, document.getElementById("page")!);
