// Charts as SVG: their colours come from the style sheet, so that they follow the theme and print.

// Calls `paint(width)` with a fresh SVG of the place's width, now and whenever that changes.
function fitted(place, height, paint) {
  let width = 0;
  const again = () => {
    const now = Math.max(260, Math.floor(place.clientWidth));
    if (now === width) return;
    width = now;
    const tall = typeof height === "function" ? height(width) : height;
    const picture = drawn("svg", { viewBox: `0 0 ${width} ${tall}`, width: "100%", "aria-hidden": "true", focusable: "false" });
    paint(picture, width, tall);
    place.querySelector("svg")?.remove();
    place.prepend(picture);
  };
  new ResizeObserver(again).observe(place);
  repaints.push(again);
  again();
}

const text = (x, y, words, anchor = "middle", kind = "tick") => drawn("text", { x, y, "text-anchor": anchor, class: kind }, words);

function path(points) {
  let written = "";
  let up = true;
  for (const [x, y] of points) {
    if (y === null || Number.isNaN(y)) up = true;
    else {
      written += `${up ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      up = false;
    }
  }
  return written;
}

// Curves against an axis of time or of another number.
// told: { x: [low, high], y: [low, high], xTicks, yTicks, xLabel, yLabel, bands, rules, curves, at(x) -> lines of text, log }
function curveChart(place, told) {
  const margin = { left: 46, right: 14, top: 22, bottom: 38 };
  let cursor = null;
  let scale = null;
  fitted(place, (width) => told.height || clamp(width * 0.36, 220, 340), (picture, width, height) => {
    const right = width - margin.right;
    const bottom = height - margin.bottom;
    const x = (value) => margin.left + ((value - told.x[0]) / (told.x[1] - told.x[0] || 1)) * (right - margin.left);
    const level = told.log ? Math.log10 : (value) => value;
    const [low, high] = told.y.map(level);
    const y = (value) => bottom - ((level(told.log ? Math.max(value, told.y[0]) : value) - low) / (high - low || 1)) * (bottom - margin.top);
    for (const [start, end] of told.bands || []) {
      picture.append(drawn("rect", { x: x(start), y: margin.top, width: Math.max(0, x(end) - x(start)), height: bottom - margin.top, class: "band" }));
    }
    for (const [value, label] of told.yTicks) {
      picture.append(drawn("line", { x1: margin.left, x2: right, y1: y(value), y2: y(value), class: "grid" }));
      picture.append(text(margin.left - 7, y(value) + 4, label, "end"));
    }
    let free = -Infinity;
    for (const [value, label] of told.xTicks(width)) {
      const half = label.length * 3.2;
      if (x(value) - half < free) continue;
      picture.append(text(x(value), bottom + 17, label));
      free = x(value) + half + 6;
    }
    picture.append(drawn("line", { x1: margin.left, x2: right, y1: bottom, y2: bottom, class: "axis" }));
    picture.append(text(right, height - 4, told.xLabel, "end", "label"), text(0, 12, told.yLabel, "start", "label"));
    for (const area of told.areas || []) {
      const upper = area.x.map((value, place) => [x(value), y(area.top[place])]);
      const lower = area.x.map((value, place) => [x(value), y(area.bottom[place])]).reverse();
      picture.append(drawn("path", { d: `${path([...upper, ...lower])}Z`, class: `area ${area.kind}` }));
    }
    for (const rule of told.rules || []) {
      if (rule.y < told.y[0] || rule.y > told.y[1]) continue;
      picture.append(drawn("line", { x1: margin.left, x2: right, y1: y(rule.y), y2: y(rule.y), class: `rule ${rule.kind || ""}` }));
      picture.append(text(margin.left + 5, y(rule.y) - 5, rule.label, "start", "label"));
    }
    for (const curve of told.curves) {
      const points = [];
      curve.x.forEach((value, place) => {
        const here = curve.y[place] === null ? null : y(curve.y[place]);
        if (curve.step && place && here !== null && points.length) points.push([x(value), points[points.length - 1][1]]);
        points.push([x(value), here]);
      });
      if (curve.step && points.length) points.push([right, points[points.length - 1][1]]);
      picture.append(drawn("path", { d: path(points), class: `curve ${curve.kind}` }));
      if (curve.dots && curve.x.length <= 120) {
        curve.x.forEach((value, place) => {
          if (curve.y[place] !== null) picture.append(drawn("circle", { cx: x(value), cy: y(curve.y[place]), r: 2.6, class: `dot ${curve.kind}` }));
        });
      }
    }
    cursor = drawn("line", { y1: margin.top, y2: bottom, class: "cursor", visibility: "hidden" });
    picture.append(cursor);
    scale = { x, back: (pixel) => told.x[0] + ((pixel - margin.left) / (right - margin.left)) * (told.x[1] - told.x[0]) };
  });
  let at = null;
  const point = (value, mouse) => {
    at = clamp(value, told.x[0], told.x[1]);
    const lines = told.at(at);
    cursor.setAttribute("x1", scale.x(at));
    cursor.setAttribute("x2", scale.x(at));
    cursor.setAttribute("visibility", "visible");
    const box = place.getBoundingClientRect();
    const [left, top] = mouse ? [mouse.clientX, mouse.clientY] : [box.left + (scale.x(at) * box.width) / place.clientWidth, box.top + 30];
    showTip(lines, left, top);
    if (!mouse) tell(lines.join(", "));
  };
  const leave = () => { hideTip(); cursor.setAttribute("visibility", "hidden"); };
  place.addEventListener("pointermove", (event) => point(scale.back(event.clientX - place.getBoundingClientRect().left), event));
  place.addEventListener("pointerleave", leave);
  place.addEventListener("blur", leave);
  place.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, Escape: 0 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    if (event.key === "Escape") leave();
    else point((at ?? told.x[0]) + (move * (told.x[1] - told.x[0])) / 100);
  });
}

// Stacked horizontal bars.
// told: { rows: [name, [value, kind] ...], write, total }
function barChart(place, told) {
  const tall = 24;
  const largest = Math.max(...told.rows.map(([, parts]) => parts.reduce((sum, [value]) => sum + value, 0)), 1e-300);
  let shown = Math.min(told.rows.length, told.first || 12);
  const paint = (picture, width) => {
    const named = clamp(width * 0.26, 84, 220);
    const end = 78;
    picture.append(drawn("defs", {}, drawn("pattern", { id: `hatch-${place.id}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      drawn("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatch" }))));
    told.rows.slice(0, shown).forEach(([name, parts], place_) => {
      const top = place_ * tall;
      const most = Math.floor(named / 7);
      picture.append(text(named - 8, top + 16, name.length > most ? `${name.slice(0, most - 1)}\u2026` : name, "end", "name"));
      let left = named;
      let sum = 0;
      const group = drawn("g", { class: "bar" });
      for (const [value, kind, hatched] of parts) {
        const wide = (value / largest) * (width - named - end);
        sum += value;
        if (!value) continue;
        group.append(drawn("rect", { x: left, y: top + 4, width: Math.max(0.5, wide), height: tall - 8, class: kind }));
        if (hatched) group.append(drawn("rect", { x: left, y: top + 4, width: Math.max(0.5, wide), height: tall - 8, fill: `url(#hatch-${place.id})` }));
        left += wide;
      }
      group.addEventListener("pointermove", (event) => showTip(
        [name, ...parts.filter(([value]) => value).map(([value, , hatched, label]) => `${label}${hatched ? ", wasted" : ""}: ${told.write(value)}`)],
        event.clientX, event.clientY));
      group.addEventListener("pointerleave", hideTip);
      picture.append(group, text(left + 7, top + 16, told.write(sum), "start", "name"));
    });
  };
  fitted(place, () => shown * tall + 4, paint);
  if (told.rows.length > shown) {
    const more = make("button", { type: "button", class: "more" }, `Show all ${told.rows.length}`);
    more.addEventListener("click", () => {
      shown = told.rows.length;
      more.remove();
      const width = Math.max(260, Math.floor(place.clientWidth));
      const picture = drawn("svg", { viewBox: `0 0 ${width} ${shown * tall + 4}`, width: "100%", "aria-hidden": "true" });
      paint(picture, width);
      place.querySelector("svg").replaceWith(picture);
    });
    place.after(more);
  }
}

// Ticks of simulated time for a chart of some width.
const timeTicks = (end) => (width) => {
  const unit = timeUnit(end);
  return ticks(0, end / unit.length, width / 90).map((value) => [value * unit.length, digits(value)]);
};
