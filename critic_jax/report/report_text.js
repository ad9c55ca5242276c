// Texts as nodes: the changes between two texts, by lines and within them by
// words, and tokens coloured by probability. Texts become text nodes and nothing
// else: no markup is parsed, here or in report.js.
'use strict';

const MAX_CELLS = 4e6; // of a table; larger texts are not aligned
const LIKELY = [0.9, 0.5, 0.2, 0.05, 0.01]; // bounds of tokens' colours

// Returns a node; children that are undefined, false or '' are left out.
function el(tag, name, ...children) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children.flat().filter(Boolean));
  return node;
}

const note = (...parts) => el('p', 'note', ...parts);
const number = (x) => x.toFixed(2).replace('-', '\u2212');
const plural = (n, one, many = `${one}s`) =>
  `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

// Returns [' ' | '-' | '+', item] of two lists, by their longest common
// subsequence.
function diff(a, b) {
  let [start, end] = [0, 0];
  const limit = Math.min(a.length, b.length);
  while (start < limit && a[start] === b[start]) start++;
  while (end < limit - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const x = a.slice(start, a.length - end);
  const y = b.slice(start, b.length - end);
  const all = (sign, items) => items.map((item) => [sign, item]);
  const ops = all(' ', a.slice(0, start));
  let [i, j] = [0, 0];
  if (x.length * y.length <= MAX_CELLS) {
    const width = y.length + 1; // lengths[k * width + l] is for x[k:], y[l:]
    const lengths = new Uint16Array((x.length + 1) * width);
    for (let k = x.length - 1; k >= 0; k--) {
      for (let l = y.length - 1, at = k * width + l; l >= 0; l--, at--) {
        lengths[at] = x[k] === y[l] ? lengths[at + width + 1] + 1
          : Math.max(lengths[at + width], lengths[at + 1]);
      }
    }
    while (i < x.length && j < y.length) {
      const at = i * width + j;
      if (x[i] === y[j]) ops.push([' ', x[i++], j++]);
      else if (lengths[at + width] >= lengths[at + 1]) ops.push(['-', x[i++]]);
      else ops.push(['+', y[j++]]);
    }
  }
  const after = all(' ', a.slice(a.length - end));
  return ops.concat(all('-', x.slice(i)), all('+', y.slice(j)), after);
}

// Compares words, numbers and signs. Texts that share less than a quarter are
// not aligned: the pieces between a few equal words would be hard to read.
function wordDiff(a, b) {
  const split = (text) => text.match(/\s|[\p{L}\p{N}]+|[^]/gu) ?? [];
  const [x, y] = [split(a), split(b)];
  const ops = diff(x, y);
  const equal = ops.filter(([sign, item]) => sign === ' ' && item.trim());
  if (equal.length * 4 >= Math.max(x.length, y.length)) return ops;
  return [...x.map((item) => ['-', item]), ...y.map((item) => ['+', item])];
}

// Returns the lines of one side of a word diff, with its own words in `tag`.
function side(ops, sign, name, tag) {
  const lines = [[]];
  for (const [op, item] of ops) {
    if (op !== ' ' && op !== sign) continue;
    if (item === '\n') lines.push([]);
    else lines.at(-1).push(op === sign ? el(tag, '', item) : item);
  }
  return lines.map((line) => el('div', name, line));
}

function diffView(before, after) {
  const view = el('div', 'diff');
  let [removed, added] = [[], []];
  const ops = diff(before.split('\n'), after.split('\n'));
  for (const [op, line] of [...ops, []]) { // the last ends the last block
    if (op === '-') removed.push(line);
    else if (op === '+') added.push(line);
    else {
      const inner = wordDiff(removed.join('\n'), added.join('\n'));
      if (removed.length) view.append(...side(inner, '-', 'minus', 'del'));
      if (added.length) view.append(...side(inner, '+', 'plus', 'ins'));
      if (op) view.append(el('div', '', line));
      [removed, added] = [[], []];
    }
  }
  return view;
}

function tokensView({tokens, logprobs, tokens_left_out: left = 0}) {
  const name = (p) => `token t${LIKELY.filter((bound) => p < bound).length}`;
  const mean = logprobs.reduce((a, b) => a + b, 0) / logprobs.length;
  const legend = LIKELY.flatMap((p) =>
    [el('span', name(p - 1e-9), `< ${p}`), ' ']);
  return [
    note('Probability when sampled: ', legend, 'Mean log-probability ',
      number(mean), left > 0 && `; ${plural(left, 'token')} more not shown`),
    el('pre', '', tokens.map((piece, i) => {
      const p = Math.exp(logprobs[i]);
      const text = piece.replaceAll('\n', '\u23ce\n') || '\u00b7';
      const token = el('span', name(p), text);
      token.title = `p ${p.toPrecision(2)}, log p ${number(logprobs[i])}`;
      return token;
    }))];
}

// Returns the text with each `query` (in lower case) marked.
function marked(text, query) {
  const lower = text.toLowerCase();
  if (!query || lower.length !== text.length) return [text];
  const [parts, size] = [[], query.length];
  let at = 0;
  for (let to; (to = lower.indexOf(query, at)) >= 0; at = to + size) {
    parts.push(text.slice(at, to), el('mark', '', text.slice(to, to + size)));
  }
  return [...parts, text.slice(at)];
}

// Lists the steps of a solution, or its lines that are not blank, and flags the
// first wrong one.
function stepsView({text = '', steps, first_error: wrong}, query) {
  const lines = steps ?? text.split('\n').filter((line) => line.trim());
  const flag = `first wrong ${steps ? 'step' : 'line'}`;
  return el('ol', 'lines', lines.map((line, i) => i + 1 === wrong
    ? el('li', 'wrong', marked(line, query), el('span', 'flag', flag))
    : el('li', '', marked(line, query))));
}
