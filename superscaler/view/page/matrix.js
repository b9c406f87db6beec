// The communication matrix: bytes from ranks (down) to ranks (across) in a step.

function drawMatrix(model, theme) {
  const names = model.classes.map((c) => c.ranks), size = names.length;
  const z = names.map(() => new Array(size).fill(null));
  for (const [source, target, bytes] of model.traffic) z[source][target] = (z[source][target] || 0) + bytes;
  const text = z.map((line) => line.map((b) => (b === null ? "" : bytesText(b))));
  const trace = {
    type: "heatmap", z, text, xgap: size > 24 ? 0 : 2, ygap: size > 24 ? 0 : 2,
    colorscale: [[0, "#d7e8f3"], [1, "#0072B2"]], zmin: 0, showscale: false, hoverongaps: false,
    texttemplate: size <= 5 ? "%{text}" : "",
    customdata: z.map((line, i) => line.map((b, j) => `ranks ${names[i]} to ${names[j]}`)),
    hovertemplate: "%{customdata}<br>%{text}<extra></extra>",
  };
  const every = Math.max(1, Math.ceil(size / (names.some((n) => n.length > 3) ? 4 : 14)));
  const ticks = names.map((n, k) => k).filter((k) => k % every === 0);
  const axis = {
    tickvals: ticks, ticktext: ticks.map((k) => shortened(names[k])), range: [-0.5, size - 0.5],
    showgrid: false, zeroline: false, linecolor: theme.line, color: theme.soft, tickangle: 0,
  };
  const layout = {
    margin: { l: 78, r: 8, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: theme.idle,
    font: { color: theme.text, size: 11 },
    xaxis: { ...axis, title: { text: "to ranks", standoff: 6 } },
    yaxis: { ...axis, range: [size - 0.5, -0.5], title: { text: "from ranks", standoff: 6 } },
  };
  return Plotly.newPlot("matrix", [trace], layout, { displayModeBar: false, responsive: true });
}

function shortened(text) {
  return text.length > 9 ? `${text.slice(0, 8)}…` : text;
}
