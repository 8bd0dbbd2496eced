// The topology with its traffic on a canvas, its clock, and what happens at that time.
function startNetwork() {
  const canvas = byId("network");
  if (!canvas) return;
  const network = data.network;
  const { sites, links, slices } = network;
  const width_s = network.slice;
  const kinds = data.kinds;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const tierOrder = ["cloud", "edge", "gateway", "device"];

  const dense = ({ i, v }) => {
    const values = new Float32Array(slices);
    let place = 0;
    i.forEach((step, number) => { place += step; values[place] = v[number]; });
    return values;
  };
  const moved = network.moved.map(([hop, kind, values]) => ({ hop, kind, values: dense(values) }));
  const busy = new Map(network.busy.map(([site, values]) => [site, dense(values)]));
  const byKind = kinds.map(() => new Float32Array(slices));
  let most = 1;
  for (const row of moved) row.values.forEach((value, slice) => { byKind[row.kind][slice] += value; most = Math.max(most, value); });
  const totals = new Map(network.totals);
  if (!totals.size) for (const row of moved) {
    const sums = totals.get(row.hop) || kinds.map(() => 0);
    sums[row.kind] += row.values.reduce((sum, value) => sum + value, 0);
    totals.set(row.hop, sums);
  }
  let mostTotal = 1;
  const wholeByKind = kinds.map(() => 0);
  for (const sums of totals.values()) {
    mostTotal = Math.max(mostTotal, sums.reduce((sum, value) => sum + value, 0));
    sums.forEach((value, kind) => { wholeByKind[kind] += value; });
  }

  let places = [];
  let outward = [];
  let radius = 6;
  let size = { width: 0, height: 0 };
  let slice = null;
  let playing = false;
  let at_s = 0;
  let drift = 0;
  let last = 0;

  const xs = sites.map((site) => site[3]);
  const ys = sites.map((site) => site[4]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  // A picture that is higher than wide lies better on its side.
  const turned = right - left < (high - low) * 0.8;

  function lay() {
    const width = Math.max(260, Math.floor(canvas.parentElement.clientWidth));
    const density = Math.min(3, (devicePixelRatio || 1) * (matchMedia("print").matches ? 2 : 1));
    const margin = sites.length > 60 ? 20 : 40;
    const [wide, tall] = turned ? [high - low, right - left] : [right - left, high - low];
    const stretchX = (width - 2 * margin) / (wide || 1);
    const height = Math.round(clamp(tall * stretchX + 2 * margin, Math.min(300, width * 0.8), Math.max(300, Math.min(width * 0.85, 450))));
    size = { width, height };
    canvas.width = width * density;
    canvas.height = height * density;
    canvas.style.height = `${height}px`;
    canvas.getContext("2d").setTransform(density, 0, 0, density, 0, 0);
    const stretchY = (height - 2 * margin) / (tall || 1);
    // Stretched to the frame, within reason, so that names find room.
    const both = Math.min(stretchX, stretchY);
    const scaleX = Math.min(stretchX, both * 1.9);
    const scaleY = Math.min(stretchY, both * 1.9);
    places = sites.map((site) => {
      const [x, y] = turned ? [site[4] - low - wide / 2, site[3] - left - tall / 2] : [site[3] - left - wide / 2, high - site[4] - tall / 2];
      return [width / 2 + x * scaleX, height / 2 + y * scaleY];
    });
    outward = sites.map(() => [0.1, 0]);
    for (const [, a, b] of links) {
      const [dx, dy] = [places[a][0] - places[b][0], places[a][1] - places[b][1]];
      const far = Math.hypot(dx, dy) || 1;
      outward[a] = [outward[a][0] + dx / far, outward[a][1] + dy / far];
      outward[b] = [outward[b][0] - dx / far, outward[b][1] - dy / far];
    }
    radius = clamp(Math.sqrt((width * height) / (sites.length * 190)), 1.8, 7);
  }

  const ends = (hop) => {
    const link = links[hop >> 1];
    return hop & 1 ? [places[link[2]], places[link[1]]] : [places[link[1]], places[link[2]]];
  };
  const offTrack = ([from, to], side) => {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const long = Math.hypot(dx, dy) || 1;
    return [(-dy / long) * side, (dx / long) * side];
  };

  function paint() {
    const pen = canvas.getContext("2d");
    const tones = {
      line: colour("--line"), shared: colour("--shared"), ink: colour("--ink"), quiet: colour("--quiet"), ground: colour("--panel"),
      down: colour("--alarm"), glow: colour("--busy"),
    };
    const kindTones = kinds.map((kind) => colour(`--kind-${kind}`) || tones.ink);
    const tierTones = Object.fromEntries(tierOrder.map((tier) => [tier, colour(`--tier-${tier}`)]));
    pen.clearRect(0, 0, size.width, size.height);
    pen.lineCap = "round";
    const downSites = new Set();
    const downLinks = new Set();
    if (slice !== null) for (const [isSite, place, start, end] of network.down) {
      if (start < (slice + 1) * width_s && end > slice * width_s) (isSite ? downSites : downLinks).add(place);
    }
    const thin = clamp(Math.sqrt(80 / Math.max(1, links.length)), 0.35, 1) * clamp(size.width / 700, 0.55, 1);
    links.forEach((link, number) => {
      const [from, to] = [places[link[1]], places[link[2]]];
      const isDown = downLinks.has(number) || downSites.has(link[1]) || downSites.has(link[2]);
      pen.strokeStyle = isDown ? tones.down : link[5] ? tones.shared : tones.line;
      pen.setLineDash(isDown ? [3, 4] : []);
      pen.lineWidth = thin * 1.4;
      pen.beginPath();
      pen.moveTo(...from);
      pen.lineTo(...to);
      pen.stroke();
    });
    pen.setLineDash([]);
    if (slice === null) paintTotals(pen, kindTones, thin);
    else paintSlice(pen, kindTones, thin);
    sites.forEach(([, , tier], number) => {
      const [x, y] = places[number];
      const share_ = slice === null ? 0 : (busy.get(number)?.[slice] ?? 0);
      const wide = radius * { cloud: 1.9, edge: 1.6, gateway: 1.35, device: 1 }[tier];
      if (share_ > 0) {
        pen.globalAlpha = 0.18 + 0.5 * Math.min(1, share_);
        pen.fillStyle = tones.glow;
        pen.beginPath();
        pen.arc(x, y, wide + 3 + 5 * Math.sqrt(Math.min(1, share_)), 0, 7);
        pen.fill();
        pen.globalAlpha = 1;
      }
      pen.fillStyle = downSites.has(number) ? tones.ground : tierTones[tier];
      pen.strokeStyle = downSites.has(number) ? tones.down : tones.ground;
      pen.lineWidth = Math.min(1.5, radius * 0.3);
      mark(pen, tier, x, y, wide);
      pen.fill();
      pen.stroke();
    });
    names(pen, tones);
  }

  function mark(pen, tier, x, y, wide) {
    pen.beginPath();
    if (tier === "cloud") pen.roundRect(x - wide, y - wide * 0.8, 2 * wide, wide * 1.6, 4);
    else if (tier === "edge") { pen.moveTo(x, y - wide); pen.lineTo(x + wide, y); pen.lineTo(x, y + wide); pen.lineTo(x - wide, y); pen.closePath(); }
    else if (tier === "gateway") { pen.moveTo(x, y - wide); pen.lineTo(x + wide * 0.95, y + wide * 0.75); pen.lineTo(x - wide * 0.95, y + wide * 0.75); pen.closePath(); }
    else pen.arc(x, y, wide, 0, 7);
  }

  function paintTotals(pen, kindTones, thin) {
    for (const [hop, sums] of totals) {
      const sum = sums.reduce((all, value) => all + value, 0);
      if (!sum) continue;
      const pair = ends(hop);
      const wide = thin * (1 + 4.5 * Math.sqrt(sum / mostTotal));
      const [sx, sy] = offTrack(pair, wide / 2 + 0.6);
      let from = pair[0];
      // Along the link, each kind takes its share of the length.
      sums.forEach((value, kind) => {
        if (!value) return;
        const to = [from[0] + ((pair[1][0] - pair[0][0]) * value) / sum, from[1] + ((pair[1][1] - pair[0][1]) * value) / sum];
        pen.strokeStyle = kindTones[kind];
        pen.globalAlpha = 0.85;
        pen.lineCap = "butt";
        pen.lineWidth = wide;
        pen.beginPath();
        pen.moveTo(from[0] + sx, from[1] + sy);
        pen.lineTo(to[0] + sx, to[1] + sy);
        pen.stroke();
        from = to;
      });
    }
    pen.lineCap = "round";
    pen.globalAlpha = 1;
  }

  function paintSlice(pen, kindTones, thin) {
    const scale = Math.log10(1 + most);
    for (const { hop, kind, values } of moved) {
      const value = values[slice];
      if (!value) continue;
      const pair = ends(hop);
      const weight = Math.log10(1 + value) / scale;
      const [sx, sy] = offTrack(pair, 2 + kind * 0.9 * thin);
      const long = Math.hypot(pair[1][0] - pair[0][0], pair[1][1] - pair[0][1]);
      pen.strokeStyle = kindTones[kind];
      pen.globalAlpha = 0.25;
      pen.lineWidth = thin * (1 + 4 * weight);
      pen.beginPath();
      pen.moveTo(pair[0][0] + sx, pair[0][1] + sy);
      pen.lineTo(pair[1][0] + sx, pair[1][1] + sy);
      pen.stroke();
      pen.globalAlpha = 0.95;
      pen.fillStyle = kindTones[kind];
      const dots = Math.max(1, Math.round((1 + 5 * weight) * clamp(long / 150, 0.4, 1.5)));
      const wide = thin * (1.4 + 2 * weight);
      for (let dot = 0; dot < dots; dot++) {
        const along = (drift * 0.5 + dot / dots + (hop % 7) / 7) % 1;
        pen.beginPath();
        pen.arc(pair[0][0] + sx + (pair[1][0] - pair[0][0]) * along, pair[0][1] + sy + (pair[1][1] - pair[0][1]) * along, wide, 0, 7);
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }

  // Names where there is room, the most important first.
  function names(pen, tones) {
    const taken = places.map(([x, y]) => [x - radius, y - radius, x + radius, y + radius]);
    const order = sites.map((_, number) => number).sort((a, b) => tierOrder.indexOf(sites[a][2]) - tierOrder.indexOf(sites[b][2]) || a - b);
    pen.textBaseline = "middle";
    for (const number of order.slice(0, 160)) {
      const [name, label, tier] = sites[number];
      const shown = (label || name).slice(0, 22);
      pen.font = `${tier === "device" ? 400 : 600} ${tier === "device" ? 10.5 : 12}px system-ui, sans-serif`;
      const wide = pen.measureText(shown).width;
      const [x, y] = places[number];
      const gap = radius * (tier === "device" ? 1 : 1.7) + 5;
      // Away from its neighbours first, where no link runs.
      const [ox, oy] = outward[number];
      const around = [[1, 0, x + gap, y - 7], [-1, 0, x - gap - wide, y - 7], [0, -1, x - wide / 2, y - gap - 14], [0, 1, x - wide / 2, y + gap],
        [0.7, -0.7, x + gap * 0.7, y - gap * 0.7 - 12], [0.7, 0.7, x + gap * 0.7, y + gap * 0.7 - 2],
        [-0.7, -0.7, x - gap * 0.7 - wide, y - gap * 0.7 - 12], [-0.7, 0.7, x - gap * 0.7 - wide, y + gap * 0.7 - 2],
      ].sort((a, b) => b[0] * ox + b[1] * oy - a[0] * ox - a[1] * oy).map(([, , l, t]) => [l, t]);
      const found = around.find(([l, t]) => l > 1 && t > 1 && l + wide < size.width - 1 && t + 14 < size.height - 1
        && !taken.some((box) => l < box[2] && l + wide > box[0] && t < box[3] && t + 14 > box[1]));
      if (!found) continue;
      taken.push([found[0], found[1], found[0] + wide, found[1] + 14]);
      pen.lineWidth = 3;
      pen.strokeStyle = tones.ground;
      pen.strokeText(shown, found[0], found[1] + 7);
      pen.fillStyle = tier === "device" ? tones.quiet : tones.ink;
      pen.fillText(shown, found[0], found[1] + 7);
    }
  }

  // --- what happens at this time ---
  const now = byId("now");
  const rows = new Map();
  function put(name, value, kind = "") {
    if (!rows.has(name)) {
      const shown = make("dd");
      now.append(make("div", {}, make("dt", {}, ...(kind ? [make("i", { class: `key ${kind}` })] : []), name), shown));
      rows.set(name, shown);
    }
    rows.get(name).textContent = value;
  }
  function tellNow() {
    const whole = slice === null;
    const time = whole ? data.end : at_s;
    put("simulated time", duration(time));
    for (const curve of data.accuracy) {
      const place = lastUpTo(curve.t, whole ? Infinity : time);
      put(data.accuracy.length > 1 ? `accuracy of ${curve.workload}` : "accuracy", place < 0 ? "\u2013" : share(curve.accuracy[place]));
    }
    for (const each of data.latency) {
      const place = clamp(Math.floor(time / each.width), 0, each.t.length - 1);
      const value = each.p95[place];
      const name = data.latency.length > 1 ? `p95 of ${each.workload}` : "latency, p95";
      put(name, whole ? (each.whole === null ? "\u2013" : duration(each.whole)) : value === null ? "\u2013" : duration(value));
    }
    put("over all links", whole ? "in all" : "a second");
    kinds.forEach((kind, number) => {
      const value = whole ? wholeByKind[number] : byKind[number][slice];
      put(kind, whole ? bytes(value) : rate((8 * value) / width_s), `kind-${kind}`);
    });
    let working = 0;
    for (const values of busy.values()) working += whole ? 1 : values[slice] > 0.01 ? 1 : 0;
    put(whole ? "devices that computed" : "computing now", whole ? count(busy.size) : count(working));
    for (const [name, shown] of rows) shown.parentElement.hidden = name === (whole ? "computing now" : "devices that computed");
    const down = network.down.filter(([, , start, end]) => start <= time && end > time).length;
    if (network.down.length) put("down", whole ? `${network.down.length} times` : count(down));
    byId("clock").textContent = whole ? "whole run" : duration(time);
    byId("scrub").setAttribute("aria-valuetext", whole ? "whole run" : duration(time));
  }

  // --- the clock ---
  const scrub = byId("scrub");
  const play = byId("play");
  const speed = byId("speed");
  scrub.max = slices - 1;
  // Simulated seconds for one second of the reader's time.
  const pace = () => (speed.value === "live" ? 1 : data.end / Number(speed.value));
  function go(time, quiet = false) {
    at_s = clamp(time, 0, data.end);
    slice = clamp(Math.floor(at_s / width_s), 0, slices - 1);
    scrub.value = slice;
    tellNow();
    paint();
    if (!quiet) tell(duration(at_s));
  }
  function whole() {
    playing = false;
    slice = null;
    at_s = 0;
    scrub.value = 0;
    play.textContent = "Play";
    tellNow();
    paint();
  }
  function frame(stamp) {
    if (!playing) return;
    const passed = Math.min(0.1, (stamp - last) / 1000);
    last = stamp;
    if (!still.matches) drift += passed;
    go(at_s + passed * pace(), true);
    if (at_s >= data.end) stop();
    else requestAnimationFrame(frame);
  }
  function stop() {
    playing = false;
    play.textContent = "Play";
  }
  function start() {
    if (slice === null || at_s >= data.end) at_s = 0;
    playing = true;
    play.textContent = "Pause";
    last = performance.now();
    requestAnimationFrame(frame);
  }
  play.addEventListener("click", () => (playing ? stop() : start()));
  scrub.addEventListener("input", () => { stop(); go((Number(scrub.value) + 0.5) * width_s, true); });
  byId("whole").addEventListener("click", whole);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageUp: 20, PageDown: -20 }[event.key];
    if (event.key === " ") play.click();
    else if (event.key === "Escape") whole();
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(data.end);
    else if (step) { stop(); go(at_s + step * width_s); }
    else return;
    event.preventDefault();
  });

  // --- what is under the pointer ---
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = [14, null];
    places.forEach(([px, py], number) => {
      const far = Math.hypot(px - x, py - y);
      if (far < best[0]) best = [far, number];
    });
    if (best[1] !== null) showTip(aboutSite(best[1]), event.clientX, event.clientY);
    else {
      const number = nearestLink(x, y);
      if (number === null) hideTip();
      else showTip(aboutLink(number), event.clientX, event.clientY);
    }
  });
  canvas.addEventListener("pointerleave", hideTip);
  function nearestLink(x, y) {
    let best = [7, null];
    links.forEach((link, number) => {
      const [a, b] = [places[link[1]], places[link[2]]];
      const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
      const along = clamp(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy || 1), 0, 1);
      const far = Math.hypot(a[0] + along * dx - x, a[1] + along * dy - y);
      if (far < best[0]) best = [far, number];
    });
    return best[1];
  }
  function aboutSite(number) {
    const [name, label, tier] = sites[number];
    const lines = [label && label !== name ? `${name} (${label})` : name, tier];
    if (slice !== null) lines.push(`processor ${share(busy.get(number)?.[slice] ?? 0)} busy`);
    return lines;
  }
  function aboutLink(number) {
    const [name, a, b, up, down, medium] = links[number];
    const lines = [name];
    if (up > 1) lines.push(`${rate(up)} up, ${rate(down)} down`);
    if (medium) lines.push(`shares ${medium}`);
    for (const [hop, from, to] of [[2 * number, a, b], [2 * number + 1, b, a]]) {
      const sums = totals.get(hop);
      if (sums) lines.push(`${sites[from][0]} \u2192 ${sites[to][0]}: ${bytes(sums.reduce((sum, value) => sum + value, 0))}`);
    }
    return lines;
  }

  const tiers = tierOrder.filter((tier) => sites.some((site) => site[2] === tier));
  byId("legend").append(legend([
    ...tiers.map((tier) => [`tier-${tier}`, `${tier} (${sites.filter((site) => site[2] === tier).length})`]),
    ...kinds.map((kind) => [`kind-${kind}`, kind]),
    ...(links.some((link) => link[5]) ? [["shared", "shares a medium"]] : []),
    ...(network.down.length ? [["outage", "down"]] : []),
  ]));
  new ResizeObserver(() => {
    if (Math.floor(canvas.parentElement.clientWidth) !== size.width) { lay(); paint(); }
  }).observe(canvas.parentElement);
  repaints.push(() => { lay(); paint(); });
  lay();
  whole();
}
