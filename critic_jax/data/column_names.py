"""Names of ours for the columns of a file: 'question=prompt,answer=label'.

A row is read under the names on the left. A column may lie within another:
'answer=extra.label' is the field `label` of the column `extra`, and
'question=messages.0.content' the content of the first of a list. A name without
a column, 'id=', is one that rows are to be without.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from critic_jax import lookup

# The names that layouts read.
NAMES = (
  'id', 'question', 'problem', 'answer', 'solution', 'context', 'passage',
  'choices', 'options', 'final_answer', 'text', 'prompt', 'code', 'test_list',
  'test', 'entry_point', 'canonical_solution', 'correct', 'generator', 'steps',
  'label', 'complete', 'final_answer_correct', 'chosen', 'rejected',
  'reference', 'system', 'score_chosen', 'score_rejected', 'response_a',
  'response_b', 'winner', 'responses', 'scores', 'response', 'completion',
)  # fmt: skip
_EXAMPLE = "--config.data.columns='question=prompt,answer=label,solution=cot'"
# Columns of others, for advice.
_SYNONYMS = {
  'question': ('question', 'problem', 'prompt', 'query', 'instruction', 'input',
               'task', 'text'),
  'answer': ('answer', 'label', 'target', 'final_answer', 'ground_truth',
             'gold', 'expected', 'result'),
  'solution': ('solution', 'output', 'response', 'completion', 'generation',
               'model_output', 'prediction'),
  'prompt': ('prompt', 'question', 'instruction', 'query', 'input'),
  'chosen': ('chosen', 'preferred', 'better', 'win', 'accepted', 'positive'),
  'rejected': ('rejected', 'dispreferred', 'worse', 'lose', 'negative'),
}  # fmt: skip


def parse(columns: str) -> dict[str, str]:
  """Returns columns by our names for them.

  >>> parse('question=prompt, answer=extra.label')
  {'question': 'prompt', 'answer': 'extra.label'}

  Raises:
    ValueError: another form, a name that no layout reads, or a name twice.
  """
  by_name: dict[str, str] = {}
  for pair in columns.split(',') if columns.strip() else ():
    name, equals, column = (part.strip() for part in pair.partition('='))
    if not equals:
      raise ValueError(
        f'columns: got {pair.strip()!r} in {columns!r}; expected NAME=COLUMN, '
        f'several with commas between them; write {_EXAMPLE}'
      )
    lookup.check_name('columns: name', name, NAMES)
    if name in by_name:
      raise ValueError(
        f'columns: got {name!r} twice in {columns!r}; expected each name once; '
        'leave one out'
      )
    by_name[name] = column
  return by_name


def renamed(
  row: Mapping[str, Any], columns: Mapping[str, str]
) -> Mapping[str, Any]:
  """Returns a row under our names; columns that are not named stay.

  Args:
    row: a row of a file.
    columns: a result of `parse`.

  Raises:
    ValueError: the row lacks a column.
  """
  if not columns:
    return row
  values = {n: _value(row, n, c) for n, c in columns.items() if c}
  gone = {*columns.values(), *columns}
  kept = {
    n: v for n, v in row.items() if n not in gone and n.lower() not in columns
  }
  return kept | values


def _value(row: Mapping[str, Any], name: str, column: str) -> Any:
  """Returns the value of a column: as it is written, or within another."""
  if column in row:
    return row[column]
  by_case = [n for n in row if n.lower() == column.lower()]
  if len(by_case) == 1:
    return row[by_case[0]]
  first, *path = column.split('.')
  if path and first in row:
    value = row[first]
    for part in path:
      is_place = isinstance(value, list) and part.isdecimal()
      if is_place and int(part) < len(value):
        value = value[int(part)]
      elif isinstance(value, Mapping) and part in value:
        value = value[part]
      else:
        raise ValueError(
          f'columns: got no {part!r} of {column!r} in {reprlib.repr(value)}; '
          f'expected it in each row; write null where there is none'
        )
    return value
  near = difflib.get_close_matches(column, row, n=1, cutoff=0.5)
  raise ValueError(
    f'columns: got no {column!r} among {_shown(row)}; expected a column of the '
    f"file; write --config.data.columns='{name}={(near or ['COLUMN'])[0]}'"
  )


def advice(row: Iterable[str], names: Sequence[str]) -> str:
  """Returns the flag that names the columns of a row, as far as is guessed.

  >>> advice(['Prompt', 'x'], ['question', 'answer'])
  "; write --config.data.columns='question=Prompt,answer=COLUMN'"

  Args:
    row: the names of its columns.
    names: the names of ours that it should have.

  Returns:
    The end of an error; '' if the row has these names.
  """
  by_case = {name.lower(): name for name in row}
  pairs = []
  for name in names:
    there = [by_case[s] for s in _SYNONYMS[name] if s in by_case]
    is_ours = name in by_case or (name == 'question' and 'problem' in by_case)
    if not is_ours:
      pairs.append(f'{name}={there[0] if there else "COLUMN"}')
  return f"; write --config.data.columns='{','.join(pairs)}'" if pairs else ''


def _shown(row: Mapping[str, Any]) -> str:
  return reprlib.repr(sorted(row))
