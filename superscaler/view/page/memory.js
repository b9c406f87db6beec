// Memory curves: steps, one line for each class of ranks, under the timeline's time axis.

class MemoryCurves {
  constructor(model) {
    this.model = model;
    this.classes = model.classes;
    this.peak = Math.max(...this.classes.map((c) => Math.max(c.peak, maximum(c.bytes))));
    this.peakClass = this.classes.findIndex((c) => maximum(c.bytes) === this.maximum());
    this.bright = -1; // the class that is pointed at
  }

  maximum() {
    return Math.max(...this.classes.map((c) => maximum(c.bytes)));
  }

  // The capacity where it is near enough to be of interest.
  capacity() {
    const least = Math.min(...this.classes.map((c) => c.capacity || Infinity));
    return least < 1.6 * this.peak ? least : 0;
  }

  top() {
    return 1.12 * Math.max(this.peak, this.capacity()) || 1;
  }

  colour(k) {
    if (this.classes.length > 6) return k === this.bright ? this.accent : this.soft;
    return this.model.hues[k % this.model.hues.length];
  }

  bytesAt(k, us) {
    const { time, bytes } = this.classes[k];
    return bytes[Math.max(0, above(time, us) - 1)];
  }

  draw(context, box, view) {
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    const many = this.classes.length > 6;
    this.classes.forEach((c, k) => {
      context.globalAlpha = many ? 0.4 : 1;
      this.drawCurve(context, k, box, view, many ? 0.8 : 1.6);
    });
    context.globalAlpha = 1;
    if (many) for (const k of [this.peakClass, this.bright]) if (k >= 0) this.drawCurve(context, k, box, view, 2.2);
    this.drawCapacity(context, box);
    this.drawPeak(context, box, view);
    context.restore();
  }

  drawCurve(context, k, box, view, width) {
    const { time, bytes } = this.classes[k], top = this.top();
    const x = (us) => box.left + (us - view.x0) / (view.x1 - view.x0) * box.width;
    const y = (b) => box.top + box.height * (1 - b / top);
    const low = Math.max(0, above(time, view.x0) - 1), high = Math.min(time.length, above(time, view.x1) + 1);
    context.strokeStyle = k === this.peakClass && this.classes.length > 6 ? this.text : this.colour(k);
    context.lineWidth = width;
    context.beginPath();
    const dense = high - low > 3 * box.width;
    if (dense) context.lineWidth = Math.min(width, 1);
    if (dense) this.traceDense(context, time, bytes, low, high, x, y);
    else {
      context.moveTo(x(time[low]), y(bytes[low]));
      for (let i = low + 1; i < high; i++) {
        context.lineTo(x(time[i]), y(bytes[i - 1]));
        context.lineTo(x(time[i]), y(bytes[i]));
      }
      context.lineTo(Math.min(x(this.model.step_us), box.left + box.width + 5), y(bytes[high - 1]));
    }
    context.stroke();
  }

  // Of many points in a pixel the lowest and the highest.
  traceDense(context, time, bytes, low, high, x, y) {
    let column = -1, least = 0, most = 0;
    const flush = () => { context.lineTo(column, y(least)); context.lineTo(column, y(most)); };
    for (let i = low; i < high; i++) {
      const at = Math.round(x(time[i]));
      if (at !== column) {
        if (column >= 0) flush();
        column = at;
        least = most = bytes[i];
      } else {
        least = Math.min(least, bytes[i]);
        most = Math.max(most, bytes[i]);
      }
    }
    if (column >= 0) flush();
  }

  drawCapacity(context, box) {
    const capacity = this.capacity();
    if (!capacity) return;
    const y = box.top + box.height * (1 - capacity / this.top());
    context.strokeStyle = context.fillStyle = "#D55E00";
    context.setLineDash([6, 4]);
    context.lineWidth = 1.2;
    context.beginPath();
    context.moveTo(box.left, y);
    context.lineTo(box.left + box.width, y);
    context.stroke();
    context.setLineDash([]);
    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = "bottom";
    const text = `capacity ${bytesText(capacity)}`;
    context.fillText(text, box.left + box.width - context.measureText(text).width - 6, y - 1);
  }

  drawPeak(context, box, view) {
    const c = this.classes[this.peakClass];
    if (!c) return;
    const most = maximum(c.bytes), us = c.time[c.bytes.indexOf(most)];
    if (us < view.x0 || us > view.x1) return;
    const x = box.left + (us - view.x0) / (view.x1 - view.x0) * box.width;
    const y = box.top + box.height * (1 - most / this.top());
    context.fillStyle = this.text;
    context.beginPath();
    context.arc(x, y, 3.2, 0, 7);
    context.fill();
    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = "bottom";
    const text = `peak ${bytesText(most)}, ${c.name}`, wide = context.measureText(text).width;
    const left = Math.min(x + 7, box.left + box.width - wide - 4);
    context.fillStyle = this.back;
    context.globalAlpha = 0.8;
    context.fillRect(left - 2, y - 16, wide + 4, 14);
    context.globalAlpha = 1;
    context.fillStyle = this.text;
    context.fillText(text, left, y - 2);
  }
}

function maximum(values) {
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[i];
  return most;
}
