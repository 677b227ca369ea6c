const COLOURS = 8;
const LEFT = 46;
const BOTTOM = 18;

const known = (values) => values.filter((value) => value !== null);
const colour = (index) => `c${index % COLOURS}${index >= COLOURS ? " dashed" : ""}`;

/** The next of 1, 2, 5, 10, ... at or above a value: where the axis ends. */
const ceiling = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
};

/** The same for seconds: the next round number of seconds, minutes, hours or days. */
const longest = (seconds) => {
  const round = [2, 10, 30, 60, 120, 600, 1800, 3600, 7200, 14400, 43200, 86400];
  return round.find((step) => step >= seconds) ?? 86400 * ceiling(seconds / 86400);
};

/** How much of the hour there is to draw, at least ten minutes. */
const spanOf = ({ times }) => {
  const end = times.at(-1) ?? Date.now() / 1000;
  return { end, seconds: Math.min(3600, Math.max(600, end - (times[0] ?? end))) };
};

/**
 * The highest value to draw. A burst that is over, such as the catch-up after a start, would flatten
 * all that follows: a peak above four times the ninth tenth is cut; the legend has its value.
 */
const highest = (values) => {
  const sorted = [...values].sort((one, other) => one - other);
  return Math.min(sorted.at(-1) ?? 0, 4 * (sorted[Math.floor(sorted.length * .9)] || Infinity));
};

/** Runs of neighbouring values that are known, as pieces of an SVG path. */
const runs = (values, x, y) => {
  const found = [];
  let open = null;
  values.forEach((value, index) => {
    if (value === null) { open = null; return; }
    const point = [x(index), y(value)];
    if (open) open.push(point); else found.push(open = [point]);
  });
  return found;
};
const path = (points) =>
  "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

