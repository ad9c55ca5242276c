"""Saved records -> the JSON that a report's page holds and its script reads.

    {"runs": [name], "files": [{"run", "phase", "step", "trees", "shown"}],
     "problems": [{"id", "question", "answer", "solution"}], "records": [row]}

A tree is what is below a problem in one file: its solutions, their critiques,
their refinements. Rows stand in the order of the tree, a row's parent `up` rows
above it; a solution has none, but a `file` and a `problem`. What is absent from
a record is absent from its row.

A page is a file that one opens, so it is bounded: `MAX_STEPS` saved steps a
phase, and of their trees as many as `MAX_RECORDS` and `MAX_BYTES` allow. Every
file gives as many, drawn by a hash of the problem's id: from files about the
same problems the same ones.
"""

from __future__ import annotations

import collections
import functools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from critic_jax.evals import critique_metrics
from critic_jax.inspection import reading, trees
from critic_jax.text import pieces
from critic_jax.types import Problem, Record

MAX_RECORDS = 20_000  # of a page, all runs together
MAX_BYTES = 20_000_000  # of their JSON; the page has plots, too
MAX_STEPS = 12  # saved steps of a phase: the first, the last, some between
MAX_CHILDREN = 64  # solutions of a problem, critiques, refinements
MAX_TEXT = 12_000  # characters of one message
MAX_TOKENS = 2000  # of a message whose tokens are coloured

# A script element ends at '</script', whatever is around it; JavaScript once
# ended lines at U+2028 and U+2029; UTF-8 has no lone surrogates.
_ESCAPED = [*map(ord, '<>&\u2028\u2029'), *range(0xD800, 0xE000)]
_ESCAPES = {code: f'\\u{code:04x}' for code in _ESCAPED}

Decode = Callable[[tuple[int, ...]], str]  # tokens -> text


class File(NamedTuple):
  """A saved file of records.

  Attributes:
    run: which of the runs.
    phase: as in `inspection.Run.steps`.
    step: likewise.
    confusion: verdicts by truth, see `trees.confusion`.
    trees: the solutions of each problem.
    children: what responds to each record.
    decoders: those of the run's models, made when they are asked for.
  """

  run: int
  phase: str
  step: int | str
  confusion: dict[bool, collections.Counter]
  trees: list[list[Record]]
  children: Mapping[Record, list[Record]]
  decoders: Callable[[], list[Decode]]


def read(runs: Sequence[reading.Run]) -> list[File]:
  """The files that a page shows: evaluations first, then each phase.

  Raises:
    ValueError: a file is broken.
  """
  files = []
  for number, run in enumerate(runs):
    decoders = functools.cache(functools.partial(_decoders, run.config))
    for phase in sorted(run.steps, key=lambda name: not _is_eval(name)):
      steps = run.steps[phase]
      if not _is_eval(phase):  # a file of an evaluation is no step
        picks = np.linspace(0, len(steps) - 1, min(MAX_STEPS, len(steps)))
        steps = [steps[int(i)] for i in picks]
      for step in steps:
        records = reading.records(run, step, phase)
        files.append(
          File(
            run=number,
            phase=phase,
            step=step,
            confusion=trees.confusion(records),
            trees=_by_problem(records),
            children=trees.responses(records),
            decoders=decoders,
          )
        )
  return files


def _is_eval(phase: str) -> bool:
  return phase.split('/')[0] == 'eval'


def _by_problem(records: Sequence[Record]) -> list[list[Record]]:
  """The solutions of each problem."""
  found = {}
  for record in records:
    if record.parent is None:
      found.setdefault(record.problem.id, []).append(record)
  return list(found.values())


