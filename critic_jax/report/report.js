// The browser of records in a report: reads #data and fills #trees.
//
// Trees are built when they are opened. The address keeps the form's state,
// #q=carry&stage=critique&open=2, so that links to a view work. The page loads
// report_text.js before this script.
const STEP = 50; // trees added to the list at a time
const NAMES = {solve: 'Solution', critique: 'Critique', refine: 'Refinement'};
const KINDS = {right: 'good', wrong: 'bad'};
const $ = (id) => document.getElementById(id);
const badge = (kind, text) => el('span', `badge ${kind ?? 'plain'}`, text);
const stageName = (stage) => NAMES[stage] ??
  (stage[0].toUpperCase() + stage.slice(1))
    .replace(/^Refine_/, 'Refinement, ').replaceAll('_', ' ');

// Returns a <details> whose content, a list of nodes, is built when it opens.
function fold(name, summary, fill, open) {
  const node = el('details', name, el('summary', '', summary));
  const show = () => {
    node.append(...fill().filter(Boolean));
    fill = () => [];
  };
  node.addEventListener('toggle', () => node.open && show());
  if (open) show();
  node.open = Boolean(open);
  return node;
}

// Link the rows to their parents, children and trees.
const {runs, files, problems, records} = JSON.parse($('data').textContent);
const trees = [];
records.forEach((r, i) => {
  const last = trees.at(-1);
  if (!r.up && (last?.file !== r.file || last.problem !== r.problem)) {
    trees.push({file: r.file, problem: r.problem, records: []});
  }
  r.tree = trees.at(-1);
  r.tree.records.push(r);
  r.children = [];
  r.parent = r.up && records[i - r.up];
  r.parent?.children?.push(r);
  r.solution = r.parent?.solution ?? r;
  r.critique = r.stage === 'critique' ? r : r.parent?.critique;
  r.text ??= r.steps?.join('\n\n');
});
const rightOnes = (list) => list.filter((r) => r.outcome === 'right').length;
for (const r of records) {
  r.isRefinement = Boolean(r.parent) && r.stage.startsWith('refine');
  r.refined = r.isRefinement ? r.outcome : undefined;
  r.refinements = r.children.filter((child) => child.stage === 'refine');
  if (r.critique === r && r.refinements.length) {
    r.refined = rightOnes(r.refinements) ? 'right' : 'wrong';
  }
}
const fileOf = (r) => files[(r.tree ?? r).file];
const problemOf = (r) => problems[(r.tree ?? r).problem];

// The form: each control's name is a key of the address.
const form = $('filters');
let query = ''; // the text to search for, in lower case
let narrowed = false; // whether a filter may pass only some records of a tree
let matches = []; // the trees with a record that passes every filter
const TESTS = {
  run: (r, value) => fileOf(r).run === Number(value),
  where: (r, value) => {
    const {phase, step} = fileOf(r);
    return phase === value || `${phase}/${step}` === value;
  },
  stage: (r, value) => r.stage === value,
  solution: (r, value) => r.solution.outcome === value,
  verdict: (r, value) => r.critique?.verdict === value,
  truth: (r, value) => r.critique?.kind === value,
  refined: (r, value) => r.refined === value,
  q: (r) => (r.hay ??= haystack(r)).includes(query),
};
function haystack(r) {
  const {id, question} = problemOf(r);
  const above = r.parent ? [] : [id, question];
  return [...above, r.thinking, r.text].join('\n').toLowerCase();
}
function fillForm() {
  const add = (select, value, text) => select.add(new Option(text, value));
  runs.forEach((name, i) => add(form.run, i, name));
  form.run.parentNode.hidden = runs.length < 2;
  const phases = new Map(files.map(({phase}) => [phase, new Set()]));
  for (const {phase, step} of files) phases.get(phase).add(step);
  for (const [phase, steps] of phases) {
    if (steps.size > 1) add(form.where, phase, `${phase}, all`);
    for (const step of steps) {
      add(form.where, `${phase}/${step}`, `${phase}, ${step}`);
    }
  }
  const stages = new Set(records.map((r) => r.stage));
  for (const stage of stages) add(form.stage, stage, stageName(stage));
}

