// Files on their way into a question: images, signals (read and plotted with the help of the server), and PDFs, whose
// figures are offered. Every file is a card above the input; `media()` of a card is what goes into the message.

import { request } from "./api.js";
import { announce, button, element } from "./elements.js";
import { described, plotSignal } from "./plot.js";

const IMAGE = /\.(?:png|jpe?g|webp|gif|bmp|tiff?)$/i;
const SIGNAL = /\.(?:csv|tsv|txt|wav|flac|ogg|mp3|mseed|miniseed|npy|edf|bdf)$/i;
const PDF = /\.pdf$/i;

class Card {
  constructor(file, remove) {
    Object.assign(this, { file, problem: "", busy: null });
    this.note = element("p", { className: "problem", role: "alert", hidden: true });
    this.body = element("div");
    this.node = element("div", { className: "card" },
      button("×", () => remove(this), { className: "remove", "aria-label": `Remove ${file.name}` }),
      element("p", { className: "title" }, file.name), this.body, this.note);
  }

  /** Runs what takes a while; a failure is shown on the card. */
  work(call) {
    const mine = (async () => {
      try {
        await call();
        if (this.busy === mine) this.fail("");
      } catch (error) {
        if (this.busy === mine) this.fail(error.message);
      } finally {
        if (this.busy === mine) this.busy = null;
      }
    })();
    this.busy = mine;
    return mine;
  }

  fail(message) {
    this.problem = message;
    this.note.textContent = message;
    this.note.hidden = !message;
  }

  media() { return []; }
  end() {}
}

class ImageCard extends Card {
  constructor(file, remove) {
    super(file, remove);
    this.work(async () => {
      this.url = await dataUrl(file);
      this.body.replaceChildren(element("img", { className: "image-thumb", src: this.url, alt: file.name }));
    });
  }

  media() { return this.url ? [{ kind: "image", name: this.file.name, url: this.url }] : []; }
}

class SignalCard extends Card {
  constructor(file, remove) {
    super(file, remove);
    this.node.classList.add("wide");
    const field = (label, properties) => {
      const input = element("input", { ...properties, onchange: () => this.load() });
      return [input, element("div", {}, element("label", {}, label, input))];
    };
    const [rate, rateField] = field("Sampling rate / Hz", { type: "number", min: "0", step: "any" });
    const [unit, unitField] = field("Unit", { type: "text", maxLength: 80, placeholder: "none" });
    Object.assign(this, { rate, unit, signal: null, endPlot: () => {} });
    this.place = element("div", { className: "plot" });
    this.facts = element("p", { className: "title" });
    this.body.append(this.place, this.facts, element("div", { className: "pair" }, rateField, unitField));
    this.load();
  }

  load() {
    this.signal = null;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    return this.work(async () => {
      const query = new URLSearchParams({ name: this.file.name });
      if (this.rate.value) query.set("sampling_rate", this.rate.value);
      if (this.unit.value.trim()) query.set("unit", this.unit.value.trim());
      const answer = await request(`/page/signal?${query}`, { method: "POST", body: this.file });
      const signal = await answer.json();
      if (turn !== this.turn) return;  // the fields have changed again
      this.signal = signal;
      if (this.signal.sampling_rate) this.rate.value = this.signal.sampling_rate;
      if (this.signal.unit) this.unit.value = this.signal.unit;
      this.facts.textContent = [described(this.signal), this.signal.note].filter(Boolean).join(" — ");
      this.endPlot();
      this.endPlot = plotSignal(this.place, this.signal);
      announce(`Signal read: ${described(this.signal)}`);
    });
  }

  media() {
    if (!this.signal) return [];
    const { name, length, num_channels, sampling_rate, unit, channels, plot, part } = this.signal;
    return [{ kind: "signal", name, length, num_channels, sampling_rate, unit, channels, plot, part }];
  }

  end() { this.endPlot(); }
}

class PdfCard extends Card {
  constructor(file, remove) {
    super(file, remove);
    this.node.classList.add("wide");
    this.chosen = new Set();
    this.body.append(element("p", { className: "title" }, "looking for figures …"));
    this.work(async () => {
      const answer = await request("/page/pdf", { method: "POST", body: file });
      this.offer(await answer.json());
    });
  }

  fail(message) {
    super.fail(message);
    if (message) this.body.replaceChildren();
  }

  offer({ figures, num_pages: pages, note }) {
    const found = figures.length ? "choose what to send" : "no figures found";
    const facts = [`${pages} page${pages === 1 ? "" : "s"}, ${figures.length} figure${figures.length === 1 ? "" : "s"}: ${found}`, note];
    this.body.replaceChildren(element("p", { className: "title" }, facts.filter(Boolean).join(" — ")),
      element("div", { className: "figures", role: "group", "aria-label": "Figures" }, ...figures.map((one) => this.choice(one))));
    announce(facts[0]);
  }

  choice(figure) {
    const name = figure.label || `${figure.type}, page ${figure.page}`;
    const medium = { kind: "image", name: `${this.file.name}, ${name}`, url: figure.image, caption: figure.caption };
    const choose = () => {
      const now = !this.chosen.delete(medium);
      if (now) this.chosen.add(medium);
      node.setAttribute("aria-pressed", String(now));
    };
    const node = element("button", { type: "button", onclick: choose, "aria-pressed": "false", title: figure.caption },
      element("img", { src: figure.image, alt: "" }), element("strong", {}, name), " ",
      element("span", { className: "caption" }, figure.caption));
    return node;
  }

  media() { return [...this.chosen]; }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

/** The cards above the input. */
export class Attachments {
  constructor(place) {
    Object.assign(this, { place, cards: [] });
  }

  add(files) {
    for (const file of files) {
      const kind = kindOf(file);
      if (!kind) {
        announce(`${file.name} is no image, signal or PDF`);
        const card = new Card(file, (one) => this.remove(one));
        card.fail("Not an image, a signal (CSV, WAV, MiniSEED, NPY, …) or a PDF.");
        this.show(card);
      } else {
        this.show(new kind(file, (one) => this.remove(one)));
      }
    }
  }

  show(card) {
    this.cards.push(card);
    this.place.append(card.node);
  }

  remove(card) {
    card.end();
    card.node.remove();
    this.cards = this.cards.filter((other) => other !== card);
  }

  /** All media, when every file is read; null if one has a problem, which its card shows. */
  async take() {
    while (this.cards.some((card) => card.busy)) await Promise.all(this.cards.map((card) => card.busy));
    const wrong = this.cards.find((card) => card.problem);
    if (wrong) {
      announce(`${wrong.file.name}: ${wrong.problem}`);
      wrong.node.scrollIntoView({ block: "nearest" });
      return null;
    }
    return this.cards.flatMap((card) => card.media());
  }

  clear() {
    [...this.cards].forEach((card) => this.remove(card));
  }
}

function kindOf(file) {
  if (PDF.test(file.name) || file.type === "application/pdf") return PdfCard;
  if (IMAGE.test(file.name) || /^image\/(?:png|jpeg|webp|gif|bmp|tiff)$/.test(file.type)) return ImageCard;
  if (SIGNAL.test(file.name)) return SignalCard;
  return null;
}