const axes = (width, height, top, span, write) => [
  [0, .5, 1].map((share) => {
    const y = height - share * height;
    return [
      shape("line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y }),
      shape("text", { class: "tick", x: LEFT - 8, y: y + 4, "text-anchor": "end" },
        write(share * top)),
    ];
  }),
  [0, 1, 2, 3, 4].map((quarter) => {
    const at = new Date((span.end - span.seconds * (1 - quarter / 4)) * 1000);
    const anchor = quarter === 4 ? "end" : quarter === 0 ? "start" : "middle";
    const x = LEFT + (width - LEFT) * quarter / 4;
    return shape("text", { class: "tick", x, y: height + BOTTOM - 2, "text-anchor": anchor },
      clock.format(at));
  }),
].flat(2);

const plot = (node, history, series, { write, end = ceiling }, at) => {
  const width = node.clientWidth;
  const height = node.clientHeight - BOTTOM;
  const top = end(highest(series.flatMap((one) => known(one.values))));
  const span = spanOf(history);
  const x = (index) =>
    LEFT + (width - LEFT) * (1 - (span.end - history.times[index]) / span.seconds);
  const y = (value) => height - height * value / top;
  const lines = series.flatMap((one, index) => runs(one.values, x, y).flatMap((points) => [
    series.length === 1 && points.length > 1
      ? shape("path", {
        class: `area ${colour(index)}`,
        d: `${path(points)}L${points.at(-1)[0]} ${height}L${points[0][0]} ${height}Z`,
      })
      : null,
    shape("path", { class: `line ${colour(index)}`, d: path(points) + (points[1] ? "" : "h.1") }),
  ]));
  const nothing = lines.length ? null : shape("text",
    { class: "empty", x: (LEFT + width) / 2, y: height / 2, "text-anchor": "middle" },
    "The first points come within half a minute.");
  const box = [LEFT, -2, Math.max(0, width - LEFT), height + 4];
  const [left, above, across, down] = box;
  const inside = shape("svg", {
    class: "inside", x: left, y: above, width: across, height: down, viewBox: box.join(" "),
  }, ...lines.filter(Boolean));
  const cursor = at === null ? null : shape("line",
    { class: "cursor", x1: x(at), x2: x(at), y1: 0, y2: height });
  node.replaceChildren(...axes(width, height, top, span, write), inside,
    ...[cursor, nothing].filter(Boolean));
  // Which point of the history is nearest to a place in the drawing.
  return (place) => {
    const wanted = span.end - span.seconds * (1 - (place - LEFT) / Math.max(1, width - LEFT));
    const distance = (index) => Math.abs(history.times[index] - wanted);
    return history.times.reduce((best, _, index) => distance(index) < distance(best) ? index : best, 0);
  };
};

const figures = (values) => {
  const found = known(values);
  if (!found.length) return null;
  const mean = found.reduce((sum, value) => sum + value, 0) / found.length;
  return { now: found.at(-1), mean, most: Math.max(...found) };
};

/** The legend is a table with the figures: the chart's text alternative, for everybody. */
const legend = (title, series, write, at, times) =>
  el("table", { class: "legend" },
    el("caption", {}, title),
    el("thead", {}, el("tr", {},
      ["", at === null ? "now" : clock.format(new Date(times[at] * 1000)), "mean", "highest"].map((word, index) => index
        ? el("th", { scope: "col", class: "number" }, word)
        : el("td", {})))),
    el("tbody", {}, series.map((one, index) => {
      const found = figures(one.values);
      const pointed = at === null ? found?.now : one.values[at];
      const words = found
        ? [pointed, found.mean, found.most].map((value) => (value ?? null) === null ? "" : write(value))
        : ["", "", ""];
      const swatch = shape("svg",
        { class: "swatch", viewBox: "0 0 14 3", "aria-hidden": "true", focusable: "false" },
        shape("line", { class: `line ${colour(index)}`, x1: 1, x2: 13, y1: 1.5, y2: 1.5 }));
      return el("tr", {},
        el("th", { scope: "row" }, swatch, one.name),
        words.map((word) => el("td", { class: "number" }, word)));
    })));

const spoken = (title, series, write) => series.map((one) => {
  const found = figures(one.values);
  return found ? `${one.name}: now ${write(found.now)}, highest ${write(found.most)}` : one.name;
}).join("; ") || `${title}: nothing yet`;

/** Charts by the group and the key of /history that they show. */
const CHARTS = [
  { id: "new", title: "New rows", unit: "a second, by stream", group: "streams",
    key: "new_per_second", write: rate },
  { id: "delivered", title: "Delivered events", unit: "a second, by sink", group: "sinks",
    key: "delivered_per_second", write: rate },
  { id: "lag", title: "Lag", unit: "of the stream that is furthest behind", group: "streams",
    key: "lag_seconds", write: duration, end: longest },
  { id: "backlog", title: "Backlog", unit: "in events, by sink", group: "sinks",
    key: "backlog_events", write: count },
];

/** Draw a chart; `at` is the point of the history that somebody points at, or null. */
const drawChart = (history, chart, at = null) => {
  const { id, title, unit, group, key, write } = chart;
  const series = Object.entries(history[group])
    .map(([name, measures]) => ({ name, values: measures[key] }));
  let figure = document.getElementById(`chart-${id}`);
  if (!figure) {
    figure = el("figure", { id: `chart-${id}` },
      el("figcaption", {}, title, " ", el("span", {}, unit)),
      shape("svg", { class: "plot", role: "img" }),
      el("div"));
    document.getElementById("charts").append(figure);
  }
  const [, drawing, below] = figure.children;
  drawing.setAttribute("aria-label", `${title} ${unit}. ${spoken(title, series, write)}`);
  const nearest = plot(drawing, history, series, chart, at);
  below.replaceChildren(legend(`${title} ${unit}`, series, write, at, history.times));
  drawing.onpointermove = (event) => history.times.length
    && drawChart(history, chart, nearest(event.clientX - drawing.getBoundingClientRect().left));
  drawing.onpointerleave = () => drawChart(history, chart);
};
const drawCharts = (history) => CHARTS.forEach((chart) => drawChart(history, chart));

/** A line without axes, for a table; the figure beside it says the value. */
const spark = (history, values) => {
  const top = Math.max(...known(values ?? []), 0) || 1;
  const span = history ? spanOf(history) : null;
  const x = (index) => 95 - 94 * (span.end - history.times[index]) / span.seconds;
  const pieces = runs(values ?? [], x, (value) => 20 - 18 * value / top);
  return shape("svg", { class: "spark", viewBox: "0 0 96 22", "aria-hidden": "true" },
    pieces.map((points) => shape("path", { class: "line c0", d: path(points) })));
};
