// Reads what view/payload.py wrote: a JSON head and columns of numbers, compressed, as base64.

async function readModel(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const blob = await new Response(stream).arrayBuffer();
  const length = new Uint32Array(blob, 0, 1)[0];
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(blob, 4, length)));
  let at = 4 + length;
  const column = (Kind, count) => {
    const values = new Kind(blob, at, count);
    at += Math.ceil((count * Kind.BYTES_PER_ELEMENT) / 8) * 8;
    return values;
  };
  const times = (count) => summed(column(Uint32Array, count), head.tick_us);
  head.rows = head.rows.map(([rankClass, lane, count]) => {
    const start = times(count);
    const end = Float64Array.from(column(Uint32Array, count), (n, i) => start[i] + n * head.tick_us);
    const row = { rankClass, lane, start, end, longest: 0 };
    row.template = column(Uint32Array, count);
    row.moment = column(Uint32Array, count);
    const us = () => Float64Array.from(column(Uint32Array, count), (n) => n * head.tick_us);
    row.ran = us(); // of the same call before this piece of it
    row.total = us(); // of the whole call
    for (let i = 0; i < count; i++) row.longest = Math.max(row.longest, end[i] - start[i]);
    return row;
  });
  for (const rankClass of head.classes) {
    rankClass.time = times(rankClass.points);
    rankClass.bytes = column(Float64Array, rankClass.points);
  }
  return named(head);
}

function summed(deltas, tick) {
  const found = new Float64Array(deltas.length);
  let total = 0;
  for (let i = 0; i < deltas.length; i++) found[i] = (total += deltas[i]) * tick;
  return found;
}

// Gives names to the fields of the head's lists.
function named(head) {
  head.functions = head.functions.map(([name, kind, stage, doc, operators]) => ({
    name, kind, stage, doc,
    operators: operators.map(([op, target, module, source, shapes, bytes, offset, took]) => ({
      name: op, target, module, source, shapes, bytes, offset, took,
    })),
  }));
  head.templates = head.templates.map(([number, kind, what, bytes, peers]) => ({
    number, kind, what, bytes, peers, of: number < 0 ? null : head.functions[number],
  }));
  head.moments = head.moments.map(([microbatch, time]) => ({ microbatch, time }));
  return head;
}

// The first index whose value is above `limit`, in a sorted array.
function above(sorted, limit) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > limit) high = middle; else low = middle + 1;
  }
  return low;
}
