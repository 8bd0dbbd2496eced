// What all parts share: elements made of text, numbers for people, the theme, the words for screen readers.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const digits = (value, count = 3) => {
  if (value === 0) return "0";
  const text = Math.abs(value) >= 10 ** count ? Math.round(value).toLocaleString("en-US") : Number(value.toPrecision(count)).toString();
  return text.replace("-", "\u2212");
};

function scaled(value, unit, steps) {
  for (const [factor, prefix] of steps) if (Math.abs(value) >= factor) return `${digits(value / factor)} ${prefix}${unit}`;
  const [factor, prefix] = steps[steps.length - 1];
  return `${digits(value / factor)} ${prefix}${unit}`;
}

const bytes = (value) => scaled(value, "B", [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const rate = (value) => scaled(value, "bit/s", [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const joules = (value) => scaled(value, "J", [[1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "\u00b5"]]);
const share = (value) => `${digits(100 * value)} %`;
const count = (value) => Math.round(value).toLocaleString("en-US");

function duration(value) {
  if (value === 0) return "0 s";
  if (value < 60) return scaled(value, "s", [[1, ""], [1e-3, "m"], [1e-6, "\u00b5"]]);
  const whole = Math.round(value);
  for (const [unit, length, smaller, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (whole >= length) {
      const rest = Math.floor((whole % length) / part);
      return `${Math.floor(whole / length)} ${unit}` + (rest ? ` ${rest} ${smaller}` : "");
    }
  }
  return `${whole} s`;
}

// The unit in which times up to the largest read well, and its length in seconds.
function timeUnit(largest) {
  for (const [least, length, name] of [[2 * 86400, 86400, "d"], [2 * 3600, 3600, "h"], [120, 60, "min"], [1, 1, "s"], [0, 1e-3, "ms"]]) {
    if (largest >= least) return { length, name };
  }
  return { length: 1e-3, name: "ms" };
}

function ticks(low, high, about) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number++) found.push(number * step);
  return found;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// The last place whose value does not exceed the one looked for; -1 if all do.
function lastUpTo(values, wanted) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const live = make("div", { role: "status", "aria-live": "polite", class: "unseen", id: "live" });
document.body.append(live);
let told = 0;
function tell(text) {
  clearTimeout(told);
  told = setTimeout(() => { live.textContent = text; }, 150);
}

const tip = make("div", { class: "tip", "aria-hidden": "true", hidden: "" });
document.body.append(tip);
function showTip(lines, x, y) {
  tip.replaceChildren(...lines.map((line, place) => make(place ? "span" : "strong", {}, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = x + 16 + width < document.documentElement.clientWidth;
  tip.style.left = `${Math.max(4, right ? x + 16 : x - 16 - width)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - height - 4))}px`;
}
const hideTip = () => { tip.hidden = true; };

// Whoever paints with colours of its own is called when they change.
const repaints = [];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const chosen = () => document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");

function startTheme() {
  const button = byId("theme");
  const show = () => {
    const now = chosen();
    button.textContent = now === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show the page ${now === "dark" ? "light" : "dark"}`);
    for (const repaint of repaints) repaint();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = chosen() === "dark" ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  addEventListener("beforeprint", show);
  addEventListener("afterprint", show);
  matchMedia("print").addEventListener("change", show);
  show();
}

function legend(entries) {
  return make("ul", { class: "keys" }, ...entries.map(([name, label]) => {
    const sign = make("i", { class: `key ${name}` });
    return make("li", {}, sign, label);
  }));
}
