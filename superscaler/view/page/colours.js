// How a task looks: its hue says the microbatch (or stage), its lightness and hatching the kind.

function rgbOf(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

const KIND_HUES = { F: 0, B: 0, W: 4, BW: 5, C: 1, H: 3, X: -1, U: -1 };

class Looks {
  constructor(model) {
    this.model = model;
    this.mode = "microbatch";
    this.known = new Map();
  }

  number(template, moment) {
    if (this.mode === "kind") return KIND_HUES[template.kind] ?? -1;
    if (this.mode === "stage") return template.of ? template.of.stage : -1;
    return moment.microbatch;
  }

  // { css, rgb, hatch, dark } of an event
  of(template, moment) {
    const number = this.number(template, moment), hues = this.model.hues;
    const hue = number < 0 ? -1 : number % hues.length;
    const key = template.kind + hue;
    let look = this.known.get(key);
    if (!look) this.known.set(key, (look = this.make(template.kind, hue)));
    return look;
  }

  make(kind, hue) {
    const [, , tint, hatch] = this.model.marks[kind] || this.model.marks.X;
    const base = rgbOf(kind === "wait" ? this.model.wait : hue < 0 ? this.model.neutral : this.model.hues[hue]);
    const share = kind === "wait" ? 0 : tint;
    const rgb = base.map((c) => Math.round(c + (255 - c) * share));
    const light = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2];
    return { css: `rgb(${rgb.join(",")})`, rgb, hatch, dark: light < 140, kind };
  }

  setMode(mode) {
    this.mode = mode;
    this.known.clear();
  }
}

// White stripes for what is hatched, thin dark ones for waiting.
function hatching(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.strokeStyle = "rgba(255,255,255,.85)";
  pen.lineWidth = 1.4;
  for (const shift of [-6, 0, 6]) {
    pen.beginPath();
    pen.moveTo(shift, 6);
    pen.lineTo(shift + 6, 0);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}
