// The timeline: bars where they are wide enough to be seen, else strips of one colour a pixel.

const BAR_PX = 2.5; // mean width from which events are drawn one by one
const BUSY_PX = 1; // mean width below which a strip says how busy the lane is
const INNER_PX = 110; // width from which a bar shows its operators

class Timeline {
  constructor(model, looks) {
    this.model = model;
    this.looks = looks;
    this.foundOps = null; // per function: 1 for each operator that matches
    this.found = null; // per template: 1 where the search matches
    this.strip = document.createElement("canvas");
    this.place();
  }

  // Rows in units of a compute lane: [top, bottom] from 0 down.
  place() {
    let at = 0, last = -1;
    for (const row of this.model.rows) {
      if (row.rankClass !== last) at += last < 0 ? 0 : 0.22;
      last = row.rankClass;
      row.top = at;
      at += row.lane === "compute" ? 1 : 0.42;
      row.bottom = at;
    }
    this.height = at;
  }

  // `box`: the plot's place in pixels; `view`: {x0, x1} in us, {y0, y1} in rows
  draw(context, box, view) {
    this.stripes = this.stripes || hatching(context);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    const scale = box.height / (view.y1 - view.y0);
    for (const row of this.model.rows) {
      const top = box.top + (row.top - view.y0) * scale;
      const height = (row.bottom - row.top) * scale;
      if (top + height < box.top || top > box.top + box.height) continue;
      this.drawRow(context, row, box, view, top, Math.max(1, height - (height > 4 ? 1 : 0)));
    }
    context.restore();
  }

  drawRow(context, row, box, view, top, height) {
    context.fillStyle = this.idle;
    context.fillRect(box.left, top, box.width, height);
    const low = above(row.start, view.x0 - row.longest) , high = above(row.start, view.x1);
    const scale = box.width / (view.x1 - view.x0);
    const mean = (row.end[high - 1] - row.start[low]) * scale / (high - low);
    if (high > low && mean < BAR_PX) this.drawStrip(context, row, box, view, top, height, low, high, mean < BUSY_PX);
    else {
      for (let i = low; i < high; i++) this.drawBar(context, row, i, box, view, top, height, scale);
      if (height >= 14) this.labelCalls(context, row, low, high, box, view, top, height, scale);
    }
  }

  drawStrip(context, row, box, view, top, height, low, high, isBusy) {
    const ratio = window.devicePixelRatio || 1, width = Math.round(box.width * ratio);
    const scale = width / (view.x1 - view.x0), { model, looks, found } = this;
    const covered = new Float32Array(width), most = new Float32Array(width);
    const chosen = new Array(width);
    for (let i = low; i < high; i++) {
      const a = Math.max(0, (row.start[i] - view.x0) * scale);
      const b = Math.min(width, (row.end[i] - view.x0) * scale);
      const template = row.template[i];
      if (isBusy && model.templates[template].kind === "wait") continue;
      const bonus = found && found[template] ? 1e3 : 1;
      for (let x = Math.floor(a); x < b; x++) {
        const share = Math.min(b, x + 1) - Math.max(a, x);
        covered[x] += share;
        if (share * bonus > most[x]) {
          most[x] = share * bonus;
          chosen[x] = isBusy ? this.busy(bonus > 1) : looks.of(model.templates[template], model.moments[row.moment[i]]);
        }
      }
    }
    this.putStrip(context, box, top, height, width, covered, chosen, most);
  }

  busy(isFound) {
    return { rgb: rgbOf(this.model.hues[isFound ? 5 : 0]) };
  }

