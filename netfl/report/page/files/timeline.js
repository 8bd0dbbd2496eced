// Rounds as a timeline: one row a device, one colour a phase, on a canvas that moves and zooms.
function startTimeline() {
  const place = byId("rounds-plot");
  if (!place || !data.timeline) return;
  const { phases, devices, rows, labels } = data.timeline;
  const canvas = make("canvas", { "aria-hidden": "true" });
  place.append(canvas);
  place.before(legend(phases.filter((_, phase) => rows.some((spans) => spans.some((value, at) => at % 4 === 0 && value === phase)))
    .map((phase) => [`phase-${phase}`, phase])));
  const row = devices.length > 30 ? 13 : 18;
  const named = Math.min(130, 12 + 6.4 * Math.max(...devices.map((name) => name.length)));
  const foot = 34;
  let range = [0, data.end];
  let width = 0;
  const x = (value) => named + ((value - range[0]) / (range[1] - range[0])) * (width - named - 6);

  function paint() {
    width = Math.max(260, Math.floor(place.clientWidth));
    const height = devices.length * row + foot;
    const density = Math.min(3, (devicePixelRatio || 1) * (matchMedia("print").matches ? 2 : 1));
    canvas.width = width * density;
    canvas.height = height * density;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);
    const tones = phases.map((phase) => colour(`--phase-${phase}`));
    const [ink, line, band] = ["--quiet", "--grid", "--band"].map(colour);
    data.rounds.forEach(([start, end], number) => {
      if (number % 2 || end < range[0] || start > range[1]) return;
      pen.fillStyle = band;
      const from = Math.max(named, x(start));
      pen.fillRect(from, 0, Math.min(width, x(end)) - from, devices.length * row);
    });
    pen.font = `${devices.length > 30 ? 10 : 11.5}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    devices.forEach((name, number) => {
      pen.fillStyle = ink;
      pen.textAlign = "right";
      pen.fillText(name.length > 19 ? `${name.slice(0, 18)}\u2026` : name, named - 8, number * row + row / 2, named - 10);
    });
    pen.save();
    pen.beginPath();
    pen.rect(named, 0, width - named - 6, height);
    pen.clip();
    rows.forEach((spans, number) => {
      for (const phase of [3, 0, 2, 1, 4]) {
        pen.fillStyle = tones[phase];
        const inset = phase === 3 ? row * 0.36 : phase === 4 ? 1 : row * 0.16;
        for (let at = 0; at < spans.length; at += 4) {
          if (spans[at] !== phase) continue;
          const [from, to] = [x(spans[at + 1]), x(spans[at + 1] + spans[at + 2])];
          if (to < named || from > width) continue;
          pen.fillRect(from, number * row + inset, Math.max(0.6, to - from), row - 2 * inset);
        }
      }
    });
    pen.restore();
    pen.strokeStyle = line;
    pen.fillStyle = ink;
    pen.textAlign = "center";
    pen.font = "11px system-ui, sans-serif";
    const bottom = devices.length * row + 4;
    pen.beginPath();
    pen.moveTo(named, bottom);
    pen.lineTo(width - 6, bottom);
    pen.stroke();
    const unit = timeUnit(range[1]);
    const marks = ticks(range[0] / unit.length, range[1] / unit.length, (width - named) / 100);
    const places = marks.length > 1 ? Math.max(0, Math.ceil(-Math.log10(marks[1] - marks[0]) - 1e-9)) : 0;
    for (const value of marks) pen.fillText(value.toFixed(places), x(value * unit.length), bottom + 12);
    pen.textAlign = "right";
    pen.fillText(`simulated time (${unit.name})`, width - 6, bottom + 25);
  }

  function show(start, length, quiet = false) {
    const long = clamp(length, data.end / 2000, data.end);
    const from = clamp(start, 0, data.end - long);
    range = [from, from + long];
    paint();
    if (!quiet) tell(`from ${duration(range[0])} to ${duration(range[1])}`);
  }
  const zoom = (factor, around = (range[0] + range[1]) / 2) => {
    const long = clamp((range[1] - range[0]) * factor, data.end / 2000, data.end);
    show(around - ((around - range[0]) / (range[1] - range[0])) * long, long);
  };
  const pan = (part) => show(range[0] + part * (range[1] - range[0]), range[1] - range[0]);
  const acts = {
    "time-in": () => zoom(0.5), "time-out": () => zoom(2), "time-left": () => pan(-0.5), "time-right": () => pan(0.5),
    "time-all": () => show(0, data.end),
  };
  for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
  place.addEventListener("keydown", (event) => {
    const act = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": acts["time-in"], "=": acts["time-in"], "-": acts["time-out"],
      Home: acts["time-all"], Escape: acts["time-all"] }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  let held = null;
  place.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") held = { at: event.clientX, range: [...range] }; });
  addEventListener("pointerup", () => { held = null; });
  place.addEventListener("pointermove", (event) => {
    const box = place.getBoundingClientRect();
    if (held) {
      const long = held.range[1] - held.range[0];
      show(held.range[0] - ((event.clientX - held.at) / (width - named)) * long, long, true);
      return;
    }
    const time = range[0] + ((event.clientX - box.left - named) / (width - named - 6)) * (range[1] - range[0]);
    const number = Math.floor((event.clientY - box.top) / row);
    const spans = rows[number];
    if (!spans || time < range[0]) return hideTip();
    const slack = (range[1] - range[0]) / 400;
    const found = [];
    for (let at = 0; at < spans.length; at += 4) {
      if (spans[at + 1] - slack <= time && spans[at + 1] + spans[at + 2] + slack >= time) {
        found.push(`${phases[spans[at]]} ${duration(spans[at + 2])}${labels[spans[at + 3]] ? `, ${labels[spans[at + 3]]}` : ""}`);
      }
    }
    showTip([devices[number], `at ${duration(Math.max(0, time))}`, ...found.slice(0, 6)], event.clientX, event.clientY);
  });
  place.addEventListener("pointerleave", hideTip);
  new ResizeObserver(() => { if (Math.max(260, Math.floor(place.clientWidth)) !== width) paint(); }).observe(place);
  repaints.push(paint);
  paint();
}
