// Messages as nodes. What people wrote is text; what the model wrote goes through `markdown.js`.

import { announce, button, element } from "./elements.js";
import { nodesOf, StreamedMarkdown, Throttle } from "./markdown.js";
import { described, plotSignal } from "./plot.js";
import { RoutingView } from "./routing.js";

const ENDS = { length: "stopped at the limit of tokens", abort: "given up by the server", stopped: "stopped by you" };

const rate = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3 });

export function questionNode(message) {
  const media = element("div", { className: "media" }, ...message.media.map(mediumNode));
  return element("article", { className: "message user", "aria-label": "You" }, element("div", { className: "bubble" },
    message.media.length ? media : null, element("p", { className: "text" }, message.text)));
}

function mediumNode(medium) {
  if (medium.kind === "image") return element("img", { src: medium.url, alt: medium.name, title: medium.caption || medium.name });
  if (medium.kind === "lost") return element("div", { className: "card" }, `${medium.name}: too large to survive the reload`);
  const place = element("div", { className: "plot" });
  plotSignal(place, medium);
  return element("div", { className: "card signal" }, element("p", { className: "title" }, `${medium.name}: ${described(medium)}`), place);
}

/** An answer that grows: `changed` after new text, `ended` once. `actions` has again(). */
export class AnswerNode {
  constructor(message, actions, grown) {
    Object.assign(this, { message, actions });
    this.answer = element("div", { className: "answer" });
    this.thoughts = element("div", { className: "plain" });
    this.summary = element("summary", {}, "Reasoning");
    this.reasoning = element("details", { className: "reasoning", hidden: true }, this.summary, this.thoughts);
    this.foot = element("div", { className: "foot" });
    this.problem = element("div", { className: "problem-box", role: "alert", hidden: true });
    this.node = element("article", { className: "message assistant waiting", "aria-label": "Model" },
      this.reasoning, this.answer, this.problem, this.foot);
    this.markdown = new StreamedMarkdown(this.answer);
    this.thought = 0;
    this.throttle = new Throttle(() => { this.render(false); grown(); });
    this.reasoning.addEventListener("toggle", () => this.prettyThoughts());
  }

  changed() { this.throttle.request(); }

  ended() {
    this.throttle.cancel();
    this.render(true);
    this.node.classList.remove("waiting");
    this.summary.textContent = "Reasoning";
    this.prettyThoughts();
    this.footer();
  }

  render(final) {
    const { reasoning, text } = this.message;
    if (reasoning.length > this.thought) {
      this.reasoning.hidden = false;
      this.thoughts.append(reasoning.slice(this.thought));
      this.thought = reasoning.length;
    }
    if (!final && reasoning && !text) this.summary.textContent = "Reasoning …";
    else this.summary.textContent = "Reasoning";
    this.markdown.update(text, final);
  }

  /** Formulas and lists in the reasoning, once it is complete and somebody looks. */
  prettyThoughts() {
    if (!this.reasoning.open || this.message.state === "streaming" || this.thoughts.className !== "plain") return;
    this.thoughts.className = "";
    this.thoughts.replaceChildren(nodesOf(this.message.reasoning));
  }

  footer() {
    const { message } = this;
    const facts = [];
    if (message.tokens.length) facts.push(`${message.tokens.length.toLocaleString("en")} tokens`);
    if (message.seconds && message.tokens.length > 1) facts.push(`${rate(message.tokens.length / message.seconds)} tokens/s`);
    if (ENDS[message.end]) facts.push(ENDS[message.end]);
    this.foot.replaceChildren(facts.join(", "));
    if (message.text && navigator.clipboard) this.foot.append(button("Copy", () => this.copy()));
    if (message.state !== "failed") this.foot.append(button("Again", () => this.actions.again(message)));
    if (message.routing && message.tokens.length > 1) this.foot.append(this.expertsButton());
    this.problem.hidden = message.state !== "failed";
    if (message.state === "failed") {
      this.problem.replaceChildren(element("p", {}, message.problem), button("Retry", () => this.actions.again(message), { className: "retry" }));
    }
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.message.text);
      announce("Copied");
    } catch {
      announce("The browser does not allow copying");
    }
  }

  expertsButton() {
    let view = null;
    const toggle = () => {
      if (view) view.node.remove();
      view = view ? null : new RoutingView(this.message);
      if (view) this.foot.after(view.node);
      node.setAttribute("aria-expanded", String(Boolean(view)));
    };
    const node = button("Experts", toggle, { className: "experts", "aria-expanded": "false" });
    return node;
  }
}