// Records with their facts, their scores and their responses.
function meta(r) {
  const finish = {length: ', cut off', prompt: ', prompt too long'}[r.finish];
  const judged = `${rightOnes(r.refinements)} of ${r.refinements.length}`;
  const over = r.over_group && number(r.over_group);
  const wrong = r.solution.first_error;
  const place = !wrong ? '' : wrong === r.step ? ', true' : ', not true';
  const unit = r.solution.steps ? 'step' : 'line';
  return el('span', 'meta',
    r.step && el('span', '', `names ${unit} ${r.step}${place}`),
    r.refinements.length && el('span', '', `${judged} refinements right`),
    Object.entries(r.scores ?? {}).map(([name, value]) => el('span',
      name === 'reward' && 'total', `${name} `, el('b', '', number(value)))),
    over && el('span', '', `${r.over_group > 0 ? '+' : ''}${over}`,
      ' from the mean of its group'),
    (r.length || finish) && // a file's solutions have no tokens
      el('span', '', plural(r.length ?? 0, 'token'), finish),
    r.written_by && el('span', '', r.written_by));
}
function heading(r) {
  const {outcome, grade, kind} = r;
  const truth = {good: ', true', bad: ', not true'}[kind] ?? '';
  const verdict = r.verdict === 'none'
    ? badge('none', `verdict ${r.status ?? 'missing'}`)
    : badge(kind, `says ${r.verdict}${truth}`);
  return el('span', 'line-up',
    el('span', 'what', `${stageName(r.stage)} ${r.number}`),
    r.verdict && verdict,
    (grade ?? outcome) && badge(KINDS[outcome], grade ?? outcome),
    (r.answer ?? outcome) &&
      el('span', '', 'answer ', el('b', '', r.answer ?? 'none')),
    meta(r));
}
function inside(r) {
  const mark = (text) => marked(text ?? '', query);
  const [before, after, thinking] = [r.solution.text, r.text, mark(r.thinking)];
  const same = r.isRefinement && before === after;
  return [
    !r.parent ? stepsView(r, query)
      : same ? note('The same as the solution, word for word.')
        : r.isRefinement ? diffView(before ?? '', after ?? '')
          : el('div', 'conclusion', mark(after)),
    r.thinking && fold('fold', 'Thinking', () => [el('pre', '', thinking)],
      thinking.length > 1),
    r.isRefinement && fold('fold', 'Text', () => [el('pre', '', mark(after))]),
    r.tokens && fold('fold', 'Tokens', () => tokensView(r)),
    ...r.children.map(recordView),
    r.hidden && note(`${r.hidden} more not shown.`)];
}
const holdsHit = (r) => (narrowed && r.hit) || r.children.some(holdsHit);
function recordView(r, i) {
  const hit = narrowed && r.hit ? ' hit' : '';
  if (!r.parent) {
    const name = `solution is-${KINDS[r.outcome] ?? 'plain'}${hit}`;
    return el('div', name, heading(r), ...inside(r));
  }
  const open = narrowed ? holdsHit(r) : i === 0 && r.stage === 'critique';
  return fold(`below${hit}`, heading(r), () => inside(r), open);
}
function treeView(tree, open) {
  const {id, question, answer, solution} = problemOf(tree);
  const {run, phase, step} = fileOf(tree);
  const roots = tree.records.filter((r) => !r.parent);
  const hidden = roots[0].siblings_hidden;
  const link = el('a', '', 'Link to this tree');
  const address = {run, where: `${phase}/${step}`, q: id};
  link.href = `#${new URLSearchParams(address)}`;
  const tally = el('span', 'tally',
    narrowed && badge('none', plural(tree.hits, 'match', 'matches')),
    runs.length > 1 && badge('plain', runs[run]),
    badge('plain', `${phase}, ${step}`),
    roots.slice(0, 4).map(({outcome: is}) => is && badge(KINDS[is], is)));
  const summary = [el('span', 'id', id),
    el('span', 'question', question.slice(0, 200)), tally];
  return fold('tree card', summary, () => [el('div', 'body',
    el('p', 'question-full', marked(question, query)),
    note(answer && ['Reference answer: ', el('b', '', answer), ' \u00b7 '], link),
    solution &&
      fold('fold', 'Reference solution', () => [el('pre', '', solution)]),
    roots.map(recordView),
    hidden && note(`${plural(hidden, 'solution')} more not shown.`))], open);
}

// Searching, and the state of the form in the address.
function search(numOpen = 1) {
  const started = performance.now();
  const state = [...new FormData(form)].filter(([, value]) => value);
  const filters = state.filter(([name]) => TESTS[name]);
  query = form.q.value.toLowerCase();
  narrowed = filters.some(([name]) => name !== 'run' && name !== 'where');
  let hits = 0;
  for (const tree of trees) Object.assign(tree, {hits: 0, rewards: []});
  for (const r of records) {
    r.hit = filters.every(([name, value]) => TESTS[name](r, value));
    if (!r.hit) continue;
    hits++;
    r.tree.hits++;
    if (r.scores?.reward !== undefined) r.tree.rewards.push(r.scores.reward);
  }
  matches = trees.filter((tree) => tree.hits);
  const sign = {best: -1, worst: 1}[form.sort.value];
  if (sign) { // trees without rewards come last
    const key = new Map(matches.map((tree) =>
      [tree, Math.min(...tree.rewards.map((reward) => sign * reward), 1e300)]));
    matches.sort((a, b) => key.get(a) - key.get(b));
  }
  $('trees').replaceChildren();
  more(numOpen);
  const all = plural(trees.length, 'tree');
  const kind = narrowed ? 'matching record' : 'record';
  $('status').textContent =
    `${matches.length.toLocaleString('en')} of ${all}, ${plural(hits, kind)}`;
  $('status').dataset.ms = (performance.now() - started).toFixed(1);
  return new URLSearchParams(state);
}
function more(numOpen = 0) {
  const shown = $('trees').childElementCount;
  const next = matches.slice(shown, shown + STEP);
  $('trees').append(...next.map((tree, i) => treeView(tree, i < numOpen)));
  const left = matches.length - shown - next.length;
  $('more').hidden = !left;
  $('more').textContent = `Show ${Math.min(STEP, left)} more of ${left}`;
}
function fromAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  if (location.hash.includes('=')) {
    for (const control of form.querySelectorAll('[name]')) {
      control.value = state.get(control.name) ?? '';
    }
    $('records').scrollIntoView();
  }
  search(Number(state.get('open') ?? 1));
}

let waiting;
function later() {
  clearTimeout(waiting);
  const update = () => history.replaceState(null, '', `#${search()}`);
  waiting = setTimeout(update, 80);
}
fillForm();
form.hidden = false;
form.addEventListener('input', later);
form.addEventListener('reset', later);
form.addEventListener('submit', (event) => event.preventDefault());
$('more').addEventListener('click', () => more());
addEventListener('hashchange', () => {
  if (location.hash.includes('=')) fromAddress();
});
addEventListener('keydown', (event) => {
  if (event.key !== '/' || /INPUT|SELECT/.test(event.target.tagName)) return;
  event.preventDefault();
  form.q.focus();
});
fromAddress();
