// Search by module path, operator, source or function name: marks tasks and counts them.

class Search {
  constructor(model) {
    this.model = model;
    this.texts = model.functions.map((f) => f.operators.map((op) => `${op.module} ${op.name} ${op.target} ${op.source}`.toLowerCase()));
    this.runs = new Float64Array(model.templates.length); // calls of each template, all ranks
    for (const row of model.rows) {
      const count = model.classes[row.rankClass].count;
      for (let i = 0; i < row.template.length; i++) if (!row.ran[i]) this.runs[row.template[i]] += count;
    }
    this.next = -1;
  }

  // { found: per template 0 or 1, operators, functions, tasks } or null for no text
  find(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.next = -1;
    if (!words.length) return null;
    const has = (t) => words.every((w) => t.includes(w));
    const marks = this.texts.map((all) => Uint8Array.from(all, (t) => (has(t) ? 1 : 0)));
    const hits = marks.map((all) => all.reduce((a, b) => a + b, 0));
    const found = new Uint8Array(this.model.templates.length), functions = new Set();
    let operators = 0, tasks = 0;
    this.model.templates.forEach((t, k) => {
      const runs = t.kind !== "wait" && t.kind !== "C";
      const own = runs && t.of ? `${t.of.name} ${t.of.doc} ${t.what}` : `${t.of?.doc || ""} ${t.what}`;
      if (!(runs && hits[t.number]) && !has(own.toLowerCase())) return;
      found[k] = 1;
      tasks += this.runs[k];
      if (runs && t.of && !functions.has(t.number)) {
        functions.add(t.number);
        operators += hits[t.number];
      }
    });
    return { found, marks, operators, functions: functions.size, tasks };
  }

  // The following event that matches, by time: { row, index }
  step(found) {
    let best = null, at = Infinity;
    for (const row of this.model.rows) {
      for (let i = above(row.start, this.next); i < row.start.length; i++) {
        if (!found[row.template[i]]) continue;
        if (row.start[i] < at) { best = { row, index: i }; at = row.start[i]; }
        break;
      }
    }
    this.next = best ? at : -1;
    return best;
  }
}
