r"""Published preferences: files -> `Comparison`s, a prompt with its responses.

A file is JSON, CSV, Parquet or Arrow (row_files.py); preference_rows.py has the
layouts of a row. Rows for one response each that have one prompt are one
comparison.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critic_jax.data import file_sets, preference_rows, rows
from critic_jax.data.file_sets import FileSet
from critic_jax.objectives import preference
from critic_jax.types import Comparison, Problem, given_record


def read(
  source: str | os.PathLike | Sequence[FileSet],
  *,
  layout: str = 'auto',
  columns: str = '',
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[Comparison]:
  """Reads the comparisons of a file, or of sets of files, in their order.

  A comparison is called by the set and the index of its first row, from 0.

  Args:
    source: a file, or sets of files.
    layout: a layout of preference_rows.py, or 'auto': the first good row's.
    columns: names of ours for columns of the files (column_names.py).
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped, or if prompts
      have ties only.

  Returns:
    The comparisons, at least one.

  Raises:
    ValueError: a bad row (file, place and reason), no good row, or an unknown
      `layout` or `bad_rows`.
  """
  sets = file_sets.of(source)
  scores_of: dict[tuple, dict[str, float]] = {}

  def make(row, layout, file_set, index):
    entry = preference_rows.LAYOUTS[layout](row)
    is_joined = layout in preference_rows.JOINED
    name = f'{file_set.name}-{index}'
    key = preference_rows.key(entry.messages) if is_joined else name
    for response in entry.responses if is_joined else ():
      scores = scores_of.setdefault((key, response.text), response.scores)
      if scores != response.scores:
        raise ValueError(
          f'row: got {reprlib.repr(response.text)} again, rated otherwise; '
          'expected one row for each response; leave one out'
        )
    return name, key, entry

  entries = rows.read(
    sets, preference_rows.LAYOUTS, make, layout=layout, columns=columns,
    names=('prompt', 'chosen', 'rejected'), bad_rows=bad_rows, report=report,
  )  # fmt: skip
  joined: dict[Any, tuple[str, preference_rows.Messages, dict]] = {}
  for name, key, (messages, responses) in entries:
    _, _, by_text = joined.setdefault(key, (name, messages, {}))
    by_text.update({response.text: response for response in responses})
  comparisons = [
    _comparison(name, messages, list(by_text.values()))
    for name, messages, by_text in joined.values()
  ]
  if num_ties := sum(map(_is_tie, comparisons)):
    report(
      f'{file_sets.label(sets)}: {num_ties} of {len(comparisons)} prompts have '
      'ties only, and teach no preference'
    )
  return comparisons


def check(
  comparisons: Sequence[Comparison],
  *,
  score: Mapping[str, float],
  margin: Mapping[str, float],
  max_responses: int,
  objective: str,
) -> None:
  """Checks that there is something to learn from comparisons.

  Args:
    comparisons: those that are trained on.
    score: weights of scores, by whose sum responses are ordered.
    margin: weights of scores, for margins.
    max_responses: the largest number of responses to a prompt.
    objective: a name of objectives/preference.py.

  Raises:
    ValueError: a score is weighed that a response lacks, a prompt has too many
      responses, or no response is preferred to another; for an objective of
      single responses, if all have one label.
  """
  weights = {n: w for n, w in score.items() if w}
  for setting, names in (('score', weights), ('margin', margin)):
    for name in (n for n in names if names[n]):
      _check_has(setting, name, comparisons)
  largest = max(comparisons, key=lambda c: len(c.responses))
  if len(largest.responses) > max_responses:
    raise ValueError(
      f'max_responses: got {max_responses}, but {largest.problem.id} has '
      f'{len(largest.responses)} responses; expected at least as many'
    )
  if any(len(_rewards(c, weights)) > 1 for c in comparisons):
    return
  labels = {
    r.parsed['label']
    for c in comparisons
    for r in c.responses
    if 'label' in r.parsed
  }
  if objective not in preference.OF_SINGLES:
    hint = ", or objective.name='kto' for single responses" if labels else ''
    raise ValueError(
      f'data: got {len(comparisons)} prompts, at none of which a response is '
      'preferred to another; expected some; give rows with a chosen and a '
      f'rejected response{hint}'
    )
  if len(labels) < 2:
    raise ValueError(
      f'data: got responses with the labels {sorted(labels)} only; expected '
      'true and false; add rows of the other kind'
    )


def _check_has(setting, name, comparisons) -> None:
  """Raises ValueError if a response lacks a score that is weighed."""
  for comparison in comparisons:
    for response in comparison.responses:
      if name not in response.scores:
        raise ValueError(
          f'{setting}: got a weight of {name!r}, but {response.id} has '
          f'{sorted(response.scores)}; expected one of these; set '
          f'{setting}.{name}=0 and weigh another'
        )


def _rewards(comparison, weights) -> set[float]:
  return {
    sum(weight * response.scores[name] for name, weight in weights.items())
    for response in comparison.responses
  }


def _is_tie(comparison) -> bool:
  scores = [r.scores.get('preference') for r in comparison.responses]
  return len(scores) > 1 and len(set(scores)) == 1 and scores[0] is not None


def _comparison(name, messages, responses) -> Comparison:
  question = '\n\n'.join(message['content'] for message in messages)
  problem = Problem(id=name, question=question, answer='')
  records = tuple(
    given_record(problem, text, index, parsed=parsed, scores=scores)
    for index, (text, scores, parsed) in enumerate(responses)
  )
  return Comparison(problem, records, messages)
