"""Rows of files of records: a Record as JSON has it, and back, checked.

A file of records may come from anywhere. Its values become fields of `Record`,
so each has the field's type, or the row is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from critic_jax.types import Problem, Record

MAX_TOKENS = 2**31 - 1

_FIELDS = {
  'stage': str, 'text': str, 'finish': str, 'index': int, 'parsed': dict,
  'scores': dict, 'problem': dict, 'num_prompt_tokens': int, 'num_tokens': int,
}  # fmt: skip
# The results of parsers that are not only shown. All may be None.
_PARSED = {
  'verdict': str, 'status': str, 'conclusion': str, 'step': int,
  'first_error': int, 'num_steps': int, 'steps': list, 'correct': bool,
  'grade': str, 'says': dict, 'step_scores': list, 'ratings': list,
  'slate': dict, 'suggestions': dict, 'episode': dict,
}  # fmt: skip


def to_row(
  record: Record, rows: Mapping[int, int], *, tokens: bool
) -> dict[str, Any]:
  """Returns the row of a record, with the keys of `run_dir.write_records`.

  Args:
    record: the record.
    rows: the lines of the other records, by their `id()`.
    tokens: whether the row has tokens and logprobs.
  """
  row = {
    'id': record.id,
    'parent': record.parent.id if record.parent else None,
    'parent_row': rows[id(record.parent)] if record.parent else None,
    'stage': record.stage,
    'index': record.index,
    'problem': dataclasses.asdict(record.problem),
    'text': record.text,
    'finish': record.finish,
    'parsed': dict(record.parsed),
    'scores': dict(record.scores),
    'num_prompt_tokens': len(record.prompt_tokens),
    'num_tokens': len(record.tokens),
  }
  if record.control_of:
    row['control_of'] = record.control_of
  if tokens:
    # By way of its shortest decimal a float32 comes back as it was.
    shortest = np.asarray(record.logprobs, np.float32).astype(str)
    row['prompt_tokens'] = np.asarray(record.prompt_tokens).tolist()
    row['tokens'] = np.asarray(record.tokens).tolist()
    row['logprobs'] = shortest.astype(np.float64).tolist()
  return row


def from_row(row: Any, parent: Record | None) -> Record:
  """Makes the record of a row.

  Tokens that were not written take no memory, however many they were.

  Args:
    row: the row, a value that JSON has.
    parent: the record that it responds to.

  Raises:
    ValueError: the row is none of a record.
  """
  _check('row', row, dict)
  for name, kind in _FIELDS.items():
    _check(name, row.get(name), kind)
  _check('control_of', row.get('control_of', ''), str)
  for name, kind in _PARSED.items():
    value = row['parsed'].get(name)
    _check(f'parsed {name}', kind() if value is None else value, kind)
  for step in row['parsed'].get('steps') or ():
    _check('step', step, str)
  for score in row['parsed'].get('step_scores') or ():
    _check('step score', score, int | float)
  if parent is None and row['stage'] == 'critique':
    raise ValueError('critique: got no parent; expected a solution')
  num_tokens, num_prompt = row['num_tokens'], row['num_prompt_tokens']
  return Record(
    problem=_problem(row['problem']) if parent is None else parent.problem,
    stage=row['stage'],
    parent=parent,
    index=row['index'],
    prompt_tokens=_tokens(row, 'prompt_tokens', num_prompt, -1, np.int32),
    tokens=_tokens(row, 'tokens', num_tokens, -1, np.int32),
    logprobs=_tokens(row, 'logprobs', num_tokens, np.nan, np.float32),
    text=row['text'],
    finish=row['finish'],
    parsed=row['parsed'],
    scores={name: _number(name, x) for name, x in row['scores'].items()},
    control_of=row.get('control_of', ''),
  )


def _problem(fields: Mapping[str, Any]) -> Problem:
  names = [field.name for field in dataclasses.fields(Problem)]
  if set(fields) != set(names):
    raise ValueError(f'problem: got {sorted(fields)}; expected {names}')
  for name in names:
    _check(f'problem {name}', fields[name], str)
  return Problem(**fields)


def _tokens(row, name: str, number: int, default, dtype) -> np.ndarray:
  if not 0 <= number <= MAX_TOKENS:
    raise ValueError(f'{name}: got {number} of them; expected fewer')
  if name not in row:
    return np.broadcast_to(np.array(default, dtype), number)
  _check(name, row[name], list)
  if dtype == np.float32:
    values = [_number(name, x) for x in row[name]]
  else:
    values = row[name]
    if not all(isinstance(x, int) and abs(x) <= MAX_TOKENS for x in values):
      raise ValueError(f'{name}: got what are no ids; expected integers')
  if len(values) != number:
    raise ValueError(f'{name}: got {len(values)}; expected {number}')
  return np.array(values, dtype)


def _number(name: str, value: Any) -> float:
  # NaN and infinity are written as texts.
  if value not in ('nan', 'inf', '-inf'):
    _check(name, value, int | float)
  try:
    return float(value)
  except OverflowError:
    raise ValueError(f'{name}: got a number beyond floats') from None


def _check(name: str, value: Any, kind: Any) -> None:
  if not isinstance(value, kind):
    raise ValueError(f'{name}: got {type(value).__name__}; expected {kind}')
