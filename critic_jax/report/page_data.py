"""Converts saved records to the JSON inside a report's page.

    {"runs": [name], "files": [{"run", "phase", "step", "trees", "shown"}],
     "problems": [{"id", "question", "answer", "solution"}], "records": [row]}

A tree holds the records of a problem in one file: its solutions, their
critiques, and their refinements. Rows are in the order of the tree, and a row's
parent is `up` rows above it. A solution has no parent, but a `file` and a
`problem`. A field without a value is absent.

The size of a page is bounded: it has `MAX_STEPS` saved steps a phase, and as
many of their trees as `MAX_RECORDS` and `MAX_BYTES` allow. Every file gives the
same number of trees, drawn by a hash of the problem's id, so that files about
the same problems give the same ones.
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

MAX_RECORDS = 20_000  # per page, over all runs
MAX_BYTES = 20_000_000  # of the records' JSON, which excludes plots
MAX_STEPS = 12  # saved steps per phase: the first, the last, some between
MAX_CHILDREN = 64  # solutions per problem, critiques, refinements
MAX_TEXT = 12_000  # characters per message
MAX_TOKENS = 2000  # coloured tokens per message

# A script element ends at '</script', whatever is around it; JavaScript once
# ended lines at U+2028 and U+2029; UTF-8 has no lone surrogates.
_ESCAPED = [*map(ord, '<>&\u2028\u2029'), *range(0xD800, 0xE000)]
_ESCAPES = {code: f'\\u{code:04x}' for code in _ESCAPED}

Decode = Callable[[tuple[int, ...]], str]  # tokens -> text


class File(NamedTuple):
  """A saved file of records.

  Attributes:
    run: the number of the run.
    phase: a key of `reading.Run.steps`, e.g. 'rl' or 'eval/heldout'.
    step: a step of the phase; for an evaluation the name of a phase.
    confusion: counts of verdicts by truth, as returned by `trees.confusion`.
    trees: the solutions of each problem.
    children: the responses to each record.
    decoders: returns the decoders of the run's models, made on the first call.
  """

  run: int
  phase: str
  step: int | str
  confusion: dict[bool, collections.Counter]
  trees: list[list[Record]]
  children: Mapping[Record, list[Record]]
  decoders: Callable[[], list[Decode]]


def read(runs: Sequence[reading.Run]) -> list[File]:
  """Reads the files that a page shows: evaluations first, then each phase.

  Raises:
    ValueError: a file is broken.
  """
  files = []
  for number, run in enumerate(runs):
    decoders = functools.cache(functools.partial(_decoders, run.config))
    for phase in sorted(run.steps, key=lambda name: not _is_eval(name)):
      steps = run.steps[phase]
      if not _is_eval(phase):  # all files of an evaluation are shown
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
  """Returns the solutions of each problem."""
  solutions = {}
  for record in records:
    if record.parent is None:
      solutions.setdefault(record.problem.id, []).append(record)
  return list(solutions.values())


def to_json(names: Sequence[str], files: Sequence[File]) -> tuple[int, str]:
  """Returns the page's data.

  Args:
    names: the names of the runs.
    files: files as returned by `read`.

  Returns:
    The number of trees, and the JSON, safe inside a script element.
  """
  problems: dict[Problem, int] = {}
  chosen = _choose(files, problems)
  num_shown = collections.Counter(number for number, _ in chosen)
  head = {
    'runs': list(names),
    'files': [
      {
        'run': file.run,
        'phase': file.phase,
        'step': str(file.step),
        'trees': len(file.trees),
        'shown': num_shown[number],
      }
      for number, file in enumerate(files)
    ],
    'problems': [_problem_row(problem) for problem in problems],
  }
  rows = ',\n'.join(chosen[key] for key in sorted(chosen))
  return len(chosen), f'{dump(head)[:-1]},"records":[{rows}]}}'


def _choose(
  files: Sequence[File], problems: dict[Problem, int]
) -> dict[tuple[int, int], str]:
  """Returns trees that fit the page, as JSON, by (file, tree) numbers.

  Args:
    files: the files to choose from.
    problems: filled with the problems of these trees and their numbers.
  """
  order = []
  for number, file in enumerate(files):
    ranking = sorted(
      range(len(file.trees)),
      key=lambda i: _hash(file.trees[i][0].problem.id),
    )
    order += [(rank, number, tree) for rank, tree in enumerate(ranking)]
  chosen, num_records, num_bytes = {}, 0, 0
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
    chosen[number, tree] = text
    num_records += len(rows)
    num_bytes += size
  return chosen


def _hash(name: str) -> int:
  return zlib.crc32(name.encode('utf-8', 'surrogatepass'))


def dump(value: Any) -> str:
  """Returns JSON that is plain text in HTML, also inside a script element."""
  text = json.dumps(
    value, ensure_ascii=False, separators=(',', ':'), allow_nan=False
  )
  return text.translate(_ESCAPES)


def cut(text: str, limit: int = MAX_TEXT) -> str:
  """Returns `text`, or its first `limit` characters and a note."""
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
  """Yields the rows of a tree in depth-first order, parents first."""
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
  """Returns the row of a record, without its place in the tree."""
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
    # The page counts steps from 1; 0 (no wrong step) is left out.
    'first_error': None if first_error is None else first_error + 1,
    'written_by': ', '.join(
      str(parsed[k]) for k in ('part', 'generator') if parsed.get(k)
    ),
    'scores': {k: round(v, 4) for k, v in scores.items() if math.isfinite(v)},
  }
  rewards = [r.scores['reward'] for r in group if 'reward' in r.scores]
  if 'reward' in row['scores'] and len(rewards) > 1:
    gain = scores['reward'] - sum(rewards) / len(rewards)
    row['over_group'] = round(gain, 4) if math.isfinite(gain) else None
  if record.stage == 'critique':
    return row | _verdict(record)
  return row | _steps(record)


def _steps(record: Record) -> dict[str, Any]:
  """Returns a solution's steps in place of its text, if they span lines.

  Solutions from files (data/solutions.py) have paragraphs as steps.
  """
  steps = [step.strip() for step in record.parsed.get('steps') or ()]
  is_complete = '\n\n'.join(steps) == record.text.strip()
  if is_complete and any('\n' in step for step in steps):
    return {'text': None, 'steps': [cut(step) for step in steps]}
  return {}


def _verdict(critique: Record) -> dict[str, Any]:
  """Returns a critique's verdict, whether it is true, and its two texts."""
  conclusion = (critique.parsed.get('conclusion') or '').strip()
  thinking, match, rest = critique.text.rpartition(conclusion or '\0')
  status = critique.parsed.get('status', 'ok')
  is_true = critique_metrics.is_true(critique)
  step = critique.parsed.get('step')
  return {
    'verdict': critique_metrics.verdict(critique) or 'none',
    'status': None if status == 'ok' else status,
    'kind': None if is_true is None else 'good' if is_true else 'bad',
    'step': None if step is None or step < 0 else step + 1,
  } | (
    {'text': cut((match + rest).strip()), 'thinking': cut(thinking.strip())}
    if match
    else {}
  )


