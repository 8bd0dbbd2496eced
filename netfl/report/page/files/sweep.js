// The charts of a sweep's page: two figures against each other with their Pareto front, and a heat map over two settings.
const written = { s: duration, B: bytes, J: joules, share };

function startSweep() {
  startFront();
  startHeat();
}

function startFront() {
  const place = byId("front-plot");
  const [across, up] = [byId("front-x"), byId("front-y")];
  let drawn_ = null;
  function paint() {
    const [fx, fy] = [data.figures[across.value], data.figures[up.value]];
    const known = data.points.map((point, number) => ({ point, number, x: point.numbers[across.value], y: point.numbers[up.value] }))
      .filter(({ x, y }) => x && y);
    const better = (a, b, figure) => (figure.more ? a > b : a < b);
    const beaten = (one) => known.some((other) => !better(one.x[0], other.x[0], fx) && !better(one.y[0], other.y[0], fy)
      && (better(other.x[0], one.x[0], fx) || better(other.y[0], one.y[0], fy)));
    for (const one of known) one.front = !beaten(one);
    const front = known.filter((one) => one.front).sort((a, b) => a.x[0] - b.x[0]);
    byId("front-told").textContent = known.length
      ? `On the front: ${front.map((one) => `${one.point.name} (${written[fx.unit](one.x[0])}, ${written[fy.unit](one.y[0])})`).join("; ")}.`
      : "No point has both figures.";
    place.setAttribute("aria-label", `${fy.name} against ${fx.name}. ${byId("front-told").textContent}`);
    const width = Math.max(260, Math.floor(place.clientWidth));
    const height = clamp(width * 0.45, 260, 430);
    const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", "aria-hidden": "true" });
    const span = (name) => {
      const all = known.flatMap((one) => one[name]);
      if (!all.length) return [0, 1];
      const [low, high] = [Math.min(...all), Math.max(...all)];
      const wide = high - low || Math.abs(high) || 1;
      return [Math.max(0, low - wide * 0.08), high + wide * 0.08];
    };
    const [xs, ys] = [span("x"), span("y")];
    const longest = Math.max(...ticks(...ys, 5).map((value) => written[fy.unit](value).length));
    const margin = { left: Math.max(66, 14 + 6.6 * longest), right: 20, top: 24, bottom: 40 };
    const x = (value) => margin.left + ((value - xs[0]) / (xs[1] - xs[0])) * (width - margin.left - margin.right);
    const y = (value) => height - margin.bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (height - margin.top - margin.bottom);
    for (const value of ticks(...ys, 5)) {
      picture.append(drawn("line", { x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value), class: "grid" }));
      picture.append(text(margin.left - 7, y(value) + 4, written[fy.unit](value), "end"));
    }
    for (const value of ticks(...xs, width / 110)) picture.append(text(x(value), height - margin.bottom + 17, written[fx.unit](value)));
    picture.append(drawn("line", { x1: margin.left, x2: width - margin.right, y1: height - margin.bottom, y2: height - margin.bottom, class: "axis" }));
    picture.append(text(width - margin.right, height - 4, `${fx.name}, ${fx.more ? "more" : "less"} is better`, "end", "label"));
    picture.append(text(0, 12, `${fy.name}, ${fy.more ? "more" : "less"} is better`, "start", "label"));
    picture.append(drawn("path", { d: path(front.map((one) => [x(one.x[0]), y(one.y[0])])), class: "curve c0 front" }));
    for (const one of known) {
      picture.append(drawn("line", { x1: x(one.x[1]), x2: x(one.x[2]), y1: y(one.y[0]), y2: y(one.y[0]), class: "whisker" }));
      picture.append(drawn("line", { x1: x(one.x[0]), x2: x(one.x[0]), y1: y(one.y[1]), y2: y(one.y[2]), class: "whisker" }));
      const dot = drawn("circle", { cx: x(one.x[0]), cy: y(one.y[0]), r: one.front ? 6 : 4.5, class: one.front ? "dot c0" : "dot c2" });
      const lines = () => [one.point.name, `${fx.name} ${written[fx.unit](one.x[0])}`, `${fy.name} ${written[fy.unit](one.y[0])}`,
        `${one.point.runs} run${one.point.runs === 1 ? "" : "s"}`, one.front ? "on the front" : "beaten by another"];
      dot.addEventListener("pointermove", (event) => showTip(lines(), event.clientX, event.clientY));
      dot.addEventListener("pointerleave", hideTip);
      picture.append(dot);
      one.lines = lines;
      one.place = [x(one.x[0]), y(one.y[0])];
    }
    const named = [];
    if (known.length <= 14) for (const one of front) {
      const long = one.point.name.length > 34 ? `${one.point.name.slice(0, 33)}\u2026` : one.point.name;
      const right = one.place[0] < width * 0.6;
      const near = one.place[0] + (right ? 10 : -10);
      const [from, to] = right ? [near, near + 6.6 * long.length] : [near - 6.6 * long.length, near];
      let above = one.place[1] - 9;
      // Above whatever name is there already.
      while (named.some((other) => from < other.to && other.from < to && Math.abs(above - other.above) < 13)) above -= 13;
      named.push({ from, to, above });
      picture.append(text(near, above, long, right ? "start" : "end", "name"));
    }
    place.querySelector("svg")?.remove();
    place.prepend(picture);
    drawn_ = { known: [...known].sort((a, b) => a.x[0] - b.x[0]), width };
  }
  let at = -1;
  place.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !drawn_.known.length) return;
    event.preventDefault();
    at = clamp(at + step, 0, drawn_.known.length - 1);
    const one = drawn_.known[at];
    const box = place.getBoundingClientRect();
    showTip(one.lines(), box.left + one.place[0], box.top + one.place[1]);
    tell(one.lines().join(", "));
  });
  place.addEventListener("blur", hideTip);
  across.addEventListener("change", paint);
  up.addEventListener("change", paint);
  new ResizeObserver(() => { if (Math.max(260, Math.floor(place.clientWidth)) !== drawn_?.width) paint(); }).observe(place);
  paint();
}

