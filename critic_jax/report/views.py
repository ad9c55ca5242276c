"""Shows records, tables and figures in notebooks, and as plain text.

A notebook shows a `View` as HTML, `print` shows its text. The HTML has no
script, and its colours suit light and dark pages. Texts of models are escaped,
and inside <pre> or <code>, where notebooks do not render mathematics.
"""

from __future__ import annotations

import base64
import collections
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rich.box
import rich.table
import rich.tree
from rich.text import Text

from critic_jax.evals import critique_metrics
from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import trees
from critic_jax.report.result_tables import (
  format_estimate,
  headline_rows,
  row_names,
)
from critic_jax.terminal import Console, printable
from critic_jax.text import pieces
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.types import Record

_GOOD, _BAD, _NONE = '#35956b', '#cf5a43', '#8a8f98'
_STEPS = ('step', 'first_error')
_SURPRISE = '207, 122, 40'  # red, green, blue of an unlikely token
_MIN_LOGPROB = -5.0  # has the darkest colour: a probability of 0.7 percent
_PRE = (
  'margin:2px 0 6px;white-space:pre-wrap;word-break:normal;'
  'overflow-wrap:anywhere;font-family:monospace;line-height:'
)
_BOX = 'margin-left:1em;padding-left:.6em;border-left:2px solid '


class View(NamedTuple):
  """A view: `html` is shown in a notebook, `text` elsewhere."""

  html: str
  text: str

  def _repr_html_(self) -> str:
    return self.html

  def __str__(self) -> str:
    return printable(self.text)

  __repr__ = __str__


def named(views: Mapping[str, View]) -> View:
  """Stacks several views, each below its name."""
  pages = (f'<h4>{_head(name)}</h4>{view.html}' for name, view in views.items())
  texts = (f'=== {name} ===\n{view.text}' for name, view in views.items())
  return View(''.join(pages), '\n'.join(texts))


def chain(record: Record) -> str:
  """Returns the chain from the problem down to a record, as text."""
  problem = record.problem
  parts = [(_problem(record), problem.question)]
  for message in reversed(list(record.chain)):
    parts.append((title(message), message.text.strip()))
  return printable(
    '\n\n'.join(f'--- {head} ---\n{text}' for head, text in parts)
  )


def title(record: Record) -> str:
  """Returns a line: the message's stage, parsed values, scores and length.

  Steps are counted from 1, as in the texts.
  """
  facts = [f'{record.stage}.{record.index}']
  facts += [
    f'{name} {_from_one(value) if name in _STEPS else value}'
    for name, value in record.parsed.items()
    if name != 'conclusion' and value is not None
  ]
  facts += [f'{name} {score:.2f}' for name, score in record.scores.items()]
  end = '' if record.finish == 'stop' else f' (finish {record.finish})'
  return ', '.join(facts) + f', {len(record.tokens)} tokens{end}'


def _from_one(step: int) -> int | str:
  return 'none' if step < 0 else step + 1


def _problem(record: Record) -> str:
  return f'{record.problem.id}, reference {record.problem.answer}'


def tree(records: Sequence[Record], *, folded: bool = False) -> View:
  """Returns records below the problems and messages that they respond to.

  Args:
    records: records, e.g. from `trees.family`; their ancestors are shown, too.
    folded: whether a notebook first shows the problems only.
  """
  children, roots = collections.defaultdict(dict), {}
  for record in records:
    for member in record.chain:
      if member.parent is None:
        roots.setdefault(member.problem, {})[member] = None
      else:
        children[member.parent][member] = None
  parts, texts = [], []
  for problem, solutions in roots.items():
    head = _problem(next(iter(solutions)))
    body = _pre(problem.question)
    body += ''.join(_node_html(r, children) for r in solutions)
    parts.append(_details(head, body, _NONE, folded))
    root = _branch(None, head, problem.question)
    for record in solutions:
      _grow(root, record, children)
    texts.append(_rendered(root))
  return View(''.join(parts), '\n'.join(texts))


def _node_html(record: Record, children) -> str:
  body = _pre(record.text.strip())
  body += ''.join(_node_html(child, children) for child in children[record])
  return _details(title(record), body, _color(record))


def _details(head: str, body: str, color: str, folded: bool = False) -> str:
  return (
    f'<details {"" if folded else "open"} style="{_BOX}{color}">'
    f'<summary style="color:{color}">{_head(head)}</summary>'
    f'{body}</details>'
  )