def _decoders(config: Mapping[str, Any]) -> list[Decode]:
  """Returns a decoder for each tokenizer of a run's models.

  Results are cached, as a few pairs of tokens make up most of a text.
  """
  return [
    functools.lru_cache(maxsize=2**16)(tokenizer.decode)
    for tokenizer in dict.fromkeys(pieces.tokenizers(config).values())
  ]


def _tokens(
  record: Record, decoders: Callable[[], list[Decode]]
) -> dict[str, Any]:
  """Returns the text and log-probability of each token, {} if unknown.

  The first tokenizer that reproduces the record's text is used.
  """
  logprobs = np.asarray(record.logprobs[:MAX_TOKENS], np.float64)
  if not len(logprobs) or not np.isfinite(logprobs).all():
    return {}
  tokens = np.asarray(record.tokens[:MAX_TOKENS]).tolist()
  for decode in decoders():
    texts = pieces.split(tokens, decode)
    text = ''.join(texts)
    # Before it may be what was given, not sampled.
    if text and text.rstrip('\ufffd') in record.text:
      rounded = [round(x, 3) for x in logprobs.tolist()]
      left_out = len(record.tokens) - len(tokens)
      return {
        'tokens': texts, 'logprobs': rounded, 'tokens_left_out': left_out
      }  # fmt: skip
  return {}
