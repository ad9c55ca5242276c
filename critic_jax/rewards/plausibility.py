"""How plausible a solver finds its own solutions, right and wrong ones.

Several solutions of a problem by one solver say what it believes: an answer
that it often gives, tokens that it finds likely. A wrong solution that is
plausible is the hard one for a critic, and for the solver as its own critic:
`convincing` chooses as "Critique Ability of Large Language Models" does
(https://arxiv.org/abs/2310.04815), and `RULES` score solutions for pairs, as
the self-critic of Timo does (https://arxiv.org/abs/2406.14192).

Right answers are one answer. Wrong answers are the same if
`final_answers.exact` says so; spellings that it cannot decide on are different
answers. Solutions are graded (`parsed['correct']`).
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from critic_jax import lookup
from critic_jax.answers import final_answers
from critic_jax.rewards import refinement
from critic_jax.types import Record


def classes(solutions: Sequence[Record]) -> list[int]:
  """Returns the class of each answer: 0 right, 1... wrong, -1 none.

  A wrong answer belongs to the first class whose first answer it equals, in the
  order of spelling: equality is not transitive ('50%' equals 0.5 and 50).
  """
  texts = [solution.parsed.get('answer') for solution in solutions]
  right = [bool(solution.parsed['correct']) for solution in solutions]
  wrong = {a for a, good in zip(texts, right, strict=True) if a and not good}
  firsts, numbers = [], {None: -1}
  for answer in sorted(wrong):
    matches = (
      i for i, f in enumerate(firsts) if final_answers.exact(answer, f)
    )
    numbers[answer] = 1 + next(matches, len(firsts))
    if numbers[answer] > len(firsts):
      firsts.append(answer)
  return [
    0 if good and answer else numbers[answer or None]
    for answer, good in zip(texts, right, strict=True)
  ]


def certainty(labels: Sequence[int]) -> float:
  """Returns how much more often the first answer is given than the second.

  log(f1 / f2), in nats, of the numbers of the two most frequent answers. It is
  0 in a tie and where nobody answers, and infinite where all answers are one.
  The formula is a guess: of the paper's we know the thresholds 1 and 2 alone,
  which part problems by it, and would not by f1 / f2, which is 1 at least.

  >>> certainty([0, 0, 1, 0, -1]) == math.log(3)
  True

  Args:
    labels: the class of each solution's answer, -1 for none (`classes`).
  """
  counts = collections.Counter(label for label in labels if label >= 0)
  first, second, *_ = [*(n for _, n in counts.most_common(2)), 0, 0]
  if not first:
    return 0.0
  return math.log(first / second) if second else math.inf


def convincing(solutions: Sequence[Record]) -> tuple[Record, Record] | None:
  """Chooses a right and a convincing wrong solution of one problem.

  The wrong one gives the most frequent wrong answer, the first such answer if
  several are as frequent. Of each kind it is the longest text, and of these the
  first. A solution whose grade is open is neither, and so is one without an
  answer.

  Returns:
    (right, wrong); None where either is missing.
  """
  known = [s for s in solutions if refinement.is_right(s) is not None]
  labels = classes(known)
  counts = collections.Counter(label for label in labels if label > 0)
  if not counts or 0 not in labels:
    return None
  # In the order in which they are given: `max` keeps the first.
  commonest = max(counts, key=lambda label: counts[label])
  of_class = collections.defaultdict(list)
  for solution, label in zip(known, labels, strict=True):
    of_class[label].append(solution)
  right, wrong = (
    max(of_class[label], key=lambda solution: len(solution.text))
    for label in (0, commonest)
  )
  return right, wrong


# ------------------------------------------- scores of the solver's solutions


def agreement(
  solutions: Sequence[Record], critiques: Sequence[Sequence[Record]]
) -> list[float]:
  """Returns the share of the solutions that give the same answer as each.

  It is 0 for a solution without an answer.
  """
  labels = classes(solutions)
  counts = collections.Counter(label for label in labels if label >= 0)
  return [counts[label] / len(labels) for label in labels]


def confidence(
  solutions: Sequence[Record], critiques: Sequence[Sequence[Record]]
) -> list[float]:
  """Returns the mean log-probability of each solution's tokens, in nats."""
  return [
    float(np.mean(s.logprobs)) if len(s.logprobs) else -math.inf
    for s in solutions
  ]


def approval(
  solutions: Sequence[Record], critiques: Sequence[Sequence[Record]]
) -> list[float]:
  """Returns the share of each solution's critiques that call it right.

  A critique without a verdict, or one that was cut off, does not.

  Args:
    solutions: solutions of one problem.
    critiques: those of each, one at least.
  """
  return [
    sum(map(calls_right, its)) / len(its) if its else 0.0 for its in critiques
  ]


def calls_right(critique: Record) -> bool:
  """Whether a critique, whole and with one verdict, calls its parent right."""
  is_known = refinement.has_verdict(critique)
  return is_known and critique.parsed['verdict'] == 'correct'


RULES = {
  'agreement': agreement, 'confidence': confidence, 'approval': approval
}  # fmt: skip


def check_weights(score: Mapping[str, float]) -> dict[str, float]:
  """Returns the weights of `RULES` that are not 0; {} if solutions are alike.

  Raises:
    ValueError: an unknown rule, none of one, or a weight that is no number.
  """
  with lookup.naming('score'):
    lookup.check_settings(_weights, score, 'score')
    return _weights(**score)


def _weights(*, agreement: float, confidence: float, approval: float) -> dict:
  """Returns the weights that are not 0; the settings of `score`."""
  weights = dict(agreement=agreement, confidence=confidence, approval=approval)
  lookup.check_numbers(**weights)
  return {name: weight for name, weight in weights.items() if weight}


def write(
  solutions: Sequence[Record],
  critiques: Sequence[Sequence[Record]],
  weights: Mapping[str, float],
) -> list[Record]:
  """Adds the weighted rules, and 'plausible', their sum, to `scores`.

  Args:
    solutions: graded and scored solutions of one problem. Those without a
      reward, as a grade is open, are as if they were not there.
    critiques: those of each solution; [] each where no rule reads them.
    weights: weights of `RULES`.
  """
  known = [i for i, s in enumerate(solutions) if 'reward' in s.scores]
  group = [solutions[i] for i in known], [critiques[i] for i in known]
  values = {name: RULES[name](*group) for name in weights}
  written = list(solutions)
  for place, i in enumerate(known):
    scores = {name: column[place] for name, column in values.items()}
    scores['plausible'] = sum(weights[name] * x for name, x in scores.items())
    old = written[i]
    written[i] = dataclasses.replace(old, scores={**old.scores, **scores})
  return written
