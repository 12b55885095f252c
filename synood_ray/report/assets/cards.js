/* Drawing: a sample's card, its margin, its trace. */

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const signed = (value) => (value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function picture(samples, kind, i, alt) {
  const found = samples.picture(kind, i);
  if (!found) return element("span", { class: "none", role: "img", "aria-label": alt }, absence(samples, kind, i));
  const loading = samples.data.folder ? "lazy" : null;
  return element("img", { src: found.src, alt, loading, style: `object-position: ${found.place}` });
}

function absence(samples, kind, i) {
  if (samples.outcome(i) === "failed") return kind === "source" ? "not shown" : "no image";
  if (kind === "source" && samples.pictures.gone.includes(samples.word("source_key", i))) return "source is gone";
  return "no thumbnail";
}

/* Where a margin lies: the band shaded, a dot for the sample. */
function meter(samples, i) {
  const [from, to] = samples.data.range;
  const at = (value) => `${(100 * (Math.min(Math.max(value, from), to) - from)) / (to - from)}%`;
  const [low, high] = samples.data.band;
  const band = element("i", { style: `left: ${at(low)}; right: calc(100% - ${at(high)})` });
  const margin = samples.margin(i);
  const dot = margin === null ? null : element("b", { style: `left: ${at(margin)}` });
  return element("span", { class: "meter", "aria-hidden": "true" }, band, dot);
}

function label(samples, i) {
  const state = samples.outcome(i) === "accepted" ? "accepted" : `${samples.outcome(i)}: ${samples.reason(i)}`;
  return `${samples.title(i)}, from ${samples.className(i)}, ${state}, margin ${signed(samples.margin(i))}`;
}

function card(samples, i, open) {
  const made = element(
    "button",
    { class: `sample ${samples.outcome(i)}`, type: "button", "data-key": samples.keys[i], "aria-label": `${label(samples, i)}. Larger view` },
    element("span", { class: "pair" }, picture(samples, "source", i, "source"), picture(samples, "result", i, "result")),
    element("span", { class: "name" }, samples.title(i)),
    meter(samples, i),
    element(
      "span",
      { class: "state" },
      element("span", {}, `${signed(samples.margin(i))} σ`),
      element("span", {}, samples.outcome(i) === "accepted" ? plural(samples.columns.rounds[i], "round") : samples.outcome(i)),
    ),
  );
  made.addEventListener("click", () => open(i));
  return element("li", {}, made);
}

/* A sample's margin by round over the band; the band is where an image is accepted. */
function traceChart(samples, i) {
  const trace = samples.trace(i);
  const values = trace.length ? trace : samples.margin(i) === null ? [] : [samples.margin(i)];
  if (!values.length) return element("p", { class: "quiet" }, "No round was finished.");
  const [width, height, left, right, top, bottom] = [440, 180, 48, 12, 12, 30];
  const [low, high] = samples.data.band;
  const reach = [Math.min(low, ...values) - 0.4, Math.max(high, ...values) + 0.4];
  const x = (round) => left + ((round + (values.length === 1 ? 0.5 : 0)) / Math.max(1, values.length - 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - reach[0]) / (reach[1] - reach[0])) * (height - top - bottom);
  const text = (at, to, content, anchor) => drawing("text", { x: at, y: to, "text-anchor": anchor }, content);
  const ticks = [...new Set([low, high, values[0], values[values.length - 1]])].filter(
    (value, n, all) => all.slice(0, n).every((other) => Math.abs(y(other) - y(value)) > 13),
  );
  const chart = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "trace-chart" });
  chart.setAttribute("aria-label", `margin by round: ${values.map(signed).join(", ")}; band from ${signed(low)} to ${signed(high)}`);
  chart.append(
    drawing("rect", { class: "band", x: left, y: y(high), width: width - left - right, height: y(low) - y(high) }),
    ...ticks.map((value) => text(left - 8, y(value) + 4, signed(value), "end")),
    ...values.map((_, n) => text(x(n), height - 8, trace.length ? n + 1 : "best", "middle")),
    drawing("polyline", { class: "trace", points: values.map((value, n) => `${x(n)},${y(value)}`).join(" ") }),
    ...values.map((value, n) => drawing("circle", { class: n === values.length - 1 ? "dot end" : "dot", cx: x(n), cy: y(value), r: n === values.length - 1 ? 5 : 3.5 })),
  );
  return chart;
}
