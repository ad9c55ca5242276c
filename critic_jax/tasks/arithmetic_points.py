"""Critics of several skills in the embedded world, and what they say together.

After MultiCritique (https://arxiv.org/abs/2410.15287). A critic of some skill
works every line out as the student of this world does, with the student's
errors, and lists the lines that it has otherwise (rewards/critique_points.py).
A judge, who knows all facts but errs now and then, judges each point. Three
writers of one form make a text of that, for a critic to imitate:

* `merged`: the good points of all critics;
* `best_single`: all points of the critic whose points are best;
* `unmerged`: all points of any of them, unjudged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from critic_jax.rewards import critique_points
from critic_jax.rewards.critique_points import Point
from critic_jax.tasks import arithmetic, arithmetic_lessons
from critic_jax.types import Problem, Record


def corrections(problem: Problem, text: str) -> dict[int, str]:
  """Returns what each wrong line of a solution should be, by itself.

  The wrong lines are those of `arithmetic_labels.step_marks`; a line goes on
  from the result of the line before, be that right or wrong.

  Returns:
    By the index of each wrong line its right one; '' for what comes after the
    last line, a wrong answer or lines that the story does not have.
  """
  return _correct(problem, text, arithmetic.compute)


def _correct(problem, text, fact) -> dict[int, str]:
  """Corrects a solution by someone's facts."""
  program, steps = arithmetic.read_program(problem), arithmetic.read_steps(text)
  wrong, before = {}, program.start
  for i, (op, right) in enumerate(program.operations):
    line = arithmetic.Step(i + 1, before, op, right, fact(before, op, right))
    if i >= len(steps):
      return wrong | {i: str(line)}
    if steps[i] != line:
      wrong[i] = str(line)
    before = steps[i].result
  boxed = re.findall(r'\\boxed\{(-?\d{1,9})\}', text)
  has_extra_steps = len(steps) > len(program.operations)
  if has_extra_steps or boxed != [str(before)]:
    wrong[len(program.operations)] = ''
  return wrong


def write(text: str, points: Sequence[Point]) -> str:
  """Writes a critique of a solution that makes given points.

  Its thinking goes through all lines: one with a point is marked wrong, and
  others are taken for right.

  Args:
    text: the solution.
    points: one for a step at most, in the order of the steps.
  """
  steps, of_step = arithmetic.read_steps(text), {p.step: p for p in points}
  thoughts = [_check(s, of_step.get(i)) for i, s in enumerate(steps)]
  thoughts += [
    f'{point.line}. Wrong.' if point.line else 'The end is wrong.'
    for point in points
    if point.step >= len(steps)
  ]
  if not points:
    return arithmetic.write_critique(
      thoughts, 'Every step is right.', 'correct'
    )
  advice = [
    f'Step {point.step + 1} is wrong.'
    + (f' It should be\n{point.line}' if point.line else '')
    for point in points
  ]
  return arithmetic.write_critique(thoughts, '\n'.join(advice), 'incorrect')


def _check(step: arithmetic.Step, point: Point | None) -> str:
  """Writes the check of a line."""
  if point is None:
    return arithmetic.write_check(step, step.result)
  expected = arithmetic.read_steps(point.line)[:1]
  if not expected:
    return f'{step}? Wrong.'
  if expected[0]._replace(result=step.result) == step:
    return arithmetic.write_check(step, expected[0].result)
  return f'{step}? {expected[0].equation}. Wrong.'


def listed(solution: Record, rng: random.Random, *, hard_share: float) -> str:
  """Writes the critique of one critic, who lists all lines that it has wrong.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    hard_share: the share of facts that are hard for the critic, as of
      `arithmetic_lessons.student_fact`.
  """
  fact = arithmetic_lessons.student_fact(rng, hard_share)
  wrong = _correct(solution.problem, solution.text, fact)
  return write(solution.text, [Point(*item) for item in wrong.items()])


def merged(
  solution: Record,
  rng: random.Random,
  *,
  hard_shares: Sequence[float],
  judge_error: float,
) -> str:
  """Writes the critique that several critics make together.

  Args:
    solution: a 'solve' record of a problem of this world.
    rng: consumed.
    hard_shares: of each critic, as of `listed`.
    judge_error: the probability that a judgement j of a point is 1 - j.
  """
  points = critique_points.merge(
    _judged(solution, rng, hard_shares, judge_error)
  )
  return write(solution.text, points)


def best_single(
  solution: Record,
  rng: random.Random,
  *,
  hard_shares: Sequence[float],
  judge_error: float,
) -> str:
  """Writes the best critique of several critics; settings as of `merged`."""
  points = critique_points.best(
    _judged(solution, rng, hard_shares, judge_error)
  )
  return write(solution.text, points)


def unmerged(
  solution: Record, rng: random.Random, *, hard_shares: Sequence[float]
) -> str:
  """Writes the critique of one of several critics, any alike."""
  _check_critics(hard_shares)
  return listed(solution, rng, hard_share=rng.choice(hard_shares))


def _judged(solution, rng, hard_shares, judge_error) -> list:
  """Returns the judged points of each critic."""
  _check_critics(hard_shares)
  truth = corrections(solution.problem, solution.text)
  texts = [listed(solution, rng, hard_share=share) for share in hard_shares]
  return [
    [
      (p, _judge(p, truth, rng, judge_error))
      for p in critique_points.read(text)
    ]
    for text in texts
  ]


def _judge(
  point: Point, truth: Mapping[int, str], rng: random.Random, error: float
) -> float:
  judgement = critique_points.judge(point, truth)
  return 1.0 - judgement if rng.random() < error else judgement


def _check_critics(hard_shares) -> None:
  if not hard_shares:
    raise ValueError(
      f'hard_shares: got {hard_shares!r}; expected a share for each critic; '
      'give one at least'
    )
