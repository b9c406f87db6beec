// What is said of the task under the pointer.

const LISTED = 9; // operators in a tooltip

function taskLines(model, hit) {
  const { row, index } = hit, template = model.templates[row.template[index]];
  const moment = model.moments[row.moment[index]], of = template.of;
  const mark = model.marks[template.kind] || model.marks.X;
  const about = [mark[1]];
  if (of && of.stage >= 0) about.push(`stage ${of.stage}`);
  if (moment.microbatch >= 0) about.push(`microbatch ${moment.microbatch}`);
  if (moment.time.length > 1) about.push(`part (${moment.time.join(", ")})`);
  const start = row.start[index], end = row.end[index];
  const lines = [
    `<b>${escaped(template.what || of?.name || "")}</b> <span class="soft">${escaped(about.join(", "))}</span>`,
    `${timeText(end - start)}, from ${timeText(start)} to ${timeText(end)} <span class="soft">on ${escaped(model.classes[row.rankClass].name)}, ${escaped(row.lane)}</span>`,
  ];
  if (of && of.name !== template.what) lines.push(`<span class="soft">function ${escaped(of.name)}</span>`);
  if (of && of.doc) lines.push(escaped(of.doc));
  if (template.bytes) lines.push(`${bytesText(template.bytes)}${template.peers ? ` with rank ${escaped(template.peers)}` : ""}`);
  return lines;
}

function operatorRow(op, isHere) {
  const cells = [op.module || op.name, op.target.replace(/\.default$/, ""), op.source, op.shapes, bytesText(op.bytes), timeText(op.took)];
  return `<tr${isHere ? ' class="here"' : ""}>${cells.map((c) => `<td>${escaped(c)}</td>`).join("")}</tr>`;
}

function tipHtml(model, hit) {
  const lines = taskLines(model, hit), of = model.templates[hit.row.template[hit.index]].of;
  const operators = of ? of.operators : [];
  if (hit.operator < 0) return lines.join("<br>");
  const from = Math.max(0, Math.min(hit.operator - (LISTED >> 1), operators.length - LISTED));
  const shown = operators.slice(from, from + LISTED);
  const table = shown.map((op, k) => operatorRow(op, from + k === hit.operator)).join("");
  const rest = operators.length - shown.length;
  const more = rest > 0 ? `<span class="soft">${operators.length} operators; click lists all</span>` : "";
  return `${lines.join("<br>")}<table>${table}</table>${more}`;
}

function memoryTip(model, curves, us) {
  const order = model.classes.map((c, k) => k).sort((a, b) => curves.bytesAt(b, us) - curves.bytesAt(a, us));
  const rows = order.slice(0, 8).map((k) => `<tr><td>${escaped(model.classes[k].name)}</td><td>${bytesText(curves.bytesAt(k, us))}</td></tr>`);
  const rest = order.length > 8 ? `<span class="soft">and ${order.length - 8} with less</span>` : "";
  return `<b>memory at ${timeText(us)}</b><table>${rows.join("")}</table>${rest}`;
}

function placeTip(tip, html, event) {
  tip.innerHTML = html;
  tip.style.display = "block";
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 14 : event.clientX + 16;
  const top = event.clientY + 16 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

// The panel below: every operator of the task that was clicked.
function showDetail(model, hit) {
  const of = model.templates[hit.row.template[hit.index]].of;
  const head = ["module", "operator", "source", "writes", "bytes", "takes"];
  const table = hit.operator !== -1
    ? `<div class="scroll"><table><tr>${head.map((h) => `<th>${h}</th>`).join("")}</tr>${of.operators.map((op, k) => operatorRow(op, k === hit.operator)).join("")}</table></div>` : "";
  const panel = document.getElementById("detail");
  panel.hidden = false;
  panel.innerHTML = `<h2>Task</h2>${taskLines(model, hit).join("<br>")}${table}`;
}
