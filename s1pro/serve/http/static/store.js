// What survives a reload of the tab: the conversation and the settings, in sessionStorage (never the API key).
// Pictures may be too large for it; then they are left out, and the message says so.

const CONVERSATION = "s1pro-conversation";
const SETTINGS = "s1pro-settings";

export function saveConversation(messages) {
  try {
    sessionStorage.setItem(CONVERSATION, JSON.stringify(messages));
  } catch {
    const light = messages.map((message) => ({
      ...message, tokens: [], logprobs: [], media: (message.media ?? []).map((medium) => ({ kind: "lost", name: medium.name })),
    }));
    try {
      sessionStorage.setItem(CONVERSATION, JSON.stringify(light));
    } catch {
      sessionStorage.removeItem(CONVERSATION);
    }
  }
}

export function loadConversation() {
  const found = read(CONVERSATION);
  return Array.isArray(found) ? found.filter((message) => message && typeof message.text === "string") : [];
}

export function saveSettings(settings) {
  try {
    sessionStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch { /* full: they stay until the reload */ }
}

export function loadSettings() {
  return read(SETTINGS) ?? {};
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}
