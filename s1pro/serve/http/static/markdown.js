// Text of a model to nodes of the page. The text is never trusted:
//
//   marked      Markdown to HTML; HTML in the text is shown as text, save <sub>, <sup>, <br>; pictures become links
//   DOMPurify   keeps a short list of elements and attributes of that; gives nodes, no string
//   KaTeX       formulas from the text of nodes, without commands that link or load
//   molecules   <SMILES>…</SMILES> drawn by the server, shown as pictures (no script runs in those)
//
// `StreamedMarkdown` renders a growing text: blocks that are complete are made once, only the last one again and again.

import { Lexer, Marked } from "./vendor/marked/marked.esm.js";
import { request } from "./api.js";
import { element } from "./elements.js";

const PLAIN_TAGS = /^<\/?(?:sub|sup|br)\s*\/?>$/i;
const OWN_CLASS = /^(?:math-inline|math-display|smiles|language-[\w+#.-]{1,30})$/;
const MAX_MOLECULES = 40;
const MAX_LIVE = 12_000;  // a longer block is plain text until the answer ends
const escaped = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const tex = (display) => (token) => `<code class="math-${display ? "display" : "inline"}">${escaped(token.text.trim())}</code>`;

function extension(name, level, start, patterns, renderer) {
  return {
    name, level, renderer,
    start(src) { const at = src.search(start); return at < 0 ? undefined : at; },
    tokenizer(src) {
      for (const pattern of patterns) {
        const found = pattern.exec(src);
        if (found) return { type: name, raw: found[0], text: found[1] };
      }
    },
  };
}

const smiles = (token) => `<code class="smiles">${escaped(token.text)}</code>`;
const marked = new Marked({
  gfm: true,
  renderer: {
    html: (token) => (PLAIN_TAGS.test(token.text.trim()) ? token.text : escaped(token.text)),
    image(token) { return `<a href="${escaped(token.href)}">${escaped(token.text || token.href)}</a>`; },
    checkbox: (token) => (token.checked ? "☑ " : "☐ "),
  },
});
marked.use({
  extensions: [
    extension("smilesBlock", "block", /(?:^|\n)<SMILES>/, [/^<SMILES>\s*([^\s<]{1,400})\s*<\/SMILES>[ \t]*(?:\n|$)/],
      (token) => `<p>${smiles(token)}</p>`),
    extension("smiles", "inline", /<SMILES>/, [/^<SMILES>\s*([^\s<]{1,400})\s*<\/SMILES>/], smiles),
    extension("mathBlock", "block", /(?:^|\n)(?:\$\$|\\\[)/,
      [/^\$\$([^$]{1,4000})\$\$[ \t]*(?:\n|$)/, /^\\\[([\s\S]{1,4000}?)\\\][ \t]*(?:\n|$)/], tex(true)),
    extension("mathDisplay", "inline", /\$\$|\\\[/, [/^\$\$([^$]{1,2000})\$\$/, /^\\\[([\s\S]{1,2000}?)\\\]/], tex(true)),
    extension("math", "inline", /\$|\\\(/,
      [/^\\\(([\s\S]{1,1000}?)\\\)/, /^\$((?![\s$])(?:\\.|[^\\$\n]){1,1000}?)(?<!\s)\$(?!\d)/], tex(false)),
  ],
});

const purify = window.DOMPurify;
const POLICY = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "pre", "code", "em", "strong",
    "del", "sub", "sup", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "a"],
  ALLOWED_ATTR: ["href", "class", "align", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
purify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class" && !OWN_CLASS.test(data.attrValue)) data.keepAttr = false;
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

/** Safe nodes of Markdown; the text itself where it cannot be read. */
export function nodesOf(text, { molecules = true } = {}) {
  let fragment;
  try {
    fragment = purify.sanitize(marked.parse(text), POLICY);
  } catch {  // nested deeper than the stack
    fragment = document.createDocumentFragment();
    fragment.append(element("pre", {}, text));
  }
  fragment.querySelectorAll("code.math-inline, code.math-display").forEach(formula);
  fragment.querySelectorAll("table").forEach((table) => {
    const across = element("div", { className: "across" });
    table.replaceWith(across);
    across.append(table);
  });
  if (molecules) [...fragment.querySelectorAll("code.smiles")].slice(0, MAX_MOLECULES).forEach(molecule);
  return fragment;
}

function formula(code) {
  const source = code.textContent;
  const shown = element("span", { className: code.className });
  try {
    window.katex.render(source, shown, {
      displayMode: code.className === "math-display", throwOnError: true, trust: false, strict: "ignore",
      maxExpand: 500, maxSize: 20,
    });
    code.replaceWith(shown);
  } catch {  // not a formula: its source stays
    code.classList.add("unread");
  }
}

const drawings = new Map();  // SMILES to a promise of an address

async function drawn(text) {
  const answer = await request(`/page/molecule?smiles=${encodeURIComponent(text)}`);
  return URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type: "image/svg+xml" }));
}

function molecule(code) {
  const text = code.textContent;
  if (!drawings.has(text)) drawings.set(text, drawn(text));
  drawings.get(text).then(
    (address) => {
      const image = element("img", { src: address, alt: `Structure of ${text}`, title: text });
      code.after(element("br"), element("span", { className: "molecule" }, image));
    },
    (problem) => {
      code.title = problem.message;
      if (problem.lost) drawings.delete(text);
    },
  );
}

/** See the head of this file. `update(text, true)` is the last one. */
export class StreamedMarkdown {
  constructor(container) {
    this.container = container;
    this.settled = 0;  // characters whose nodes are final
    this.live = element("div", { className: "live" });
    container.replaceChildren(this.live);
  }

  update(text, final = false) {
    if (final && /^ {0,3}\[[^\]\n]+\]:/m.test(text)) this.settled = this.restart();  // links that are defined at the end
    let rest = text.slice(this.settled);
    const complete = final ? rest.length : completeLength(rest);
    if (complete) {
      this.live.before(nodesOf(rest.slice(0, complete)));
      this.settled += complete;
      rest = rest.slice(complete);
    }
    if (final) this.live.remove();
    else if (rest.length > MAX_LIVE) this.live.replaceChildren(element("pre", {}, rest));
    else this.live.replaceChildren(nodesOf(rest, { molecules: false }));
  }

  restart() {
    this.container.replaceChildren(this.live);
    return 0;
  }
}

/** How many characters belong to blocks that no further text can change: all but the last one. */
function completeLength(text) {
  let tokens;
  try {
    tokens = new Lexer(marked.defaults).blockTokens(text, []);  // what is inside the blocks does not matter here
  } catch {
    return 0;
  }
  let last = tokens.length - 1;
  while (last >= 0 && tokens[last].type === "space") last -= 1;
  const before = tokens.slice(0, Math.max(last, 0)).map((token) => token.raw).join("");
  return text.startsWith(before) ? before.length : 0;
}

/** Calls `work` soon, never more often than it can bear: the pause grows with what a call costs. */
export class Throttle {
  constructor(work) {
    Object.assign(this, { work, timer: 0, pause: 50 });
  }

  request() {
    if (!this.timer) this.timer = setTimeout(() => this.now(), this.pause);
  }

  now() {
    this.cancel();
    const began = performance.now();
    this.work();
    this.pause = Math.min(1500, Math.max(50, 6 * (performance.now() - began)));
  }

  cancel() {
    clearTimeout(this.timer);
    this.timer = 0;
  }
}