function startHeat() {
  const place = byId("heat-map");
  if (!place) return;
  const [across, down, figure] = ["heat-x", "heat-y", "heat-figure"].map(byId);
  data.figures.forEach((each, number) => figure.append(make("option", { value: number }, each.name)));
  function paint() {
    const [kx, ky] = [data.keys[across.value], data.keys[down.value]];
    const told = data.figures[figure.value];
    const same = across.value === down.value;
    const cells = (same ? [null] : ky.values.map((_, row) => row)).map((row) => kx.values.map((_, column) => {
      const inside = data.points.filter((point) => point.at[across.value] === column && (row === null || point.at[down.value] === row));
      const numbers = inside.map((point) => point.numbers[figure.value]);
      return inside.length && numbers.every((each) => each) ? numbers.reduce((sum, each) => sum + each[0], 0) / numbers.length : null;
    }));
    const all = cells.flat().filter((value) => value !== null);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const head = make("tr", {}, make("th", { scope: "col" }, same ? kx.name : `${ky.name} \\ ${kx.name}`), ...kx.values.map((value) => make("th", { scope: "col" }, value)));
    const rows = cells.map((row, number) => make("tr", {}, make("th", { scope: "row" }, same ? told.name : ky.values[number]), ...row.map((value) => {
      const cell = make("td", {}, value === null ? "\u2013" : written[told.unit](value));
      if (value !== null) {
        const good = high > low ? (told.more ? (value - low) / (high - low) : (high - value) / (high - low)) : 1;
        cell.className = "heat";
        cell.style.setProperty("--heat", `${Math.round(8 + 62 * good)}%`);
      }
      return cell;
    })));
    place.replaceChildren(make("table", { id: "heat-table" }, make("caption", {}, `${told.name}; the stronger the colour, the better`), make("thead", {}, head), make("tbody", {}, ...rows)));
  }
  for (const each of [across, down, figure]) each.addEventListener("change", paint);
  paint();
}
