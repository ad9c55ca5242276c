r"""Scores of several responses in one text, and whether they are right.

A slate is a record in a solution's place: responses to one problem, shown in
some order, and a label of each. A critique of it ends with one sentence
`Scores: 3, 10, 1`, an integer for each response as they are shown; brackets or
`\boxed{}` around the integers are free. Two such sentences, another number of
integers, or one out of the slate's range are no scores: nothing is guessed.

The rule is SPCT's (https://arxiv.org/abs/2504.02495): of several responses the
best labelled one has a higher score than each other, so that a tie is false; a
response alone has its label for a score. `refinement.judge` is 1 where that is
so and else 0, and with `refinement.misjudge` it is the paper's 1 and -1.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from critic_jax.rewards import verdicts
from critic_jax.types import Record, given_record

MAX_RESPONSES = 64

# Quantifiers are bounded, so that the time is linear in the text's length.
_FLAGS = re.IGNORECASE | re.ASCII
_LABEL = re.compile(r'(?<![a-z0-9])scores[*_`]{0,3}[ \t]{0,8}:', _FLAGS)
_INTEGER = r'-?(?:0|[1-9][0-9]{0,5})'
_LIST = rf'({_INTEGER}(?:[ \t]{{0,4}},[ \t]{{0,4}}{_INTEGER}){{0,63}})'
_SENTENCE = re.compile(
  r'[*_`]{0,3}[ \t]{0,8}[*_`]{0,3}'
  rf'(?:{_LIST}|\[{_LIST}\]|\$?\\boxed\{{{_LIST}\}}\$?)'
  # The sentence ends with a full stop or with its line.
  r'[*_`]{0,3}(?:\.[*_`]{0,3}(?=\s|\Z)|[ \t\r]{0,8}(?=\n|\Z))',
  _FLAGS,
)


class Slate(NamedTuple):
  """Responses to one problem that are scored together.

  Attributes:
    responses: the texts, in their true order.
    labels: how good each is, in the true order; of a response alone the score
      that it should have.
    order: the true place of each response as they are shown, from 0.
    low: the least score.
    high: the greatest score.
    tolerance: how far the score of a response alone may be from its label.
  """

  responses: Sequence[str]
  labels: Sequence[float]
  order: Sequence[int]
  low: int
  high: int
  tolerance: int = 0

  @property
  def best(self) -> list[bool]:
    """Returns which responses have the greatest label, in the true order."""
    return [label == max(self.labels) for label in self.labels]

  @property
  def shown(self) -> list[str]:
    """Returns the responses as they are shown."""
    return [self.responses[i] for i in self.order]


def check(slate: Slate) -> Slate:
  """Returns a slate whose values are right.

  Raises:
    ValueError: an empty range, labels that no scores can meet, or that rank
      nothing, or an order of other responses.
  """
  low, high, number = slate.low, slate.high, len(slate.responses)
  check_range(low, high, slate.tolerance)
  if not 1 <= number <= MAX_RESPONSES or not all(
    isinstance(text, str) for text in slate.responses
  ):
    raise ValueError(
      f'responses: got {number}; expected 1 to {MAX_RESPONSES} texts'
    )
  labels = slate.labels
  if len(labels) != number or not all(map(_is_number, labels)):
    raise ValueError(
      f'labels: got {labels!r}; expected a number for each of {number}'
    )
  if number > 1 and len({*labels}) == 1:
    raise ValueError(
      f'labels: got {labels!r}, which rank nothing; expected one response that '
      'is better than another'
    )
  if number == 1 and not low <= labels[0] <= high:
    raise ValueError(
      f'labels: got {labels!r} for a response alone; expected a score from '
      f'{low} to {high}'
    )
  is_order = all(type(place) is int for place in slate.order)
  if not is_order or sorted(slate.order) != list(range(number)):
    raise ValueError(
      f'order: got {slate.order!r}; expected each of 0 to {number - 1} once'
    )
  return slate


def check_range(low: int, high: int, tolerance: int = 0) -> None:
  """Raises ValueError if no scores are possible, or if all would be right."""
  if not all(type(x) is int for x in (low, high)) or not low < high:
    raise ValueError(
      f'low, high: got {low!r} and {high!r}; expected two integers, the first '
      'below the second, such as 1 and 10'
    )
  if type(tolerance) is not int or not 0 <= 2 * tolerance < high - low:
    raise ValueError(
      f'tolerance: got {tolerance!r}; expected an integer from 0 to less than '
      f'half of the range from {low} to {high}'
    )


def _is_number(x: Any) -> bool:
  is_number = isinstance(x, int | float) and not isinstance(x, bool)
  return is_number and math.isfinite(x)


def make_record(problem, slate: Slate, *, index: int = 0, part: str) -> Record:
  """Makes the record of a slate, in a given solution's place.

  Args:
    problem: the problem that the responses are to.
    slate: the responses.
    index: the record's number among those of the problem.
    part: the name of the data set.

  Raises:
    ValueError: the slate is wrong (`check`).
  """
  fields = {
    name: list(value) if isinstance(value, tuple | list) else value
    for name, value in check(slate)._asdict().items()
  }
  parsed = {'part': part, 'slate': fields}
  return given_record(problem, '\n\n'.join(slate.shown), index, parsed=parsed)


def is_slate(record: Record | None) -> bool:
  """Whether a record is a slate, which is neither right nor wrong."""
  return record is not None and 'slate' in record.parsed


def read(record: Record) -> Slate:
  """Returns the slate of a record, checked: it may be of a file.

  Raises:
    ValueError: it has none, or a wrong one.
  """
  fields = record.parsed.get('slate')
  if not isinstance(fields, Mapping) or {*fields} != {*Slate._fields}:
    raise ValueError(
      f'slate of {record.id}: got {type(fields).__name__}; expected '
      f'{Slate._fields}; take a source of slates, such as '
      "data.name='slates'"
    )
  for name in ('responses', 'labels', 'order'):
    if not isinstance(fields[name], list | tuple):
      raise ValueError(f'slate of {record.id}: got no list of {name}')
  return check(Slate(**fields))


def reordered(record: Record, order: Sequence[int], index: int) -> Record:
  """Returns a slate whose responses are shown in another order."""
  slate = read(record)._replace(order=[*order])
  return make_record(
    record.problem, slate, index=index, part=record.parsed['part']
  )


def hinted(record: Record) -> Record:
  """Returns a slate that says which response is best, in `parsed['hint']`.

  The number is that of its place as it is shown, from 1; of several best ones
  the first that is shown.

  Raises:
    ValueError: it is no slate, or has one response.
  """
  slate = read(record)
  if len(slate.responses) < 2:
    raise ValueError(
      f'num_hinted: got the slate {record.id} of one response; expected two or '
      'more, of which one is best; set num_hinted=0'
    )
  place = [slate.best[i] for i in slate.order].index(True)
  return dataclasses.replace(
    record, parsed={**record.parsed, 'hint': place + 1}
  )


def parse(text: str) -> dict[str, Any]:
  """Parses a critique of a slate, as the parser of its stage; never raises.

  Returns:
    'ratings', the integers in the order shown, None without exactly one list;
    'status', as `verdicts.status` has it, of this list; 'conclusion'; and
    'verdict' and 'step', which are None.
  """
  ending = verdicts.conclusion(text)
  scores, status = _read(ending)
  return dict(
    ratings=scores, status=status, conclusion=ending, verdict=None, step=None
  )


def _read(conclusion: str | None) -> tuple[list[int] | None, verdicts.Status]:
  if conclusion is None:
    return None, 'unfinished'
  labels = list(_LABEL.finditer(conclusion))
  if len(labels) > 1:  # equal lists, too: the form asks for one
    return None, 'contradictory'
  sentence = labels and _SENTENCE.match(conclusion, labels[0].end())
  if not sentence:
    return None, 'missing'
  [numbers] = [group for group in sentence.groups() if group]
  return [int(number) for number in numbers.split(',')], 'ok'


def scores(critique: Record) -> list[int] | None:
  """Returns the scores of a slate's responses, in their true order.

  Returns:
    An integer for each response; None if the critique was cut off, or does not
    have exactly one list of exactly so many integers in the slate's range.
  """
  slate = read(critique.parent)
  said = critique.parsed.get('ratings')
  if critique.finish != 'stop' or not isinstance(said, list | tuple):
    return None
  if len(said) != len(slate.responses):
    return None
  if not all(type(x) is int and slate.low <= x <= slate.high for x in said):
    return None
  by_place = dict(zip(slate.order, said, strict=True))
  return [by_place[i] for i in range(len(said))]


def is_true(critique: Record) -> bool:
  """Whether the scores of a critique agree with its slate's labels.

  SPCT's rule. Of several responses: the best has a higher score than each
  other; several best ones each have a higher score than all others. Of one:
  its score is its label, or as near as the slate's tolerance, which is ours.
  No scores do not agree.
  """
  slate, said = read(critique.parent), scores(critique)
  if said is None:
    return False
  if len(said) == 1:
    return abs(said[0] - slate.labels[0]) <= slate.tolerance
  pairs = list(zip(said, slate.best, strict=True))
  return min(x for x, is_best in pairs if is_best) > max(
    x for x, is_best in pairs if not is_best
  )