def to_json(names: Sequence[str], files: Sequence[File]) -> tuple[int, str]:
  """The page's data.

  Args:
    names: of the runs.
    files: as `read` returns them.

  Returns:
    How many trees it holds, and the JSON, safe inside a script element.
  """
  problems: dict[Problem, int] = {}
  kept = _choose(files, problems)
  shown = collections.Counter(number for number, _ in kept)
  head = {
    'runs': list(names),
    'files': [
      {
        'run': file.run,
        'phase': file.phase,
        'step': str(file.step),
        'trees': len(file.trees),
        'shown': shown[number],
      }
      for number, file in enumerate(files)
    ],
    'problems': [_problem_row(problem) for problem in problems],
  }
  rows = ',\n'.join(kept[key] for key in sorted(kept))
  return len(kept), f'{dump(head)[:-1]},"records":[{rows}]}}'


def _choose(
  files: Sequence[File], problems: dict[Problem, int]
) -> dict[tuple[int, int], str]:
  """The trees that fit, as JSON, by the numbers of their file and tree.

  Args:
    files: of which to choose.
    problems: gets the numbers of the problems.
  """
  order = []
  for number, file in enumerate(files):
    drawn = sorted(
      range(len(file.trees)),
      key=lambda i: _hash(file.trees[i][0].problem.id),
    )
    order += [(rank, number, tree) for rank, tree in enumerate(drawn)]
  kept, num_records, num_bytes = {}, 0, 0
  for _, number, tree in sorted(order):
    if num_records >= MAX_RECORDS or num_bytes >= MAX_BYTES:
      break
    file = files[number]
    rows = list(_rows(file, file.trees[tree]))
    problem = file.trees[tree][0].problem
    place = {'file': number, 'problem': problems.get(problem, len(problems))}
    text = ',\n'.join(dump(row if 'up' in row else place | row) for row in rows)
    size = len(text.encode())
    if problem not in problems:
      size += len(dump(_problem_row(problem)).encode())
    if num_records + len(rows) > MAX_RECORDS or num_bytes + size > MAX_BYTES:
      continue  # a smaller one may fit
    problems.setdefault(problem, len(problems))
    kept[number, tree] = text
    num_records += len(rows)
    num_bytes += size
  return kept


def _hash(name: str) -> int:
  return zlib.crc32(name.encode('utf-8', 'surrogatepass'))


def dump(value: Any) -> str:
  """`value` as JSON that is plain text to HTML, a script element included."""
  text = json.dumps(
    value, ensure_ascii=False, separators=(',', ':'), allow_nan=False
  )
  return text.translate(_ESCAPES)


def cut(text: str, limit: int = MAX_TEXT) -> str:
  """`text`, and if it is longer than `limit` its beginning with a note."""
  if len(text) <= limit:
    return text
  return f'{text[:limit]}\n[cut here: {len(text) - limit} characters more]'


def _problem_row(problem: Problem) -> dict[str, str]:
  row = {
    'id': problem.id,
    'question': problem.question,
    'answer': problem.answer,
    'solution': problem.solution,
  }
  return {name: cut(str(value).strip()) for name, value in row.items()}


def _rows(file: File, solutions: Sequence[Record]) -> Iterator[dict[str, Any]]:
  """The rows of a tree, each after its parent and its parent's subtree."""
  places, total = {}, 0
  stack = [(record, solutions) for record in solutions[:MAX_CHILDREN]][::-1]
  while stack:
    record, group = stack.pop()
    row = _row(record, group) | _tokens(record, file.decoders)
    if record.parent is not None:
      row['up'] = total - places[record.parent]
    children = file.children.get(record, [])
    row['hidden'] = max(0, len(children) - MAX_CHILDREN)
    if record is solutions[0]:
      row['siblings_hidden'] = max(0, len(solutions) - MAX_CHILDREN)
    stack += [(child, children) for child in children[:MAX_CHILDREN]][::-1]
    places[record] = total
    total += 1
    yield {k: v for k, v in row.items() if v not in (None, '', 0, {})}


