/* The gallery: filters, pages of cards, and an address (#…) that brings back what is shown. */

const START = { text: "", outcome: "", label: "", reason: "", policy: "", low: "", high: "", order: "mixed", page: "1" };

class Gallery {
  constructor(root, samples) {
    this.root = root;
    this.samples = samples;
    this.form = root.querySelector("form");
    this.size = window.matchMedia("(max-width: 640px)").matches ? 24 : 60;
    this.viewer = new Viewer(samples, document.querySelector("dialog"), (i) => this.remember(i));
    this.offer();
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => setTimeout(() => this.changed()));
    for (const [name, step] of [["back", -1], ["forward", 1]]) {
      for (const button of root.querySelectorAll(`[data-do=${name}]`)) {
        button.addEventListener("click", () => this.turn(step, button));
      }
    }
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.target.closest("input, select, dialog")) {
        event.preventDefault();
        this.form.elements.text.focus();
      }
    });
    window.addEventListener("hashchange", (event) => this.recall(new URL(event.newURL).hash.slice(1)));
    this.recall(location.hash.slice(1));
  }

  /* Fills the choices with what the samples have, and how many of each; hides those that leave no choice. */
  offer() {
    const { columns, data } = this.samples;
    const count = (of) => of.reduce((counts, value) => counts.set(value, (counts.get(value) || 0) + 1), new Map());
    const fill = (name, counts, text) => {
      const select = this.form.elements[name];
      const found = [...counts].map(([value, n]) => [text(value), value, n]).filter(([shown]) => shown);
      found.sort((a, b) => a[0].localeCompare(b[0]));
      select.append(...found.map(([shown, value, n]) => element("option", { value }, `${shown} (${n.toLocaleString("en")})`)));
      select.closest("label").hidden = found.length < (name === "reason" ? 1 : 2);
    };
    fill("label", count(columns.label), (value) => data.classes[value]);
    fill("policy", count(columns.policy.of), (value) => columns.policy.words[value]);
    fill("reason", count(columns.reject_reason.of), (value) => data.reasons[columns.reject_reason.words[value]] || columns.reject_reason.words[value]);
    fill("outcome", new Map(OUTCOMES.map((name, n) => [name, columns.outcome.filter((found) => found === n).length]).filter(([, n]) => n)), (name) => name);
  }

  changed() {
    this.filter = { ...START, ...Object.fromEntries(new FormData(this.form)) };
    this.show();
    this.remember(null);
  }

  turn(step, button) {
    this.filter.page = String(Number(this.filter.page) + step);
    this.show();
    this.remember(null);
    this.root.scrollIntoView();
    if (button.disabled) this.root.querySelector("[data-is=count]").focus({ preventScroll: true });
  }

  show() {
    const { filter, samples, root } = this;
    this.list = samples.select(filter);
    const pages = Math.max(1, Math.ceil(this.list.length / this.size));
    const page = Math.min(Math.max(1, Number(filter.page) || 1), pages);
    filter.page = String(page);
    const first = (page - 1) * this.size;
    const cards = this.list.slice(first, first + this.size).map((i) => card(samples, i, (at) => this.viewer.open(at, this.list)));
    root.querySelector("[data-is=cards]").replaceChildren(...cards);
    root.querySelector("[data-is=nothing]").hidden = cards.length > 0;
    root.querySelector("[data-is=count]").textContent =
      this.list.length === samples.count ? plural(samples.count, "sample") : `${this.list.length.toLocaleString("en")} of ${plural(samples.count, "sample")}`;
    for (const bar of root.querySelectorAll("[data-is=pages]")) {
      bar.hidden = pages === 1;
      bar.querySelector("[data-is=page]").textContent = `Page ${page} of ${pages.toLocaleString("en")}`;
      bar.querySelector("[data-do=back]").disabled = page === 1;
      bar.querySelector("[data-do=forward]").disabled = page === pages;
    }
  }

  /* Writes the filter and the sample in view into the address; numbers of words are written as the words. */
  remember(i) {
    const shown = Object.entries({ ...this.filter, ...this.words() }).filter(([name, value]) => value !== START[name]);
    const query = new URLSearchParams(shown);
    if (i !== null) query.set("sample", this.samples.keys[i]);
    this.address = query.toString();
    history.replaceState(null, "", this.address ? `#${this.address}` : location.pathname + location.search);
  }

  words() {
    const { columns, data } = this.samples;
    const { label, reason, policy } = this.filter;
    return {
      label: label && data.classes[label],
      reason: reason && columns.reject_reason.words[reason],
      policy: policy && columns.policy.words[policy],
    };
  }

  recall(address) {
    if (address && address === this.address) return;
    const { columns, data, places } = this.samples;
    const asked = Object.fromEntries(new URLSearchParams(address));
    const place = (words, word) => (word === undefined || words.indexOf(word) < 0 ? "" : String(words.indexOf(word)));
    const filter = { ...START, ...asked };
    filter.label = place(data.classes, asked.label);
    filter.reason = place(columns.reject_reason.words, asked.reason);
    filter.policy = place(columns.policy.words, asked.policy);
    for (const name of Object.keys(START)) {
      if (this.form.elements[name]) this.form.elements[name].value = filter[name];
    }
    const known = Object.fromEntries(new FormData(this.form)); // a select knows which of its values exist
    this.filter = { ...START, page: filter.page, ...known, order: known.order || START.order };
    this.form.elements.order.value = this.filter.order;
    this.show();
    const at = places.get(asked.sample);
    if (at !== undefined) this.viewer.open(at, this.list);
    else this.remember(null);
    if (address && !asked.sample) this.root.scrollIntoView();
  }
}

async function start() {
  const root = document.getElementById("gallery");
  const text = document.getElementById("samples-data");
  if (!root || !text) return;
  const pictures = JSON.parse(document.getElementById("pictures-data").textContent);
  const samples = new Samples(await unpack(text.textContent), pictures);
  new Gallery(root, samples);
  root.dataset.ready = "true";
}

start();
