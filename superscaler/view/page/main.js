// Puts the page together: Plotly has the axes, zoom and pan; two canvases follow it.

const MARGIN = { left: 96, right: 18, top: 34, bottom: 40 };
const GAP = 30, MEMORY_PX = 190;

class Page {
  constructor(model) {
    this.model = model;
    this.looks = new Looks(model);
    this.timeline = new Timeline(model, this.looks);
    this.curves = new MemoryCurves(model);
    this.search = new Search(model);
    this.plot = document.getElementById("plot");
    this.tip = document.getElementById("tip");
    this.view = { x0: 0, x1: model.step_us, y0: 0, y1: this.timeline.height };
    this.unit = model.step_us >= 2e6 ? [1e6, "s"] : model.step_us >= 2e3 ? [1e3, "ms"] : [1, "µs"];
    const each = Math.min(46, Math.max(6.5, 620 / this.timeline.height));
    this.rowsPx = Math.min(900, Math.max(150, each * this.timeline.height));
  }

  async start() {
    this.readTheme();
    await Plotly.newPlot(this.plot, this.traces(), this.layout(), {
      displaylogo: false, responsive: true, doubleClick: "reset", scrollZoom: false,
      displayModeBar: true, modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    });
    this.under = this.canvas("under");
    this.over = this.canvas("over");
    this.listen();
    this.legend();
    this.redraw();
    await drawMatrix(this.model, this.theme);
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    this.theme = {};
    for (const name of ["back", "line", "text", "soft", "idle", "accent"]) this.theme[name] = style.getPropertyValue(`--${name}`).trim();
    this.timeline.idle = this.theme.idle;
    Object.assign(this.curves, { accent: this.theme.accent, soft: this.theme.soft, text: this.theme.text, back: this.theme.back });
  }

  // Plotly shows an axis only with a trace on it: one that cannot be seen on each.
  traces() {
    const none = { type: "scatter", mode: "markers", x: [0], y: [0], marker: { opacity: 0 }, hoverinfo: "skip", showlegend: false };
    return [{ ...none }, { ...none, yaxis: "y2" }];
  }

  layout() {
    const height = this.rowsPx + GAP + MEMORY_PX, top = this.curves.top();
    const quiet = { showgrid: false, zeroline: false, linecolor: this.theme.line, color: this.theme.soft };
    const step = niceBytes(top / 4), ticks = [];
    for (let b = 0; b <= top; b += step) ticks.push(b);
    return {
      height: height + MARGIN.top + MARGIN.bottom, dragmode: "zoom", hovermode: false, showlegend: false,
      margin: { l: MARGIN.left, r: MARGIN.right, t: MARGIN.top, b: MARGIN.bottom, pad: 0 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: this.theme.text, size: 11 },
      modebar: { orientation: "h", bgcolor: this.theme.back, color: this.theme.soft, activecolor: this.theme.accent },
      xaxis: { ...quiet, anchor: "y2", range: this.xRange(0, this.model.step_us), title: { text: `time (${this.unit[1]})`, standoff: 4 }, ticks: "outside" },
      yaxis: { ...quiet, domain: [(MEMORY_PX + GAP) / height, 1], range: [this.timeline.height, 0], ...this.rowTicks(0, this.timeline.height) },
      yaxis2: { ...quiet, domain: [0, MEMORY_PX / height], range: [0, top], fixedrange: true, showgrid: true, gridcolor: this.theme.line,
        tickvals: ticks, ticktext: ticks.map((b) => (b ? bytesText(b) : "0")) },
    };
  }

  xRange(a, b) {
    return [a / this.unit[0], b / this.unit[0]];
  }

  // Names beside the rows, as many as have room.
  rowTicks(y0, y1) {
    const scale = this.rowsPx / Math.abs(y1 - y0), tickvals = [], ticktext = [];
    let last = -Infinity;
    for (const row of this.model.rows) {
      const middle = (row.top + row.bottom) / 2, isFirst = row.lane === "compute";
      if (!isFirst && (row.bottom - row.top) * scale < 10.5) continue;
      if ((middle - last) * scale < 12) continue;
      last = middle;
      tickvals.push(middle);
      const text = isFirst ? this.model.classes[row.rankClass].name : row.lane;
      ticktext.push(isFirst ? escaped(text) : `<span style="font-size:9px">${escaped(text)}</span>`);
    }
    return { tickvals, ticktext };
  }

  canvas(name) {
    const canvas = document.createElement("canvas");
    canvas.className = name;
    this.plot.appendChild(canvas);
    return canvas;
  }

  boxes() {
    const width = this.plot.clientWidth - MARGIN.left - MARGIN.right;
    return {
      rows: { left: MARGIN.left, top: MARGIN.top, width, height: this.rowsPx },
      memory: { left: MARGIN.left, top: MARGIN.top + this.rowsPx + GAP, width, height: MEMORY_PX },
    };
  }

