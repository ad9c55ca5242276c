"""Slates of the embedded world: responses that are scored together.

The student's solutions of a problem, some right and the others wrong, and a
teacher who scores them, for SPCT (https://arxiv.org/abs/2504.02495). It names
a principle, works every line out, and gives a wrong response the less, the
more of its lines are wrong; or it only glances, and its scores are a guess. So
it is often wrong, as rejective fine-tuning has it. With a hint it knows which
response is best, and says so also where it only glanced.
"""

from __future__ import annotations

import random

from critic_jax.rewards import ratings
from critic_jax.tasks import arithmetic, arithmetic_labels, arithmetic_lessons
from critic_jax.types import Problem, Record

_PRINCIPLES = (
  'every result must be true.',
  'every line must follow the story.',
)


def check(
  *, num_responses: int, num_right: int, low: int, high: int, tolerance: int
) -> None:
  """Raises ValueError if no slate is like that; the parameters of `slate`."""
  ratings.check_range(low, high, tolerance)
  is_ranking = num_responses > 1
  if not 1 <= num_responses <= ratings.MAX_RESPONSES:
    raise ValueError(
      f'num_responses: got {num_responses}; expected 1 to '
      f'{ratings.MAX_RESPONSES}'
    )
  if is_ranking and not 1 <= num_right < num_responses:
    raise ValueError(
      f'num_right: got {num_right} of num_responses={num_responses}, which '
      f'ranks nothing; expected 1 to {num_responses - 1}'
    )


def slate(
  problem: Problem,
  rng: random.Random,
  *,
  num_responses: int,
  num_right: int,
  hard_share: float,
  low: int,
  high: int,
  tolerance: int,
) -> Record:
  """Makes a slate of the student's solutions, shown in a random order.

  Args:
    problem: a problem of the embedded world.
    rng: consumed.
    num_responses: its responses. Of one alone, half are right, and its label is
      the greatest score or the least.
    num_right: right ones among several; they come first in the true order, and
      have the label 1, and the others 0.
    hard_share: the share of facts that are hard for the student.
    low: the least score.
    high: the greatest score.
    tolerance: as of `ratings.Slate`.

  Raises:
    ValueError: a value is out of its range.
  """
  check(
    num_responses=num_responses, num_right=num_right, low=low, high=high,
    tolerance=tolerance,
  )  # fmt: skip
  if num_responses == 1:
    num_right = int(rng.random() < 0.5)
  is_right = [i < num_right for i in range(num_responses)]
  texts = [
    problem.solution if right else _wrong(problem, rng, hard_share)
    for right in is_right
  ]
  labels = [float(right) for right in is_right]
  if num_responses == 1:
    labels = [high if num_right else low]
  order = rng.sample(range(num_responses), num_responses)
  fields = ratings.Slate(texts, labels, order, low, high, tolerance)
  return ratings.make_record(problem, fields, part='slates')


def _wrong(problem: Problem, rng: random.Random, hard_share: float) -> str:
  """Writes a wrong solution of the student; a slip if it makes no mistake."""
  program = arithmetic.read_program(problem)
  fact = arithmetic_lessons.student_fact(rng, hard_share)
  for _ in range(8):
    text = arithmetic.write_solution(arithmetic.work(program, fact))
    # A wrong line whose answer is right again would be neither.
    if f'\\boxed{{{problem.answer}}}' not in text:
      return text
  return arithmetic_labels.slip(program, rng)


def shuffled(record: Record, rng: random.Random, index: int) -> Record:
  """Returns a slate in another random order, under another number."""
  number = len(ratings.read(record).responses)
  return ratings.reordered(record, rng.sample(range(number), number), index)


def in_orders(
  problem: Problem, rng: random.Random, *, num_orders: int, **settings
) -> list[Record]:
  """Returns a slate, `slate`'s with its settings, in so many random orders.

  Raises:
    ValueError: one response has several orders, or a value is out of its range.
  """
  if settings['num_responses'] == 1 < num_orders:
    raise ValueError(
      f'num_responses: got 1 and num_orders={num_orders}; expected two or more '
      'responses to rank; or set num_orders=1'
    )
  first = slate(problem, rng, **settings)
  return [first, *(shuffled(first, rng, i) for i in range(1, num_orders))]


def teacher_scores(
  solution: Record, rng: random.Random, *, check_share: float
) -> str:
  """Writes a critique of a slate as the teacher does.

  Args:
    solution: a slate of a problem of this world, maybe with a hint.
    rng: consumed.
    check_share: the probability that the teacher works the lines out; otherwise
      its scores are a guess, but for a response that a hint calls best.
  """
  slate = ratings.read(solution)
  hint = solution.parsed.get('hint')
  thoughts = [f'Principle: {rng.choice(_PRINCIPLES)}']
  if rng.random() < check_share:
    scores = []
    for number, text in enumerate(slate.shown, 1):
      thoughts += [f'Response {number}:', *_checks(text)]
      scores.append(_score(solution.problem, text, slate))
  else:
    thoughts.append('The responses look alike.')
    scores = [rng.randint(slate.low, slate.high) for _ in slate.responses]
    if hint:
      scores = [min(score, slate.high - 1) for score in scores]
      scores[hint - 1] = slate.high
  thinking = '\n'.join(['<think>', *thoughts, '</think>'])
  best = f'Response {1 + scores.index(max(scores))} is best.'
  said = ', '.join(map(str, scores))
  return f'{thinking}\n{best}\nScores: {said}'


def _checks(text: str) -> list[str]:
  """Checks every line of a solution by itself."""
  return [
    arithmetic.write_check(
      step, arithmetic.compute(step.left, step.op, step.right)
    )
    for step in arithmetic.read_steps(text)
  ]


def _score(problem: Problem, text: str, slate: ratings.Slate) -> int:
  """Returns the greatest score for a right response, and less for others."""
  share = arithmetic_labels.share_right(problem, text)
  if len(slate.responses) == 1:
    return slate.high if share == 1 else slate.low
  # Rounded down, so that a wrong line always costs.
  return slate.low + int(share * (slate.high - slate.low))