def _row(record: Record, group: Sequence[Record]) -> dict[str, Any]:
  """What is shown of a record but for its place."""
  parsed, scores = record.parsed, record.scores
  answer, grade = parsed.get('answer'), parsed.get('grade')
  right = critique_metrics.truth(record)
  first_error = parsed.get('first_error')
  row = {
    'stage': record.stage,
    'number': record.index + 1,
    'length': len(record.tokens),
    'text': cut(record.text.strip()),
    'finish': None if record.finish == 'stop' else record.finish,
    'outcome': None if right is None else 'right' if right else 'wrong',
    'grade': None if grade in ('right', 'wrong') else grade,
    'answer': None if answer is None else cut(str(answer), 200),
    # Steps are counted from 1 on the page; 0, no wrong one, is left out.
    'first_error': None if first_error is None else first_error + 1,
    'written_by': ', '.join(
      str(parsed[k]) for k in ('part', 'generator') if parsed.get(k)
    ),
    'scores': {k: round(v, 4) for k, v in scores.items() if math.isfinite(v)},
  }
  rewards = [r.scores['reward'] for r in group if 'reward' in r.scores]
  if 'reward' in row['scores'] and len(rewards) > 1:
    over = scores['reward'] - sum(rewards) / len(rewards)
    row['over_group'] = round(over, 4) if math.isfinite(over) else None
  if record.stage == 'critique':
    return row | _verdict(record)
  return row | _steps(record)


def _steps(record: Record) -> dict[str, Any]:
  """The steps of a solution in place of its text, where lines are no steps.

  As data/solutions.py reads them from a file: they are paragraphs then.
  """
  steps = [step.strip() for step in record.parsed.get('steps') or ()]
  whole = '\n\n'.join(steps) == record.text.strip()
  if whole and any('\n' in step for step in steps):
    return {'text': None, 'steps': [cut(step) for step in steps]}
  return {}


def _verdict(critique: Record) -> dict[str, Any]:
  """A critique's verdict, whether it is true, conclusion and thinking."""
  conclusion = (critique.parsed.get('conclusion') or '').strip()
  thinking, found, rest = critique.text.rpartition(conclusion or '\0')
  status = critique.parsed.get('status', 'ok')
  said = critique.parsed.get('verdict') if status == 'ok' else None
  right = critique_metrics.truth(critique.parent)
  kind = None
  if said is not None and right is not None:
    kind = 'good' if (said == 'correct') == right else 'bad'
  step = critique.parsed.get('step')
  return {
    'verdict': said or 'none',
    'status': None if status == 'ok' else status,
    'kind': kind,
    'step': None if step is None or step < 0 else step + 1,
  } | (
    {'text': cut((found + rest).strip()), 'thinking': cut(thinking.strip())}
    if found
    else {}
  )


def _decoders(config: Mapping[str, Any]) -> list[Decode]:
  """Of each tokenizer of a run's models, which roles may share.

  Few pairs of tokens make up most of a text: what was decoded is kept.
  """
  return [
    functools.lru_cache(maxsize=2**16)(tokenizer.decode)
    for tokenizer in dict.fromkeys(pieces.tokenizers(config).values())
  ]


def _tokens(
  record: Record, decoders: Callable[[], list[Decode]]
) -> dict[str, Any]:
  """The text of each token with its log-probability, where both are known.

  Of the tokenizers the first is taken that makes the record's text again.
  """
  logprobs = np.asarray(record.logprobs[:MAX_TOKENS], np.float64)
  if not len(logprobs) or not np.isfinite(logprobs).all():
    return {}
  tokens = np.asarray(record.tokens[:MAX_TOKENS]).tolist()
  for decode in decoders():
    added = pieces.split(tokens, decode)
    text = ''.join(added)
    if text and record.text.startswith(text.rstrip('\ufffd')):
      rounded = [round(x, 3) for x in logprobs.tolist()]
      left_out = len(record.tokens) - len(tokens)
      return {
        'tokens': added, 'logprobs': rounded, 'tokens_left_out': left_out
      }  # fmt: skip
  return {}
