// Everything from the daemon becomes a text node or an attribute of an SVG, never markup.

const SVG = "http://www.w3.org/2000/svg";

const filled = (node, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== "") node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
};
const el = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

/** Put new content in place only when it differs, so that selections and scrolling stay. */
const shown = new Map();
const show = (id, content, make) => {
  const key = JSON.stringify(content);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  document.getElementById(id).replaceChildren(...[make(content)].flat().filter(Boolean));
};

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

const count = (value) => (Math.abs(value) >= 100000 ? brief : plain).format(value);
const rate = (value) => (value >= 1000 ? brief : fine).format(value);
const bytes = (value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${fine.format(value / 1024 ** power)} ${units[power]}`;
};
const duration = (seconds) => {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [size, unit] = steps.find(([size]) => Math.abs(seconds) >= 1.5 * size) ?? [1, "s"];
  const value = seconds / size;
  return `${unit === "s" || Math.abs(value) >= 10 ? Math.round(value) : value.toFixed(1)} ${unit}`;
};
const time = (text) => {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const words = today ? at.toLocaleTimeString("en-GB") : moment.format(at);
  return el("time", { datetime: text, title: text }, words);
};

/**
 * A table in a region that can be scrolled by keyboard; columns: [heading, cell, class].
 * What `below` returns for a row stands under it, over the whole width.
 */
const table = (caption, columns, rows, below = () => null) =>
  el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {},
        columns.map(([heading, , kind]) => el("th", { scope: "col", class: kind ?? "" }, heading)))),
      el("tbody", {}, rows.flatMap((row) => {
        const cells = columns.map(([, cell, kind], index) => index
          ? el("td", { class: kind ?? "", "data-heading": columns[index][0] }, cell(row) ?? "")
          : el("th", { scope: "row" }, cell(row)));
        const more = below(row);
        const under = more
          ? el("tr", { class: "below" }, el("td", { colspan: columns.length }, more)) : null;
        return [el("tr", {}, cells), under];
      }))));
