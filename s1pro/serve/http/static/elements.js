// Nodes without strings of HTML.

/** element("p", { className: "x", onclick: f, "aria-label": "y" }, "text", otherNode) */
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const button = (text, onclick, properties = {}) => element("button", { type: "button", onclick, ...properties }, text);

export const byId = (id) => document.getElementById(id);

/** Tells people who listen instead of looking. */
export function announce(text) {
  byId("news").textContent = text;
}
