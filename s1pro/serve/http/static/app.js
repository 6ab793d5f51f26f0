// Joins the page together: keys, files, settings, the conversation.

import { useKey } from "./api.js";
import { Attachments } from "./attachments.js";
import { Conversation, modelName } from "./conversation.js";
import { announce, byId } from "./elements.js";
import { loadSettings, saveSettings } from "./store.js";

const FIELDS = ["system", "temperature", "max-tokens", "thinking"];
const question = byId("question");
const attachments = new Attachments(byId("attachments"));
const numberOf = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
const settings = () => ({
  system: byId("system").value, temperature: numberOf("temperature"), maxTokens: numberOf("max-tokens"), thinking: byId("thinking").value,
});

function busyChanged(busy) {
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
}

// settings

const kept = loadSettings();
for (const id of FIELDS) {
  if (typeof kept[id] === "string") byId(id).value = kept[id];
  byId(id).addEventListener("change", () => saveSettings(Object.fromEntries(FIELDS.map((one) => [one, byId(one).value]))));
}
byId("api-key").addEventListener("change", () => { useKey(byId("api-key").value); showModel(); });
const narrow = window.matchMedia("(max-width: 52rem)");
const fold = () => { byId("settings").open = !narrow.matches; };
narrow.addEventListener("change", fold);
fold();

async function showModel() {
  try {
    byId("model").textContent = await modelName();
    byId("connection").textContent = "";
  } catch (problem) {
    byId("connection").textContent = problem.message;
    if (problem.status === 401) byId("settings").open = true;
  }
}
showModel();

// conversation

const conversation = new Conversation(byId("messages"), settings, busyChanged);
window.addEventListener("pagehide", () => conversation.save());
byId("messages").addEventListener("scroll", () => conversation.scrolled(), { passive: true });

let sending = false;

async function send() {
  const text = question.value.trim();
  if (sending || conversation.running || !(text || attachments.cards.length)) return;
  sending = true;
  try {
    const media = await attachments.take();
    if (media === null || !(text || media.length)) return;
    question.value = "";
    grow();
    attachments.clear();
    conversation.ask(text, media);
  } finally {
    sending = false;
  }
}

function stop() {
  conversation.stop();
  question.focus();
}

byId("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
byId("stop").addEventListener("click", stop);
byId("new-chat").addEventListener("click", () => {
  conversation.clear();
  attachments.clear();
  announce("New conversation");
  question.focus();
});

// keys

function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}
question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && conversation.running) stop();
});
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); question.focus(); });

// files

byId("attach").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", () => {
  attachments.add(byId("file").files);
  byId("file").value = "";
  question.focus();
});
question.addEventListener("paste", (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  attachments.add(event.clipboardData.files);
});

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
let depth = 0;
const show = (by) => { depth = Math.max(0, depth + by); byId("drop").hidden = !depth; };
window.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { event.preventDefault(); show(1); } });
window.addEventListener("dragleave", (event) => { if (carriesFiles(event)) show(-1); });
window.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
window.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  show(-Infinity);
  attachments.add(event.dataTransfer.files);
  question.focus();
});

question.focus();
