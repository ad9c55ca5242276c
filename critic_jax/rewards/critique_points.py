"""Points of critiques: read, judged, and those of several critiques merged.

After MultiCritique (https://arxiv.org/abs/2410.15287), where several models
list what they find wrong, a stronger one judges each point, and the good ones
become one critique. A point names a step and may say what it should be. Who
judges it has corrections: {step: its right line} of all steps that are wrong,
by index from 0; the line is '' where a step should not be there at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from critic_jax.rewards import verdicts

_LINE = re.compile(r'\bshould[ \t]{1,8}be\b[:\s]{0,8}([^\n]{1,200})', re.ASCII)


class Point(NamedTuple):
  """A step that is called wrong, from 0, and its right line, '' if not said."""

  step: int
  line: str = ''


Judged = Sequence[tuple[Point, float]]  # a critique's points and judgements


def read(text: str) -> list[Point]:
  r"""Returns the points of a critique, in its order, each once.

  They are in its conclusion: 'Step k is wrong', and a line after 'should be',
  if one comes before the next point. A critique that does not call the solution
  wrong makes none.

  >>> read('Step 2 is wrong. It should be\n3 + 4 = 7\nVerdict: incorrect')
  [Point(step=1, line='3 + 4 = 7')]
  """
  if verdicts.verdict(text) != 'incorrect':
    return []
  points = []
  for step, rest in verdicts.wrong_sentences(text):
    match = _LINE.search(rest)
    line = ' '.join(match[1].split()) if match else ''
    # The verdict is the next line where nothing was said.
    points.append(Point(step, line * (verdicts.status(line) == 'missing')))
  return list(dict.fromkeys(points))


def judge(point: Point, corrections: Mapping[int, str]) -> float:
  """Returns 1.0 if a point is right, 0.5 if all it lacks is its line, or 0.0.

  A wrong line for a wrong step is 0.0: who follows it goes wrong.

  >>> judge(Point(1, '3 + 4 = 7'), {1: '3 + 4 = 7'})
  1.0
  """
  if point.step not in corrections:
    return 0.0
  if point.line == corrections[point.step]:
    return 1.0
  return 0.0 if point.line else 0.5


def merge(critiques: Sequence[Judged]) -> list[Point]:
  """Returns the points of several critiques that are judged good, by step.

  The same point of several critiques is one, judged by the mean, and is good
  from 0.5 on. Of good points that contradict each other, with different lines
  for one step, the best judged is kept, and of these what most critiques say.
  Where that leaves several lines, the step is kept without one. The order of
  the critiques does not matter.

  Args:
    critiques: the points of each, which are different, with judgements in
      [0, 1].

  Returns:
    One point a step at most, in the order of the steps; [] if none is good.
  """
  judgements: dict[Point, list[float]] = {}
  for critique in critiques:
    for point, judgement in critique:
      judgements.setdefault(point, []).append(judgement)
  rivals: dict[int, dict[Point, tuple[float, int]]] = {}
  for point, given in judgements.items():
    mean = math.fsum(given) / len(given)
    if mean >= 0.5:
      rivals.setdefault(point.step, {})[point] = mean, len(given)
  return [_settle(step, rivals[step]) for step in sorted(rivals)]


def _settle(step: int, ranks: Mapping[Point, tuple[float, int]]) -> Point:
  """Returns the one point of several about a step."""
  top = max(ranks.values())
  lines = {point.line for point, rank in ranks.items() if rank == top} - {''}
  return Point(step, lines.pop() if len(lines) == 1 else '')


def best(critiques: Sequence[Judged]) -> list[Point]:
  """Returns all points of the best critique, bad ones too: good less bad.

  A point adds twice its judgement less 1, so that a critique without points has
  0. Of equal critiques it is the first.
  """
  worth = [math.fsum(2 * j - 1 for _, j in critique) for critique in critiques]
  return [point for point, _ in critiques[worth.index(max(worth))]]


def hint(text: str, corrections: Mapping[int, str]) -> float:
  """Returns how a critique's first point is judged, whom a solver follows.

  It is 0.0 unless the point is of the first wrong step. Where nothing is wrong
  it is 1.0 for the verdict 'correct'.
  """
  if not corrections:
    return float(verdicts.verdict(text) == 'correct')
  points = read(text)
  if not points or points[0].step != min(corrections):
    return 0.0
  return judge(points[0], corrections)