  readView() {
    const { xaxis, yaxis } = this.plot.layout;
    this.view = { x0: xaxis.range[0] * this.unit[0], x1: xaxis.range[1] * this.unit[0],
      y0: Math.min(...yaxis.range), y1: Math.max(...yaxis.range) };
  }

  pen(canvas) {
    const ratio = window.devicePixelRatio || 1, { clientWidth, clientHeight } = this.plot;
    canvas.width = clientWidth * ratio;
    canvas.height = clientHeight * ratio;
    canvas.style.width = `${clientWidth}px`;
    canvas.style.height = `${clientHeight}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return context;
  }

  redraw() {
    const begun = performance.now(), context = this.pen(this.under), { rows, memory } = this.boxes();
    this.readView();
    this.timeline.draw(context, rows, this.view);
    this.curves.draw(context, memory, this.view);
    context.fillStyle = this.theme.soft;
    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = "alphabetic";
    this.memoryLegend(context, memory);
    this.drawnMs = performance.now() - begun;
  }

  memoryLegend(context, box) {
    const many = this.model.classes.length > 6, y = box.top - 8;
    context.fillText(many ? `memory: one line for each of ${this.model.classes.length} rows; bold: the peak; point at a row to see its own` : "memory", box.left, y);
    if (many) return;
    let x = box.left + 58;
    this.model.classes.forEach((c, k) => {
      const text = `${c.name}, peak ${bytesText(c.peak)}`;
      context.fillStyle = this.curves.colour(k);
      context.fillRect(x, y - 6, 14, 3);
      context.fillStyle = this.theme.soft;
      context.fillText(text, x + 18, y);
      x += context.measureText(text).width + 36;
    });
  }

  schedule() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.redraw(); });
  }

  listen() {
    this.plot.on("plotly_relayouting", () => this.schedule());
    this.plot.on("plotly_relayout", (change) => this.relayouted(change));
    this.plot.addEventListener("mousemove", (event) => this.point(event));
    this.plot.addEventListener("mouseleave", () => this.leave());
    this.plot.addEventListener("click", () => this.hit && showDetail(this.model, this.hit), true);
    this.plot.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    document.addEventListener("keydown", (event) => this.key(event));
    const box = document.getElementById("search");
    box.addEventListener("input", () => this.find(box.value));
    box.addEventListener("keydown", (event) => { if (event.key === "Enter") this.nextFound(); });
    document.getElementById("next").addEventListener("click", () => this.nextFound());
    document.getElementById("mode").addEventListener("change", (event) => { this.looks.setMode(event.target.value); this.legend(); this.redraw(); });
    window.addEventListener("resize", () => setTimeout(() => this.schedule(), 120));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.readTheme(); Plotly.relayout(this.plot, this.layout()); drawMatrix(this.model, this.theme); });
  }

  relayouted(change) {
    if (Object.keys(change).some((k) => k.startsWith("yaxis.range"))) {
      const [y1, y0] = this.plot.layout.yaxis.range, ticks = this.rowTicks(y0, y1);
      Plotly.relayout(this.plot, { "yaxis.tickvals": ticks.tickvals, "yaxis.ticktext": ticks.ticktext });
    }
    this.schedule();
  }

  zoomTo(x0, x1) {
    const step = this.model.step_us, least = 10 * this.model.tick_us;
    const width = Math.min(Math.max(x1 - x0, least), step);
    const from = Math.min(Math.max(x0, 0), step - width);
    return Plotly.relayout(this.plot, { "xaxis.range": this.xRange(from, from + width) });
  }

  zoomBy(factor, share) {
    const { x0, x1 } = this.view, at = x0 + share * (x1 - x0);
    this.zoomTo(at - (at - x0) * factor, at + (x1 - at) * factor);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
    event.preventDefault();
    const { rows } = this.boxes(), share = (event.clientX - this.plot.getBoundingClientRect().left - rows.left) / rows.width;
    const turn = event.deltaY || event.deltaX, width = this.view.x1 - this.view.x0;
    if (event.shiftKey) this.zoomTo(this.view.x0 + Math.sign(turn) * width / 8, this.view.x1 + Math.sign(turn) * width / 8);
    else this.zoomBy(turn > 0 ? 1.25 : 0.8, Math.min(1, Math.max(0, share)));
  }

  key(event) {
    if (/INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (this.view.x1 - this.view.x0) / 5, share = this.share ?? 0.5;
    if (event.key === "w") this.zoomBy(0.7, share);
    else if (event.key === "s") this.zoomBy(1 / 0.7, share);
    else if (event.key === "a") this.zoomTo(this.view.x0 - step, this.view.x1 - step);
    else if (event.key === "d") this.zoomTo(this.view.x0 + step, this.view.x1 + step);
    else if (event.key === "0") Plotly.relayout(this.plot, { "xaxis.range": this.xRange(0, this.model.step_us), "yaxis.range": [this.timeline.height, 0] });
    else if (event.key === "/") { event.preventDefault(); document.getElementById("search").focus(); }
  }

  point(event) {
    const frame = this.plot.getBoundingClientRect(), { rows, memory } = this.boxes();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    this.share = (x - rows.left) / rows.width;
    this.hit = null;
    if (this.share < 0 || this.share > 1) return this.leave();
    const us = this.view.x0 + this.share * (this.view.x1 - this.view.x0);
    const slack = 2 * (this.view.x1 - this.view.x0) / rows.width;
    const row = this.view.y0 + (y - rows.top) / rows.height * (this.view.y1 - this.view.y0);
    const hit = y < rows.top + rows.height ? this.timeline.at(us, row, slack) : null;
    this.pointedAt(hit ? hit.row.rankClass : -1);
    this.crosshair(x, rows, memory);
    if (hit && hit.index >= 0) { this.hit = hit; placeTip(this.tip, tipHtml(this.model, hit), event); }
    else if (y > memory.top && y < memory.top + memory.height) placeTip(this.tip, memoryTip(this.model, this.curves, us), event);
    else this.tip.style.display = "none";
    return undefined;
  }

  pointedAt(number) {
    if (number === this.curves.bright || this.model.classes.length <= 6) return;
    this.curves.bright = number;
    this.schedule();
  }

  crosshair(x, rows, memory) {
    const context = this.pen(this.over);
    context.strokeStyle = this.theme.soft;
    context.globalAlpha = 0.7;
    context.beginPath();
    context.moveTo(x, rows.top);
    context.lineTo(x, memory.top + memory.height);
    context.stroke();
  }

  leave() {
    this.tip.style.display = "none";
    this.hit = null;
    this.pen(this.over);
    this.pointedAt(-1);
  }

  find(text) {
    this.result = this.search.find(text);
    this.timeline.found = this.result && this.result.found;
    this.timeline.foundOps = this.result && this.result.marks;
    const count = document.getElementById("count"), r = this.result;
    count.textContent = !r ? "" : r.tasks ? `${r.operators} operators in ${r.functions} functions, ${r.tasks.toLocaleString("en")} tasks` : "nothing found";
    this.redraw();
  }

  nextFound() {
    const hit = this.result && this.search.step(this.result.found);
    if (!hit) return;
    const took = hit.row.end[hit.index] - hit.row.start[hit.index];
    this.zoomTo(hit.row.start[hit.index] - 2 * took, hit.row.end[hit.index] + 2 * took);
    const operators = this.result.marks[this.model.templates[hit.row.template[hit.index]].number];
    showDetail(this.model, { ...hit, operator: operators ? operators.indexOf(1) : -1 });
  }

  legend() {
    const used = new Set(this.model.templates.map((t) => t.kind)), parts = [];
    const number = { microbatch: 0, stage: 0 }[this.looks.mode];
    for (const [kind, [letter, title]] of Object.entries(this.model.marks)) {
      if (!used.has(kind)) continue;
      const hue = number === undefined ? KIND_HUES[kind] ?? -1 : "UXwaitC".includes(kind) ? -1 : 0;
      const look = this.looks.make(kind, hue);
      const stripes = look.hatch ? `background-image:repeating-linear-gradient(135deg,rgba(255,255,255,.85) 0 1.5px,transparent 1.5px 4.5px);` : "";
      parts.push(`<span><i style="background-color:${look.css};${stripes}"></i>${letter === "wait" ? "" : `<b>${letter}</b> `}${title}</span>`);
    }
    parts.push('<span><i class="busy"></i>zoomed out: how busy</span>');
    if (number !== undefined) {
      const hues = this.model.hues.map((h) => `<i style="background:${h};width:12px;margin-right:1px"></i>`).join("");
      parts.push(`<span>${hues} ${this.looks.mode} 0 to ${this.model.hues.length - 1}, then again</span>`);
    }
    document.getElementById("legend").innerHTML = parts.join("");
  }
}

function niceBytes(rough) {
  let step = 1;
  while (step < rough) step *= 2;
  return step;
}

async function begin() {
  const say = (text) => { const box = document.getElementById("problem"); box.textContent = text; box.style.display = "block"; };
  if (typeof DecompressionStream === "undefined") return say("This page needs a browser of 2023 or later (DecompressionStream).");
  const page = new Page(await readModel(document.getElementById("data").textContent));
  await page.start();
  window.superscaler = page;
  return page;
}
begin();
