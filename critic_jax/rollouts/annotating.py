"""Annotation: which answers need another attempt, and which are kept.

Problems are annotated with a model's own answers. After SciGLM
(https://arxiv.org/abs/2401.07950) a problem that no answer solves is attempted
again, with help; after the generator and critics of Synthetic-Persona-Chat
(https://arxiv.org/abs/2312.10007) a mixture of experts scores each answer, and
the best of those that pass are kept. `attempts` are the answers of each round:
the solutions, `num_solutions` of each problem, then refinements.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.rewards import plausibility, refinement, step_aggregates
from critic_jax.rollouts import joining
from critic_jax.types import Record

Attempts = Sequence[Sequence[Record]]
Notes = Mapping[int, Mapping[str, float]]  # scores by name, by a record's id
SCORES = 'approval', 'quality', 'kept', 'covered', 'distinct', 'faithful'
_MIXTURES = {'minimum': step_aggregates.minimum, 'mean': step_aggregates.mean}


def groups(
  attempts: Attempts, num_solutions: int
) -> list[list[tuple[int, Record]]]:
  """Returns the answers to each problem, with the numbers of their attempts.

  Args:
    attempts: solutions of one problem are adjacent; refinements respond, by
      critiques, to solutions or to refinements before them.
    num_solutions: solutions of each problem.
  """
  place = {id(r): i // num_solutions for i, r in enumerate(attempts[0])}
  by_problem = [[] for _ in range(len(attempts[0]) // num_solutions)]
  for number, answers in enumerate(attempts):
    for answer in answers:
      *_, solution = answer.chain
      by_problem[place[id(solution)]].append((number, answer))
  return by_problem


def unsolved(attempts: Attempts, num_solutions: int) -> list[Record]:
  """Returns the newest answers to problems that nothing solves yet.

  An answer whose grade is open is not among them: nobody knows that it is
  wrong.
  """
  newest = len(attempts) - 1
  return [
    answer
    for group in groups(attempts, num_solutions)
    if not any(refinement.is_right(answer) for _, answer in group)
    for number, answer in group
    if number == newest and refinement.is_right(answer) is False
  ]


def candidates(
  attempts: Iterable[Sequence[Record]], is_checked: bool
) -> list[Record]:
  """Returns the answers that may be kept: whole, and right if that is asked."""
  return [
    answer
    for answer in itertools.chain(*attempts)
    if answer.finish == 'stop'
    and (not is_checked or refinement.is_right(answer))
  ]


def bind_assessment(
  experts: Mapping, mixture: str, first_error: Mapping
) -> Callable[..., Notes]:
  """Binds the scores of answers to their settings.

  Args:
    experts: functions of critic_jax.tasks, `(problem, text, rng) -> score`, by
      name; their scores are in [0, 1].
    mixture: 'minimum', by which every expert has a veto, or 'mean', by which
      many make up for one.
    first_error: `(problem, text) -> index`, -1 for none; `module=''`: nobody.

  Returns:
    `(answers, reviews, rng) -> notes`. The notes on an answer, by its id, are
    the experts' scores; 'approval', the share of its reviews that call it
    right, if it was reviewed; 'quality', the mixture of these, 1 without any;
    and 'faithful', whether no step is wrong, which pays nobody.

  Raises:
    ValueError: a setting is wrong.
  """
  parts = 'problem', 'text'
  rules = {
    name: lookup.bind_in('tasks', expert, f'experts.{name}', (*parts, 'rng'))
    for name, expert in experts.items()
  }
  label = lookup.bind_task(first_error, 'first_error', parts)
  lookup.check_name('mixture', mixture, _MIXTURES)
  combine = _MIXTURES[mixture]

  def assess(answers, reviews, rng):
    of_answer = {}
    for review in reviews:
      says_right = plausibility.calls_right(review)
      of_answer.setdefault(id(review.parent), []).append(float(says_right))
    notes = {}
    for answer in answers:
      asked = answer.problem, answer.text
      scores = {name: float(rule(*asked, rng)) for name, rule in rules.items()}
      if its := of_answer.get(id(answer)):
        scores['approval'] = sum(its) / len(its)
      quality = combine([*scores.values()]) if scores else 1.0
      notes[id(answer)] = {**scores, 'quality': quality}
      if label:
        notes[id(answer)]['faithful'] = float(label(*asked) == -1)
    return notes

  return assess


def keep(
  group: Sequence[tuple[int, Record]],
  notes: Notes,
  min_scores: Sequence[float],
  num_kept: int,
) -> list[Record]:
  """Keeps the best answers to a problem that are good enough.

  Args:
    group: the answers to a problem, with the numbers of their attempts.
    notes: with the 'quality' of answers; one without notes is not kept.
    min_scores: the least quality by attempt.
    num_kept: the most answers to keep.

  Returns:
    Those of the highest quality, of equal ones the first; a text that is there
    already is not kept again.
  """
  good = [
    answer
    for number, answer in group
    if id(answer) in notes
    and notes[id(answer)]['quality'] >= min_scores[number]
  ]
  good.sort(key=lambda answer: -notes[id(answer)]['quality'])
  by_text = {}
  for answer in good:
    by_text.setdefault(answer.text, answer)
  return [*by_text.values()][:num_kept]


def tell(
  records: Sequence[Record],
  by_problem: Sequence[Sequence[tuple[int, Record]]],
  notes: Notes,
  kept: Sequence[Sequence[Record]],
) -> list[Record]:
  """Returns the records with scores that say what became of each.

  Answers have their notes, and 'kept', whether they are imitated. Solutions,
  the answers of the first attempt, have of their problem 'covered', whether any
  answer is, and 'distinct', that of its solutions (`distinct`).

  Args:
    records: all records of a step, parents before the responses to them.
    by_problem: the answers to each problem (`groups`).
    notes: those of `bind_assessment`.
    kept: the answers to each problem that are imitated.
  """
  told = {}
  for group, its in zip(by_problem, kept, strict=True):
    of_problem = {
      'covered': float(bool(its)),
      'distinct': distinct([r.text for number, r in group if not number]),
    }
    for number, answer in group:
      is_kept = any(answer is other for other in its)
      told[id(answer)] = {
        **notes.get(id(answer), {}),
        'kept': float(is_kept),
        **({} if number else of_problem),
      }
  return joining.noted(records, told)


def distinct(texts: Sequence[str], n: int = 2) -> float:
  """Returns distinct-n: different n-grams of words over all n-grams.

  Equal texts share all of theirs: what is left of diversity when only some
  texts are kept. It is 0 without n-grams.

  >>> distinct(['a b c', 'a b d'])  # ab, bc, bd of ab, bc, ab, bd
  0.75
  """
  grams = [
    tuple(words[i : i + n])
    for words in map(str.split, texts)
    for i in range(len(words) - n + 1)
  ]
  return len({*grams}) / len(grams) if grams else 0.0


def check(
  min_scores: Sequence[float],
  *,
  num_rounds: int,
  is_checked: bool,
  experts: Sequence[str],
  num_reviews: int,
) -> None:
  """Raises ValueError if settings of an annotation do not fit each other.

  Args:
    min_scores: the least quality of an answer, by attempt.
    num_rounds: attempts after the first.
    is_checked: whether only right answers are kept.
    experts: their names.
    num_reviews: a critic's reviews of each answer.
  """
  is_list = isinstance(min_scores, list | tuple)
  if not is_list or len(min_scores) != 1 + num_rounds:
    raise ValueError(
      f'min_scores: got {min_scores!r}; expected {1 + num_rounds} numbers, of '
      'the solutions and of each round of refinements'
    )
  for score in min_scores:
    lookup.check_numbers(0, min_scores=score)
  if max(min_scores) > 1:
    raise ValueError(
      f'min_scores: got {min_scores}; expected at most 1, the best that there '
      'is'
    )
  if num_rounds and not is_checked:
    raise ValueError(
      f'is_checked: got False with {num_rounds} rounds of refinements; '
      'expected True, as only problems that are not solved have them; or set '
      "num_reflections=0 and teller.module=''"
    )
  if any(min_scores) != bool(experts or num_reviews):
    raise ValueError(
      f'min_scores: got {min_scores} with experts {list(experts)} and '
      f'num_reviews={num_reviews}; expected a least score, and who scores, or '
      'neither; raise one, or leave the others out'
    )
  if taken := {*experts} & {*SCORES, 'correct', 'reward'}:
    raise ValueError(
      f'experts: got {sorted(taken)}, names of other scores; expected others; '
      'rename them'
    )
