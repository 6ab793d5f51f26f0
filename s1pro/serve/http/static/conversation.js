// The conversation: questions go to /v1/chat/completions, answers come back as a stream and are shown while they come.
// It lives in this page (a server that starts anew loses nothing of it) and survives a reload of the tab.

import { events, request, untilBack } from "./api.js";
import { announce, byId } from "./elements.js";
import { AnswerNode, questionNode } from "./messages.js";
import { loadConversation, saveConversation } from "./store.js";

/** Messages: {role, text, media} and {role, text, reasoning, state, end, tokens, logprobs, promptTokens, routing, ...}. */
export class Conversation {
  constructor(place, settings, busyChanged) {
    Object.assign(this, { place, settings, busyChanged, messages: [], running: null });
    this.greeting = byId("greeting");
    for (const message of loadConversation()) {
      if (message.state === "streaming") Object.assign(message, { state: "done", end: "stopped" });
      this.messages.push(message);
      this.show(message)?.ended();
    }
    this.toEnd();
  }

  show(message) {
    this.greeting.hidden = true;
    if (message.role === "user") {
      this.place.append(questionNode(message));
      return null;
    }
    const node = new AnswerNode(message, { again: (one) => this.again(one) }, () => this.follow());
    this.place.append(node.node);
    return node;
  }

  ask(text, media) {
    const question = { role: "user", text, media };
    this.messages.push(question);
    this.show(question);
    this.answer();
    this.save();
  }

  /** The same question once more; what came after it is dropped. */
  again(message) {
    if (this.running) return;
    const place = this.messages.indexOf(message);
    this.messages.length = place;
    const nodes = [...this.place.querySelectorAll(":scope > .message")];
    nodes.slice(place).forEach((node) => node.remove());
    this.answer();
  }

  save() { saveConversation(this.messages); }

  stop() { this.running?.abort(); }

  clear() {
    this.stop();
    this.messages = [];
    this.place.querySelectorAll(":scope > .message").forEach((node) => node.remove());
    this.greeting.hidden = false;
    this.save();
  }

  async answer() {
    const body = this.body();
    const message = { role: "assistant", text: "", reasoning: "", state: "streaming", end: "", problem: "", tokens: [], logprobs: [],
      promptTokens: 0, routing: "", seconds: 0, media: [] };
    this.messages.push(message);
    const node = this.show(message);
    const running = new AbortController();
    this.running = running;
    this.busyChanged(true);
    this.toEnd();
    announce("The model answers");
    let first = 0;
    try {
      for await (const chunk of events("/v1/chat/completions", body, running.signal)) {
        first ||= performance.now();
        take(message, chunk);
        node.changed();
      }
      message.state = "done";
    } catch (error) {
      failed(message, error);
    }
    message.seconds = first ? (performance.now() - first) / 1000 : 0;
    if (this.running === running) this.running = null;
    const follows = this.nearEnd();
    node.ended();
    if (follows) this.toEnd();
    if (this.messages.includes(message)) this.save();
    this.busyChanged(Boolean(this.running));
    announce(message.problem || `The answer has ended, ${message.tokens.length} tokens`);
    if (message.lost) this.waitForServer();
  }

  body() {
    const { system, temperature, maxTokens, thinking } = this.settings();
    const messages = system.trim() ? [{ role: "system", content: system }] : [];
    for (const message of this.messages) {
      if (message.role === "user") messages.push({ role: "user", content: contentOf(message) });
      else if (message.text) messages.push({ role: "assistant", content: message.text });
    }
    return {
      messages, stream: true, stream_options: { include_usage: true }, logprobs: true, return_routed_experts: true,
      ...(temperature === null ? {} : { temperature }), ...(maxTokens === null ? {} : { max_tokens: maxTokens }),
      ...(thinking ? { chat_template_kwargs: { enable_thinking: thinking === "on" } } : {}),
    };
  }

  async waitForServer() {
    if (this.waiting) return;
    this.waiting = true;
    const line = byId("connection");
    line.textContent = "The server is away; waiting for it …";
    await untilBack();
    this.waiting = false;
    line.textContent = "";
    modelName().then((name) => { byId("model").textContent = name; }, () => {});
    announce("The server is back");
    const last = this.messages.at(-1);
    if (last?.state === "failed" && last.lost) {
      const box = this.place.querySelector(":scope > .message:last-child .problem-box p");
      if (box) box.textContent = "The server is back. What had been written is above; retry asks again.";
    }
  }

  nearEnd() { return this.place.scrollHeight - this.place.scrollTop - this.place.clientHeight < 120; }

  follow() {
    if (this.following) this.toEnd();
  }

  toEnd() {
    this.following = true;
    this.place.scrollTop = this.place.scrollHeight;
  }

  /** Whoever scrolls up to read is left alone. */
  scrolled() { this.following = this.nearEnd(); }
}

function take(message, chunk) {
  if (chunk.usage) message.promptTokens = chunk.usage.prompt_tokens;
  const [choice] = chunk.choices;
  if (!choice) return;
  const { delta } = choice;
  if (delta.content) message.text += delta.content.replaceAll("\r", "");
  if (delta.reasoning_content) message.reasoning += delta.reasoning_content.replaceAll("\r", "");
  for (const entry of choice.logprobs?.content ?? []) {
    message.tokens.push(entry.token);
    message.logprobs.push(entry.logprob);
  }
  if (choice.finish_reason) message.end = choice.finish_reason;
  if (choice.routed_experts) message.routing = choice.routed_experts.ref;
}

function failed(message, error) {
  if (error.name === "AbortError") {
    Object.assign(message, { state: "done", end: "stopped" });
    return;
  }
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  Object.assign(message, { state: "failed", problem: `${error.message}${wait}`, lost: Boolean(error.lost) });
  if (error.name !== "Error" && !("lost" in error)) console.error(error);
}

function contentOf(message) {
  const parts = message.media.filter((medium) => medium.kind !== "lost").map((medium) => (
    medium.kind === "image" ? { type: "image_url", image_url: { url: medium.url } } : medium.part));
  return parts.length ? [...parts, { type: "text", text: message.text }] : message.text;
}

/** The name of the model, once the server says it. */
export async function modelName() {
  const answer = await request("/v1/models");
  return (await answer.json()).data[0].id;
}