def _head(text: str) -> str:
  return f'<code style="background:none">{html.escape(text)}</code>'


def _pre(text: str) -> str:
  return f'<pre style="{_PRE}1.35">{html.escape(text)}</pre>'


def _grow(branch: rich.tree.Tree, record: Record, children) -> None:
  branch = _branch(branch, title(record), record.text.strip(), _color(record))
  for child in children[record]:
    _grow(branch, child, children)


def _branch(parent, head: str, text: str, color: str = '') -> rich.tree.Tree:
  label = Text(head, f'bold {color}'.strip())
  label.append(f'\n{text}', 'default not bold')
  return rich.tree.Tree(label) if parent is None else parent.add(label)


def _color(record: Record) -> str:
  """Returns the colour of a right answer or true verdict, or of a wrong one."""
  if record.stage == 'critique':
    right = critique_metrics.is_true(record)
  else:
    right = critique_metrics.truth(record)
  return _NONE if right is None else _GOOD if right else _BAD


def colored_tokens(
  record: Record,
  tokenizer: Tokenizer | None,
  advantage: float | None = None,
) -> View:
  """Shows a message token by token: log-probability, advantage, mask.

  The darker a token's background, the less probable it was when it was sampled.
  Its underline is green for a positive advantage and red for a negative one,
  and its thickness shows the size. The prompt, which is masked in training, is
  pale. A record that was saved without tokens is shown as text.

  Args:
    record: a record of any stage.
    tokenizer: the tokenizer of the model that wrote it, e.g. from
      `pieces.tokenizers`; None if it is not available.
    advantage: the record's advantage, e.g. from `trees.advantages`; None
      without one.
  """
  suffix = '' if advantage is None else f', advantage {advantage:+.2f}'
  head = title(record) + suffix
  line = _line(advantage or 0.0)
  if tokenizer is None or not len(record.tokens) or record.tokens.min() < 0:
    reason = 'its tokens were not saved'
    if tokenizer is None:
      reason = 'its tokenizer is not available'
    body = f'<span style="{line}">{html.escape(record.text)}</span>'
    return _message(f'{head} ({reason})', body, record.text)
  texts = pieces.visible(record.tokens.tolist(), tokenizer)
  prompt = pieces.visible(record.prompt_tokens.tolist(), tokenizer)
  spans = [
    f'<span style="opacity:.5" title="prompt, {len(prompt)} tokens: masked">'
    f'{html.escape("".join(prompt))}</span>'
  ]
  lines = []
  numbers = record.tokens.tolist(), record.logprobs.tolist()
  for piece, token, logprob in zip(texts, *numbers, strict=True):
    fact = f'logprob {logprob:.3f} (p {math.exp(logprob):.3f}){suffix}'
    ground = 0.65 * min(1.0, logprob / _MIN_LOGPROB)
    spans.append(
      f'<span style="background:rgba({_SURPRISE},{ground:.3f});{line}" '
      f'title="token {token}: {fact}">{html.escape(piece)}</span>'
    )
    lines.append(f'{logprob:8.3f}  {piece!r}')
  text = f'{"".join(prompt)}\n\n logprob  token\n' + '\n'.join(lines)
  return _message(head, ''.join(spans), text)


def _message(head: str, body: str, text: str) -> View:
  page = (
    f'<div style="color:{_NONE}">{_head(head)}</div>'
    f'<pre style="{_PRE}1.9">{body}</pre>'
  )
  return View(page, f'--- {head} ---\n{text}')


def _line(advantage: float) -> str:
  """Returns the style of a token's underline; none for a zero advantage."""
  if not advantage:
    return ''
  width = 1 + min(3.0, 2 * abs(advantage))
  color = _GOOD if advantage > 0 else _BAD
  return f'border-bottom:{width:.1f}px solid {color}'


