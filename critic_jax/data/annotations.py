"""Annotated solutions as MR-GSM8K and PRM800K publish them.

Each function reads a published row; a step is counted from 0, and -1 says that
no step is wrong. `solutions` makes records of them.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from critic_jax.data import rows

# The last step of a solution of PRM800K names its answer below this head.
_ANSWER = re.compile(r'^# Answer\s+(.*\S)', re.M | re.S)


class Annotated(NamedTuple):
  """A solution whose steps somebody judged; None is not published."""

  question: str
  steps: list[str]
  first_error: int
  correct: bool | None  # its answer
  answer: str | None
  reference_answer: str
  reference: str


def mr_gsm8k(row: rows.Row) -> Annotated:
  """Reads a row of MR-GSM8K (https://arxiv.org/abs/2312.17080)."""
  steps = rows.texts(row, 'model_output_steps')
  field = 'model_output_solution_first_error_step'
  first, first_error = rows.text_or_number(row, field), -1
  if _is_correct(row, 'model_output_solution_correctness'):
    first = 'N/A'
  if first != 'N/A':
    if not first.isdecimal() or not 1 <= int(first) <= len(steps):
      raise ValueError(
        f'{field}: got {first!r}; expected N/A or a step, 1 to {len(steps)}'
      )
    first_error = int(first) - 1
  elif not _is_correct(row, 'model_output_solution_correctness'):
    raise ValueError(
      f'{field}: got N/A of a wrong solution; expected its first wrong step'
    )
  return Annotated(
    question=rows.text(row, 'question'),
    steps=steps,
    first_error=first_error,
    correct=_is_correct(row, 'model_output_answer_correctness'),
    answer=None,
    reference_answer=rows.text_or_number(row, 'ground_truth_answer'),
    reference=rows.optional_text(row, 'ground_truth_solution'),
  )


def _is_correct(row: rows.Row, field: str) -> bool:
  value = rows.text(row, field).lower()
  rows.check(field, value, ('correct', 'wrong'))
  return value == 'correct'


def prm800k(row: rows.Row) -> Annotated:
  """Reads a row of PRM800K (https://arxiv.org/abs/2305.20050).

  The solution goes through the completions that the labeler chose, and ends at
  the first one that is rated -1.

  Raises:
    ValueError: the labeler called the problem bad or gave up, or the row is
      not of this form.
  """
  question, label = _object(row, 'question'), _object(row, 'label')
  finish = rows.text(label, 'finish_reason')
  rows.check('finish_reason', finish, ('solution', 'found_error'))
  steps, ratings = [], []
  for step in _objects(label, 'steps'):
    text, rating = _chosen(step)
    steps.append(text)
    ratings.append(rating)
    if rating == -1:
      break
  has_error = ratings[-1] == -1
  if has_error != (finish == 'found_error'):
    raise ValueError(
      f'finish_reason: got {finish!r}, with the last rating {ratings[-1]}; '
      'expected found_error with -1, else solution'
    )
  answer = None if has_error else _ANSWER.search(steps[-1])
  return Annotated(
    question=rows.text(question, 'problem'),
    steps=steps,
    first_error=len(steps) - 1 if has_error else -1,
    correct=None if has_error else True,
    answer=answer and answer[1],
    reference_answer=rows.text_or_number(question, 'ground_truth_answer'),
    reference=rows.optional_text(question, 'ground_truth_solution'),
  )


def _chosen(step: rows.Row) -> tuple[str, int]:
  """Returns the text and the rating of a step: its person's, or a choice."""
  if rows.get(step, 'human_completion') is not None:
    completion = _object(step, 'human_completion')
    rating = rows.get(completion, 'rating')
    return rows.text(completion, 'text'), 1 if rating is None else rating
  completions = _objects(step, 'completions')
  chosen = rows.get(step, 'chosen_completion')
  place = 0 if chosen is None else rows.integer(step, 'chosen_completion')
  if not 0 <= place < len(completions):
    raise ValueError(
      f'chosen_completion: got {place}; expected 0 to {len(completions) - 1}'
    )
  return (
    rows.text(completions[place], 'text'),
    rows.integer(completions[place], 'rating'),
  )


def _object(row: rows.Row, field: str) -> Mapping[str, Any]:
  value = rows.get(row, field)
  if not isinstance(value, Mapping):
    raise ValueError(f'{field}: got {reprlib.repr(value)}; expected an object')
  return value


def _objects(row: rows.Row, field: str) -> list[Mapping[str, Any]]:
  value = rows.get(row, field)
  is_list = isinstance(value, list) and value
  if not is_list or not all(isinstance(item, Mapping) for item in value):
    raise ValueError(
      f'{field}: got {reprlib.repr(value)}; expected a list of objects'
    )
  return value
