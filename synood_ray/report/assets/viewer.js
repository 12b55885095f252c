/* The larger view of one sample: a dialog; arrow keys go through what the filter shows. */

class Viewer {
  constructor(samples, dialog, moved) {
    this.samples = samples;
    this.dialog = dialog;
    this.moved = moved;
    this.list = [];
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) this.go(step);
    });
    for (const [name, step] of [["previous", -1], ["next", 1]]) {
      dialog.querySelector(`[data-do=${name}]`).addEventListener("click", () => this.go(step));
    }
    dialog.querySelector("[data-do=close]").addEventListener("click", () => dialog.close());
  }

  open(i, list) {
    this.list = list;
    this.show(i);
    if (!this.dialog.open) {
      this.before = document.activeElement;
      this.dialog.showModal();
    }
  }

  closed() {
    this.moved(null);
    const card = document.querySelector(`[data-key="${this.samples.keys[this.now]}"]`) || this.before;
    if (card) card.focus();
  }

  go(step) {
    const at = this.list.indexOf(this.now) + step;
    if (at >= 0 && at < this.list.length) this.show(this.list[at]);
  }

  show(i) {
    const { samples, dialog } = this;
    this.now = i;
    const at = this.list.indexOf(i);
    const fill = (name, ...children) => dialog.querySelector(`[data-is=${name}]`).replaceChildren(...children);
    fill("title", samples.title(i));
    fill("place", at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${this.list.length.toLocaleString("en")}`);
    fill("pictures", ...this.pictures(i));
    fill("trace", traceChart(samples, i));
    fill("facts", ...this.facts(i));
    dialog.querySelector("[data-do=previous]").disabled = at <= 0;
    dialog.querySelector("[data-do=next]").disabled = at < 0 || at === this.list.length - 1;
    this.moved(i);
  }

  pictures(i) {
    const { samples } = this;
    const figure = (kind, title, alt, ...over) =>
      element("figure", {}, element("span", { class: "frame" }, picture(samples, kind, i, alt), ...over), element("figcaption", {}, title));
    const mask = drawing("svg", { viewBox: "0 0 100 100", class: "mask", role: "img", "aria-label": "what was repainted", preserveAspectRatio: "none" });
    for (const [x, y, width, height] of samples.mask(i)) mask.append(drawing("rect", { x, y, width, height }));
    const made = [figure("source", "source", `source image: ${samples.className(i)}`, ...(mask.childNodes.length ? [mask] : []))];
    if (samples.picture("companion", i)) made.push(figure("companion", "companion: its class again", `regenerated ${samples.className(i)}`));
    made.push(figure("result", "result", `result: ${samples.title(i)}`));
    return made;
  }

  facts(i) {
    const { samples } = this;
    const rounds = samples.columns.rounds[i];
    const weight = samples.columns.weight[i];
    const facts = [
      ["Outcome", samples.outcome(i) === "accepted" ? "accepted" : `${samples.outcome(i)}: ${samples.reason(i)}`],
      ["Margin", samples.margin(i) === null ? "" : `${signed(samples.margin(i))} σ after ${plural(rounds, "round")}`],
      ["Source class", samples.className(i)],
      ["Policy", samples.word("policy", i)],
      ["Names", (samples.word("names", i) || []).join(", ") + (weight ? ` · share of the second ${weight}` : "")],
      ["Prompt", samples.word("prompt", i)],
      ["Negative label", samples.word("negative_label", i)],
      ["Mask", samples.word("mask", i)],
      ["Row key", samples.keys[i]],
      ["Source", samples.word("source_key", i)],
    ];
    return facts.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  }
}