def table(rows: Sequence[Mapping[str, Any]]) -> View:
  """Shows rows as a table, with the columns that any row has."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [[(_text(row.get(name)), '') for name in names] for row in rows]
  return _table(names, cells)


def _text(value: Any) -> str:
  if isinstance(value, float | np.floating):
    return '–' if math.isnan(value) else f'{value:.4g}'
  return '–' if value is None else str(value)


def estimates(
  columns: Mapping[str, Mapping[str, Estimate]],
  *,
  all_metrics: bool = False,
  signed: bool = False,
) -> View:
  """Shows estimates in percent, "61.3 [55.0, 67.1]", as a table.

  Args:
    columns: estimates by column and metric, e.g. from `reading.results`.
    all_metrics: whether to show all metrics; by default only those without a
      protocol's name, if there are any.
    signed: whether all columns are changes; a column 'difference' always is.
      Changes whose interval excludes 0 are bold.
  """
  metrics = row_names(columns.values())
  if not all_metrics:
    metrics = headline_rows(metrics)
  cells = []
  for metric in metrics:
    cells.append([(metric, '')])
    for column, rows in columns.items():
      is_change = signed or column == 'difference'
      estimate = rows.get(metric)
      text = format_estimate(
        estimate, metric, 'difference' if is_change else column
      )
      is_clear = (
        is_change and estimate and (estimate.low > 0 or estimate.high < 0)
      )
      cells[-1].append((text, 'font-weight:bold' if is_clear else ''))
  return _table(['', *columns], cells)


def confusion(records_by_name: Mapping[str, Sequence[Record]]) -> View:
  """Counts the verdicts on right and on wrong solutions, true ones in green.

  Args:
    records_by_name: records with critiques, by the name of their rows.
  """
  rows = []
  for name, records in records_by_name.items():
    for right, counts in trees.confusion(records).items():
      rows.append([(f'{name}, {"right" if right else "wrong"} solutions', '')])
      total = sum(counts.values())
      for verdict in ('correct', 'incorrect', None):
        true = (verdict == 'correct') == right
        color = _NONE if verdict is None else _GOOD if true else _BAD
        share = f' ({100 * counts[verdict] / total:.1f} %)' if total else ''
        rows[-1].append((f'{counts[verdict]}{share}', f'color:{color}'))
      rows[-1].append((str(total), ''))
  names = ['', 'called correct', 'called incorrect', 'no verdict', 'critiques']
  return _table(names, rows)


def _table(
  names: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]
) -> View:
  """Returns a table; a cell is a text and an HTML style, the first a name."""
  text = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
  for number, name in enumerate(names):
    text.add_column(Text(name), justify='right' if number else 'left')
  head = ''.join(_cell('th', i, name) for i, name in enumerate(names))
  lines = []
  for row in rows:
    text.add_row(*(Text(cell) for cell, _ in row))
    cells = (_cell('td', i, *cell) for i, cell in enumerate(row))
    lines.append(f'<tr>{"".join(cells)}</tr>')
  page = (
    f'<table><thead><tr>{head}</tr></thead>'
    f'<tbody>{"".join(lines)}</tbody></table>'
  )
  return View(page, _rendered(text))


def _cell(kind: str, number: int, text: str, style: str = '') -> str:
  side = 'right' if number else 'left'
  style = f'text-align:{side};{style}'
  return f'<{kind} style="{style}">{html.escape(text)}</{kind}>'


def _rendered(renderable: Any) -> str:
  options = {'color_system': None, 'force_jupyter': False}
  console = Console(file=io.StringIO(), width=120, **options)
  console.print(renderable)
  return console.file.getvalue().rstrip() + '\n'


def pictures(panels: Sequence[Mapping[str, Any]]) -> View:
  """Shows figures side by side.

  Args:
    panels: panels of `plots.draw`, `plots.compare` or `eval_plots`.
  """
  images = (
    _image(panel['light'], panel['title'], panel['alt'], panel['wide'])
    for panel in panels
  )
  lines = (f'[{panel["title"]}: {panel["alt"]}]' for panel in panels)
  return View(''.join(images), '\n'.join(lines) + '\n')


def picture(path: str | Path, alt: str) -> View:
  """Shows a PNG file; `alt` describes it in the text."""
  image = base64.b64encode(Path(path).read_bytes()).decode()
  return View(_image(image, '', alt, wide=True), f'[{alt}]\n')


def _image(image: str, name: str, alt: str, wide: bool) -> str:
  width = '100%' if wide else '48%'
  return (
    f'<figure style="display:inline-block;width:{width};margin:0 0 1em">'
    f'<figcaption>{html.escape(name)}</figcaption>'
    f'<img alt="{html.escape(alt)}" style="max-width:100%" '
    f'src="data:image/png;base64,{image}"></figure>'
  )
