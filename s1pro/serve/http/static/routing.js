// Which experts a token used, layer by layer. A token of the answer is chosen by clicking it, any token of the whole
// conversation by its number. The last token was drawn and never read by the network, so it has no experts.

import { request } from "./api.js";
import { button, element } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const SHOWN = 300;  // tokens at once

/** A panel for a message with `routing` (the reference), `tokens`, `logprobs` and `promptTokens`. */
export class RoutingView {
  constructor(message) {
    Object.assign(this, { message, first: 0, chosen: 0 });
    this.tokens = element("div", { className: "tokens", role: "group", "aria-label": "Tokens of the answer" });
    this.number = element("input", { type: "number", min: 0, max: this.last(), onchange: () => this.choose(Number(this.number.value)) });
    this.fact = element("span");
    this.grid = element("div", { className: "scroll" });
    this.pages = element("span");
    this.node = element("div", { className: "routing", role: "region", "aria-label": "Experts" },
      element("div", { className: "which" }, element("label", {}, "Token ", this.number), this.pages, this.fact),
      this.tokens, this.grid);
    this.tokens.addEventListener("keydown", (event) => this.key(event));
    this.choose(message.promptTokens);
  }

  last() { return this.message.promptTokens + this.message.tokens.length - 2; }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = this.chosen + step;
    if (next < this.message.promptTokens || next > this.last()) return;
    this.choose(next);
    this.tokens.querySelector("[aria-pressed=true]")?.focus();
  }

  async choose(token) {
    this.chosen = Math.max(0, Math.min(this.last(), Math.trunc(token) || 0));
    this.number.value = this.chosen;
    const own = this.chosen - this.message.promptTokens;
    if (own >= 0) this.first = Math.floor(own / SHOWN) * SHOWN;
    this.list(own);
    const probability = own >= 0 ? Math.exp(this.message.logprobs[own]) : null;
    this.fact.textContent = own < 0 ? "" : `${JSON.stringify(this.message.tokens[own])}, probability ${probability.toPrecision(3)}`;
    const asked = this.chosen;
    try {
      const answer = await request(`/page/routing/${encodeURIComponent(this.message.routing)}?token=${asked}`);
      const found = await answer.json();
      if (asked !== this.chosen) return;
      if (own < 0) this.fact.textContent = `of the prompt: ${JSON.stringify(found.text)}`;
      const first = !this.grid.firstChild;
      this.grid.replaceChildren(captionOf(found), gridOf(found), listOf(found));
      if (first) this.node.scrollIntoView({ block: "nearest" });
    } catch (problem) {
      if (asked === this.chosen) this.grid.replaceChildren(element("p", { className: "problem" }, problem.message));
    }
  }

  list(own) {
    const { tokens, promptTokens } = this.message;
    this.tokens.replaceChildren(...tokens.slice(this.first, this.first + SHOWN).map((text, i) => {
      const place = this.first + i;
      const chosen = place === own;
      return button(text.replaceAll("\n", "⏎") || "∅", () => this.choose(promptTokens + place), {
        "aria-pressed": String(chosen), tabIndex: chosen || (own < 0 && i === 0) ? 0 : -1,
        disabled: place === tokens.length - 1, title: `token ${promptTokens + place}`,
      });
    }));
    const turn = (by) => () => { this.first += by; this.list(own); };
    this.pages.replaceChildren(...(tokens.length <= SHOWN ? [] : [
      button("◂", turn(-SHOWN), { disabled: this.first === 0, "aria-label": "Earlier tokens" }),
      button("▸", turn(SHOWN), { disabled: this.first + SHOWN >= tokens.length, "aria-label": "Later tokens" })]));
  }
}

function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function captionOf({ layers, num_experts: experts, num_groups: groups }) {
  const grouped = groups > 1 ? ` in ${groups} groups` : "";
  return element("p", { className: "hint" }, `A row is a layer with its ${experts} experts${grouped}; ${layers[0]?.experts.length ?? 0} of them fired.`);
}

/** Layers from top to bottom, experts from left to right; lines between router groups. */
function gridOf({ layers, num_experts: experts, num_groups: groups }) {
  const left = 3;
  const top = layers.length;
  const picture = shape("svg", {
    viewBox: `0 0 ${experts + left} ${top}`, role: "img", preserveAspectRatio: "xMinYMin meet",
    "aria-label": `Experts of ${top} layers; the list below says the same`,
  });
  layers.forEach(({ layer, experts: fired }, y) => {
    const name = shape("text", { class: "name", x: 0, y: y + 0.75, "font-size": 0.8 });
    name.textContent = layer;
    picture.append(name, shape("rect", { class: "cell", x: left, y: y + 0.05, width: experts, height: 0.9 }));
    fired.forEach((expert) => {
      const cell = shape("rect", { class: "fired", x: left + expert + 0.05, y: y + 0.05, width: 0.9, height: 0.9 });
      const title = shape("title", {});
      title.textContent = `layer ${layer}, expert ${expert}`;
      cell.append(title);
      picture.append(cell);
    });
  });
  for (let group = 1; group < (groups ?? 1); group += 1) {
    const x = left + (group * experts) / groups;
    picture.append(shape("line", { class: "border", x1: x, x2: x, y1: 0, y2: top }));
  }
  return picture;
}

function listOf({ layers }) {
  return element("details", { className: "list" }, element("summary", {}, "as a list"),
    ...layers.map(({ layer, experts }) => element("div", {}, `layer ${layer}: ${experts.join(", ")}`)));
}
