// The charts of a run's page.
function startRun() {
  const end = data.end;
  const unit = timeUnit(end);
  const timeAxis = { x: [0, end], xTicks: timeTicks(end), xLabel: `simulated time (${unit.name})` };

  if (byId("accuracy-plot")) {
    const curves = data.accuracy.map((each, number) => ({ x: each.t, y: each.accuracy, step: true, dots: true, kind: `c${number % 6}` }));
    curveChart(byId("accuracy-plot"), {
      ...timeAxis, y: [0, 1], yTicks: [0, 0.2, 0.4, 0.6, 0.8, 1].map((value) => [value, share(value)]), yLabel: "accuracy", bands: bandsOf(),
      curves,
      at: (time) => [duration(time), ...data.accuracy.map((each) => {
        const place = lastUpTo(each.t, time);
        const name = data.accuracy.length > 1 ? `${each.workload}: ` : "";
        return place < 0 ? `${name}no model yet` : `${name}${share(each.accuracy[place])}, loss ${each.loss[place] === null ? "not finite" : digits(each.loss[place])}, version ${each.version[place]}`;
      })],
    });
    if (data.accuracy.length > 1) byId("accuracy-plot").before(legend(data.accuracy.map((each, number) => [`c${number % 6}`, each.workload])));
  }
  data.latency.forEach(startLatency);

  if (byId("bytes-plot")) {
    byId("bytes-plot").before(legend(data.kinds.map((kind) => [`kind-${kind}`, kind])));
    barChart(byId("bytes-plot"), {
      write: bytes,
      rows: data.links.map(([name, useful, wasted]) => [name, data.kinds.flatMap((kind, number) => [
        [useful[number], `kind-${kind}`, false, kind], [wasted[number], `kind-${kind}`, true, kind],
      ])]),
    });
  }
  ["processors", "links"].forEach((kind, number) => {
    const place = byId(`load-plot-${kind}`);
    if (!place) return;
    place.before(legend([[`load-${kind}`, kind]]));
    barChart(place, { write: share, first: 6, rows: data.loads[number].map(([name, busy]) => [name, [[busy, `load-${kind}`, false, "busy"]]]) });
  });
  if (byId("energy-plot")) {
    const names = ["compute", "sending", "receiving"];
    byId("energy-plot").before(legend(names.map((name) => [`energy-${name}`, name])));
    barChart(byId("energy-plot"), {
      write: joules,
      rows: data.energy.map(([name, ...values]) => [name, names.map((part, number) => [values[number], `energy-${part}`, false, part])]),
    });
  }

  function bandsOf() {
    return data.rounds.filter((_, number) => number % 2 === 0);
  }

  function startLatency(each, number) {
    const place = byId(`latency-plot-${number}`);
    if (!place || !each.sorted.length) return;
    const all = [...each.p50, ...each.p95, ...each.p99].filter((value) => value !== null && value > 0);
    const [least, most] = [Math.min(...all), Math.max(...all, each.deadline ?? 0)];
    const log = most > 20 * least;
    const low = log ? 10 ** Math.floor(Math.log10(least) + 1e-9) : 0;
    const high = log ? most * 1.25 : most * 1.08;
    const marks = log ? powers(low, high) : ticks(0, high, 5);
    const names = ["p50", "p95", "p99"];
    place.before(legend(names.map((name, at) => [`c${at}`, name])));
    curveChart(place, {
      ...timeAxis, y: [low || (log ? least : 0), high], log, yTicks: marks.map((value) => [value, duration(value).replace(" ", "\u202f")]),
      yLabel: log ? "latency, logarithmic" : "latency", bands: bandsOf(),
      rules: each.deadline === null ? [] : [{ y: each.deadline, label: `deadline ${duration(each.deadline)}` }],
      curves: names.map((name, at) => ({ x: each.t, y: each[name], kind: `c${at}` })).reverse(),
      at: (time) => {
        const at = clamp(Math.floor(time / each.width), 0, each.t.length - 1);
        return [`${duration(at * each.width)} to ${duration((at + 1) * each.width)}`,
          ...names.map((name) => `${name} ${each[name][at] === null ? "\u2013" : duration(each[name][at])}`),
          `${count(each.asked[at])} requests, ${count(each.late[at])} missed`];
      },
    });

    const parts = ["propagation", "transmit", "compute", "queue"];
    const bottom = each.t.map(() => 0);
    const areas = parts.map((part) => {
      const top = bottom.map((value, at) => value + (each[part][at] ?? 0));
      const area = { x: each.t, bottom: [...bottom], top, kind: `part-${part}` };
      top.forEach((value, at) => { bottom[at] = value; });
      return area;
    });
    const highest = Math.max(...bottom, 1e-12) * 1.08;
    byId(`parts-plot-${number}`).before(legend([...parts].reverse().map((part) => [`part-${part}`, part])));
    curveChart(byId(`parts-plot-${number}`), {
      ...timeAxis, height: 230, y: [0, highest], yTicks: ticks(0, highest, 4).map((value) => [value, duration(value).replace(" ", "\u202f")]),
      yLabel: "mean latency", areas, curves: [],
      at: (time) => {
        const at = clamp(Math.floor(time / each.width), 0, each.t.length - 1);
        return [duration(each.t[at]), ...[...parts].reverse().map((part) => `${part} ${each[part][at] === null ? "\u2013" : duration(each[part][at])}`)];
      },
    });

    const spread = byId(`spread-plot-${number}`);
    const positive = each.sorted.filter((value) => value > 0);
    const [from, to] = [Math.min(...positive), Math.max(...positive)];
    const wide = to > 20 * from;
    const flat = (value) => (wide ? Math.log10(Math.max(value, from)) : value);
    const axis = [wide ? flat(from) : 0, flat(to)];
    spread.before(legend([["c0", "share of answers"]]));
    curveChart(spread, {
      x: axis, xTicks: () => (wide ? powers(from, to).map((value) => [Math.log10(value), duration(value)]) : ticks(0, to, 4).map((value) => [value, duration(value)])),
      xLabel: wide ? "latency, logarithmic" : "latency", height: 230, y: [0, 1], yTicks: [0, 0.25, 0.5, 0.75, 1].map((value) => [value, share(value)]),
      yLabel: "share of answers within", curves: [{ x: each.sorted.map(flat), y: each.share, step: true, kind: "c0" }],
      at: (value) => {
        const time = wide ? 10 ** value : value;
        const at = lastUpTo(each.sorted, time);
        return [duration(time), `${share(at < 0 ? 0 : each.share[at])} of answers within`];
      },
    });
  }
}

// 1, 10, 100 and what lies between where that is little.
function powers(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const times of Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5]) if (times * 10 ** power >= low * 0.999 && times * 10 ** power <= high) found.push(times * 10 ** power);
  }
  return found;
}
