"use strict";
/* The samples: unpacked once, then filtered, searched and put in order. `packing.py` writes what `unpack` reads. */

const OUTCOMES = ["accepted", "rejected", "failed"];
const PER_SIGMA = 100;

async function unpack(text) {
  const raw = atob(text.trim());
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

class Samples {
  constructor(data, pictures) {
    this.data = data;
    this.pictures = pictures;
    this.columns = data.columns;
    this.count = this.columns.outcome.length;
    let key = 0;
    this.keys = this.columns.key.map((step) => String((key += step)).padStart(8, "0"));
    this.places = new Map(this.keys.map((name, i) => [name, i]));
    this.orders = {};
  }

  word(column, i) {
    const found = this.columns[column];
    return found ? found.words[found.of[i]] : null;
  }

  className(i) { return this.data.classes[this.columns.label[i]]; }

  title(i) { return this.word("what", i) || this.className(i); }

  outcome(i) { return OUTCOMES[this.columns.outcome[i]]; }

  reason(i) {
    const code = this.word("reject_reason", i);
    return this.data.reasons[code] || code;
  }

  margin(i) {
    const found = this.columns.margin[i];
    return found === null ? null : found / PER_SIGMA;
  }

  trace(i) { return this.columns.trace ? this.columns.trace[i].map((v) => v / PER_SIGMA) : []; }

  /* How one of a sample's pictures is had: {src, place}, place being where it lies in a strip of them; null: not at all. */
  picture(kind, i) {
    const strip = this.data.folder;
    if (strip) {
      if (this.outcome(i) === "failed") return null;
      const key = this.keys[i];
      return { src: `${strip}${key.slice(0, -3)}/${key}.webp`, place: { source: "0%", companion: "50%", result: "100%" }[kind] };
    }
    const found = kind === "source" ? this.pictures.sources[this.word("source_key", i)] : this.pictures[`${kind}s`][this.keys[i]];
    return found ? { src: `data:image/webp;base64,${found}`, place: "50%" } : null;
  }

  mask(i) { return this.pictures.masks[this.word("source_key", i)] || []; }

  /* Places of the samples that a filter lets through, in its order. */
  select(filter) {
    const { columns } = this;
    const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = words.map((word) => this.matches(word));
    const [low, high] = [filter.low, filter.high].map((text) => (text === "" ? null : PER_SIGMA * Number(text)));
    const is = (column, wanted) => wanted === "" || columns[column].words[wanted] !== undefined;
    if (!is("reject_reason", filter.reason) || !is("policy", filter.policy)) return [];
    return this.order(filter.order).filter((i) => {
      if (filter.outcome !== "" && columns.outcome[i] !== OUTCOMES.indexOf(filter.outcome)) return false;
      if (filter.label !== "" && columns.label[i] !== Number(filter.label)) return false;
      if (filter.reason !== "" && columns.reject_reason.of[i] !== Number(filter.reason)) return false;
      if (filter.policy !== "" && columns.policy.of[i] !== Number(filter.policy)) return false;
      if (low !== null && !(columns.margin[i] !== null && columns.margin[i] >= low)) return false;
      if (high !== null && !(columns.margin[i] !== null && columns.margin[i] <= high)) return false;
      return matches.every((match) => match(i));
    });
  }

  /* Whether a word stands anywhere in what is told of a sample; every text is looked at once, however many have it. */
  matches(word) {
    const has = (text) => String(text).toLowerCase().includes(word);
    const inColumn = ["what", "prompt", "negative_label", "source_key", "reject_reason", "policy"]
      .filter((name) => this.columns[name])
      .map((name) => ({ of: this.columns[name].of, found: this.columns[name].words.map(has) }));
    const inClass = this.data.classes.map(has);
    return (i) => inClass[this.columns.label[i]] || this.keys[i].includes(word) || inColumn.some(({ of, found }) => found[of[i]]);
  }

  order(name) {
    if (this.orders[name]) return this.orders[name];
    const places = Array.from({ length: this.count }, (_, i) => i);
    const margins = this.columns.margin.map((value) => (value === null ? Infinity : value));
    const ranks = {
      key: null,
      low: (a, b) => margins[a] - margins[b] || a - b,
      high: (a, b) => (margins[a] === margins[b] ? a - b : margins[a] === Infinity ? 1 : margins[b] === Infinity ? -1 : margins[b] - margins[a]),
      rounds: (a, b) => this.columns.rounds[b] - this.columns.rounds[a] || a - b,
    };
    if (name === "mixed") this.mix(places);
    else if (ranks[name]) places.sort(ranks[name]);
    return (this.orders[name] = places);
  }

  /* Not picked: by a hash; those with a picture first, the accepted before others, every class once before any again. */
  mix(places) {
    const hashes = this.keys.map((key) => {
      let h = Number(key) + 0x9e3779b9;
      h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      return (h ^ (h >>> 16)) >>> 0;
    });
    const shown = this.keys.map((_, i) => (this.picture("result", i) ? 0 : 1));
    const group = (i) => 3 * shown[i] + this.columns.outcome[i];
    const turns = new Array(this.count).fill(0);
    const seen = new Map();
    for (const i of [...places].sort((a, b) => hashes[a] - hashes[b])) {
      const here = group(i) * this.data.classes.length + this.columns.label[i];
      turns[i] = seen.get(here) || 0;
      seen.set(here, turns[i] + 1);
    }
    places.sort((a, b) => group(a) - group(b) || turns[a] - turns[b] || hashes[a] - hashes[b]);
  }
}
