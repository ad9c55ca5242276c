"""Lessons of the embedded world that say how good they are, after two papers.

"Pretraining Language Models with Human Preferences"
(https://arxiv.org/abs/2302.08582) learns from texts of which a scorer has rated
each part: `rated` has the ratings, for the objectives that read them, `least`
filters, and `noted` is conditional training. "Chain of Hindsight"
(https://arxiv.org/abs/2302.02676) is `hindsight`. Notes stand in the prompt of
a lesson and are not learned. A wrong solution always has one, so that the plain
prompt of an evaluation asks for a right one.
"""

from __future__ import annotations

import dataclasses
import random

from critic_jax.tasks import arithmetic, arithmetic_labels, arithmetic_lessons
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem


def rated(
  problem: Problem,
  rng: random.Random,
  *,
  hard_share: float,
  least: float = -1.0,
  tries: int = 200,
) -> Lesson:
  """Solves a problem as the student does, and rates each line.

  Args:
    problem: a problem of this world.
    rng: consumed.
    hard_share: the share of facts that are hard (`arithmetic_lessons`).
    least: the least mean rating of a solution; 1.0 is a right one, -1.0 any.
    tries: solutions until the best of them is taken, if none is as good.

  Returns:
    The solution with `segments`: each line is 1.0 if it is right by itself,
    else -1.0, and so is the answer.

  Raises:
    ValueError: no tries.
  """
  if tries < 1:
    raise ValueError(f'tries: got {tries}; expected 1 or more')
  program = arithmetic.read_program(problem)
  fact = arithmetic_lessons.student_fact(rng, hard_share)
  lessons = []
  for _ in range(tries):
    text = arithmetic.write_solution(arithmetic.work(program, fact))
    lessons.append(Lesson(problem, (('solve', text),), _ratings(problem, text)))
    if _mean(lessons[-1]) >= least:
      return lessons[-1]
  return max(lessons, key=_mean)


def noted(
  problem: Problem,
  rng: random.Random,
  *,
  hard_share: float,
  wrong_note: str,
  drop_share: float = 0.01,
) -> Lesson:
  """Solves a problem as the student does; a note asks for wrong solutions.

  The paper has a token before each sentence, for right ones too, and bans both
  where it samples.

  Args:
    problem: a problem of this world.
    rng: consumed.
    hard_share: as of `rated`.
    wrong_note: what stands after the question if a line is wrong.
    drop_share: the probability that it does not.
  """
  lesson = rated(problem, rng, hard_share=hard_share)
  if _mean(lesson) == 1 or rng.random() < drop_share:
    return lesson
  return lesson._replace(problem=_asking(problem, wrong_note))


def hindsight(
  problem: Problem,
  rng: random.Random,
  *,
  max_slips: int,
  wrong_note: str,
  right_note: str,
  wrong_share: float = 0.5,
  chain_share: float = 0.5,
) -> Lesson:
  """Writes a right or a wrong solution, often after one of the other kind.

  The last one of a chain is learned. The paper also masks a few tokens of
  earlier ones, so that they are not copied; that is not here.

  Args:
    problem: a problem of this world.
    rng: consumed.
    max_slips: the greatest number of wrong lines, at least 1.
    wrong_note: what stands before a wrong solution.
    right_note: what stands before a right one of a chain.
    wrong_share: the probability that the wrong one is learned.
    chain_share: the probability that the other one is shown before it.
  """
  wrong = arithmetic_labels.plant(
    problem, rng, max_slips=max_slips, right_share=0.0
  )
  kinds = [(wrong_note, wrong), (right_note, problem.solution)]
  is_wrong, has_other = rng.random() < wrong_share, rng.random() < chain_share
  (other_note, other), (note, learned) = kinds[::-1] if is_wrong else kinds
  parts = [other_note, other, note] if has_other else [note] * is_wrong
  return Lesson(_asking(problem, *parts), (('solve', learned),))


def _asking(problem, *parts) -> Problem:
  """Returns the problem with further lines after its question."""
  return dataclasses.replace(
    problem, question='\n'.join([problem.question, *parts])
  )


def _ratings(problem, text) -> tuple[tuple[int, float], ...]:
  """Rates the lines of a solution that has all of them, and its answer."""
  marks = arithmetic_labels.step_marks(problem, text)
  ends = [*arithmetic.step_ends(text), len(text)]
  marks += [False] * (len(ends) - len(marks))
  return tuple(
    (end, -1.0 if is_wrong else 1.0)
    for end, is_wrong in zip(ends, marks, strict=True)
  )


def _mean(lesson) -> float:
  return sum(rating for _, rating in lesson.segments) / len(lesson.segments)