  putStrip(context, box, top, height, width, covered, chosen, most) {
    this.strip.width = width;
    this.strip.height = 1;
    const pen = this.strip.getContext("2d"), image = pen.createImageData(width, 1);
    for (let x = 0; x < width; x++) {
      if (!chosen[x]) continue;
      const faded = this.found && most[x] <= 1 ? 0.18 : 1;
      image.data.set(chosen[x].rgb, 4 * x);
      image.data[4 * x + 3] = 255 * Math.min(1, covered[x]) * faded;
    }
    pen.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.strip, 0, 0, width, 1, box.left, top, box.width, height);
  }

  drawBar(context, row, i, box, view, top, height, scale) {
    const template = this.model.templates[row.template[i]];
    const moment = this.model.moments[row.moment[i]];
    const look = this.looks.of(template, moment);
    const left = Math.max(box.left - 2, box.left + (row.start[i] - view.x0) * scale);
    const right = Math.min(box.left + box.width + 2, box.left + (row.end[i] - view.x0) * scale);
    const width = Math.max(0.7, right - left - (right - left > 4 ? 1 : 0));
    context.globalAlpha = this.found && !this.found[row.template[i]] ? 0.16 : 1;
    context.fillStyle = look.css;
    context.fillRect(left, top, width, height);
    if (look.hatch && width > 5 && height > 4) {
      context.fillStyle = this.stripes;
      context.fillRect(left, top, width, height);
    }
    const inner = width > INNER_PX && height > 30 && template.of && template.kind !== "wait"
      && template.of.operators.length > 1;
    const room = inner ? Math.min(18, height / 2) : height;
    if (inner) this.drawInner(context, row, i, template.of.operators, view, box, top + room, height - room, scale);
    if (room >= 9 && width > 12) this.label(context, this.title(template, moment, width), look, left, top, width, room);
    context.globalAlpha = 1;
  }

  // A call in several pieces too narrow for a label has one over all of them.
  labelCalls(context, row, low, high, box, view, top, height, scale) {
    for (let i = low; i < high; i++) {
      const template = this.model.templates[row.template[i]], own = row.end[i] - row.start[i];
      if (row.ran[i] || own > 0.99 * row.total[i] || own * scale > 40 || template.kind === "wait") continue;
      const left = box.left + (row.start[i] - view.x0) * scale;
      const width = row.total[i] * scale;
      if (width < 26 || left < box.left) continue;
      const moment = this.model.moments[row.moment[i]], look = this.looks.of(template, moment);
      const text = template.kind + (moment.microbatch < 0 ? "" : moment.microbatch);
      context.font = '11px system-ui, "DejaVu Sans", sans-serif';
      context.fillStyle = look.css;
      context.fillRect(left + 1, top + 1, context.measureText(text).width + 6, 13);
      this.label(context, text, { ...look, hatch: false }, left, top + 1, width, 13);
    }
  }

  title(template, moment, width) {
    const number = moment.microbatch < 0 ? "" : moment.microbatch;
    if (template.kind === "C") return template.what || template.of?.name || "";
    const letter = template.kind === "wait" ? "wait" : template.kind + number;
    if (width < 110) return letter;
    return template.kind === "wait" ? (template.what.startsWith("wait") ? template.what : `wait ${template.what}`) : `${letter}  ${template.what || template.of?.name || ""}`;
  }

  // A function's operators inside its bar; a call that waits in its middle is several bars.
  drawInner(context, row, i, operators, view, box, top, height, scale) {
    const from = box.left + (row.start[i] - view.x0) * scale, right = box.left + box.width;
    const end = from + (row.end[i] - row.start[i]) * scale;
    const marked = this.foundOps && this.foundOps[this.model.templates[row.template[i]].number];
    context.fillStyle = "#cfd5dc";
    context.fillRect(from, top, end - from - 1, height);
    const stretch = this.stretch(row, i, operators);
    operators.forEach((op, k) => {
      const next = k + 1 < operators.length ? operators[k + 1].offset : Infinity;
      const a = Math.max(from, from + (op.offset * stretch - row.ran[i]) * scale, box.left);
      const b = Math.min(end, from + (Math.min(op.offset + op.took, next) * stretch - row.ran[i]) * scale, right);
      if (b <= a) return;
      context.fillStyle = marked && marked[k] ? "#F0E442" : k % 2 ? "rgba(255,255,255,.94)" : "rgba(238,242,247,.94)";
      context.fillRect(a, top, Math.max(0.5, b - a - 0.6), height - 1.5);
      const path = (op.module || op.name).split("."), width = b - a;
      const text = path.slice(width > 9 * path.slice(-2).join(".").length ? -2 : -1).join(".");
      if (width > 14 && height > 9) this.label(context, text, { dark: false }, a, top, width, height);
    });
  }

  // From a function's own time to a call's.
  stretch(row, i, operators) {
    const last = operators[operators.length - 1];
    return row.total[i] / Math.max(last.offset + last.took, 1e-9) || 1;
  }

  label(context, text, look, left, top, width, height) {
    let size = Math.min(12, Math.max(8, height * 0.62));
    if (text.length <= 4 && width < 9 * text.length) size = Math.min(size, 9.5);
    context.font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
    const from = Math.max(left, 0), wide = context.measureText(text).width;
    if (wide > width - 4) {
      const fits = Math.floor(text.length * (width - 10) / wide);
      if (text.length <= 4 || fits < 3) return;
      text = text.slice(0, fits - 1) + "…";
    }
    const half = context.measureText(text).width + 4;
    if (look.hatch) {
      context.fillStyle = look.css;
      context.fillRect(from + 2, top + (height - size) / 2 - 1, half, size + 2);
    }
    context.fillStyle = look.dark ? "#fff" : "#14181c";
    context.textBaseline = "middle";
    context.fillText(text, from + 4, top + height / 2 + 0.5);
  }

  // { row, index, operator } under a point in us and rows, or null
  at(us, y, slack) {
    const row = this.model.rows.find((r) => r.top <= y && y <= r.bottom);
    if (!row) return null;
    let best = -1;
    for (let i = above(row.start, us - row.longest - slack); i < row.start.length && row.start[i] <= us + slack; i++) {
      if (row.end[i] >= us - slack) best = i;
      if (row.start[i] <= us && us < row.end[i]) break;
    }
    return best < 0 ? { row, index: -1 } : { row, index: best, operator: this.operatorAt(row, best, us) };
  }

  // The operator that runs at a time, -1 where it is not the rank's own work.
  operatorAt(row, i, us) {
    const template = this.model.templates[row.template[i]], operators = template.of?.operators || [];
    if (!operators.length || template.kind === "wait" || template.kind === "C") return -1;
    const inside = (us - row.start[i] + row.ran[i]) / this.stretch(row, i, operators);
    let best = 0;
    operators.forEach((op, k) => { if (op.offset <= inside) best = k; });
    return best;
  }
}
