"""Pairs of sibling records for preferences: one chosen, the other rejected.

And the scores that say which: sums of rules, or of what a file says, by weight;
and labels that are wrong on purpose.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.rewards import refinement, step_labels
from critic_jax.types import Record, RewardFn

_RULES = {
  'judge': refinement.judge,
  'overlap': step_labels.overlap,
  'agreement': step_labels.agreement,
}


def farthest_pairs(
  siblings: Sequence[Record], max_pairs: int, margin: float = 0.0
) -> list[tuple[Record, Record]]:
  """Pairs records with others of a lower reward, those farthest apart first.

  Of pairs that are equally far apart, that one comes first whose records are in
  the fewest pairs so far, and then that of the first siblings. Equal rewards
  make no pair, and a record without a reward or without tokens is in none.

  Args:
    siblings: records with `scores`.
    max_pairs: the greatest number of pairs.
    margin: what rewards differ by, and more.

  Returns:
    (chosen, rejected) each.
  """
  scored = [r for r in siblings if 'reward' in r.scores and len(r.tokens)]

  def gap(pair):
    return pair[0].scores['reward'] - pair[1].scores['reward']

  left = [p for p in itertools.permutations(scored, 2) if gap(p) > margin]
  pairs, uses = [], collections.Counter()
  while left and len(pairs) < max_pairs:
    pair = max(left, key=lambda p: (gap(p), -sum(uses[r.index] for r in p)))
    left.remove(pair)
    pairs.append(pair)
    uses.update(r.index for r in pair)
  return pairs


def hard_pairs(
  siblings: Sequence[Record], max_pairs: int
) -> list[tuple[Record, Record]]:
  """Pairs right siblings with wrong ones, the most plausible of each first.

  Timo's pairs (https://arxiv.org/abs/2406.14192): a right solution that the
  model finds good, and a wrong one that it finds good, too. Equal siblings
  keep their order, so that without differences pairs are those at random. No
  sibling is in two pairs.

  Args:
    siblings: records with the scores 'reward', 1 where right and 0 where wrong,
      and 'plausible'; those without either, or without tokens, are in no pair.
    max_pairs: the greatest number of pairs.
  """
  scored = [
    r for r in siblings if {'reward', 'plausible'} <= {*r.scores} and
    len(r.tokens)
  ]  # fmt: skip
  scored.sort(key=lambda record: -record.scores['plausible'])
  sides = [
    [r for r in scored if r.scores['reward'] == worth] for worth in (1.0, 0.0)
  ]
  return list(zip(*sides, strict=False))[:max_pairs]


def single_responses(
  siblings: Sequence[Record], pairs: Sequence[tuple[Record, Record]]
) -> list[tuple[Record | None, Record | None]]:
  """Returns the responses that were called good or bad and are in no pair.

  Args:
    siblings: those with `parsed['label']` count, if they have tokens.
    pairs: pairs of them.

  Returns:
    (chosen, None) or (None, rejected) each.
  """
  paired = {id(record) for pair in pairs for record in pair}
  return [
    (r, None) if r.parsed['label'] else (None, r)
    for r in siblings
    if 'label' in r.parsed and id(r) not in paired and len(r.tokens)
  ]


def critique_rules(
  score: Mapping[str, float], *, has_marks: bool
) -> tuple[dict[str, RewardFn], dict[str, float]]:
  """Returns the rules by which critiques are scored, and their weights.

  Args:
    score: weights of 'judge' (rewards/refinement.py), and of 'overlap' and
      'agreement' (rewards/step_labels.py); 0 for none.
    has_marks: whether somebody marks the wrong steps, for the last two.

  Raises:
    ValueError: an unknown rule, no weight, or a rule without its marks.
  """
  with lookup.naming('score'):
    lookup.check_settings(_weights, score, 'score')
    weights = _weights(**score)
    if not has_marks and {*weights} - {'judge'}:
      raise ValueError(
        f'got {weights} without marks of steps; expected who knows them; set '
        'step_marks.module and step_marks.name, or weigh judge alone'
      )
  return {name: _RULES[name] for name in weights}, weights


def _weights(*, judge: float, overlap: float, agreement: float) -> dict:
  """Returns the weights of the rules that count; the settings of `score`."""
  return check_weights(dict(judge=judge, overlap=overlap, agreement=agreement))


def gold_rules(gold: Mapping, stage: str) -> dict[str, RewardFn]:
  """Returns the rule by which one response is better than another, by name.

  Args:
    gold: a `module` of critic_jax.tasks with a name and keywords of its
      function `(problem, solution) -> number`; `module=''` for the grade of the
      answer, or the verdict.
    stage: of the responses, 'solve' or 'critique'.

  Raises:
    ValueError: a setting is wrong, or solutions are measured where critiques
      are compared.
  """
  measure = lookup.bind_task(gold, 'gold', ('problem', 'text'))
  if not measure:
    rule = dict(solve=refinement.correct, critique=refinement.judge)[stage]
    return {rule.__name__: rule}
  if stage != 'solve':
    raise ValueError(
      f'gold: got {gold["name"]!r}, which measures solutions, and stage='
      f"{stage!r}; expected none; set gold.module=''"
    )
  return {'gold': lambda record, _: measure(record.problem, record.text)}


def given_weights(
  comparisons: Mapping | None, stage: str, writer: Mapping, gold: Mapping
) -> dict[str, float]:
  """Returns the weights of what is said of given responses; {} if none are.

  Args:
    comparisons: `max_responses` to a prompt, two at least, and `score`, weights
      of scores by name; None: responses are made.
    stage: of the responses; those that are given are of 'solve'.
    writer: who makes responses, by `module`; '' where they are given.
    gold: who measures them, the same.

  Raises:
    ValueError: a setting is wrong, all weights are 0, or responses would be
      both given and made.
  """
  if comparisons is None:
    return {}
  with lookup.naming('comparisons'):
    lookup.check_settings(_given_weights, comparisons, 'comparisons')
    weights = _given_weights(**comparisons)
  modules = writer.get('module'), gold.get('module')
  if stage != 'solve' or any(modules):
    raise ValueError(
      f'comparisons: got them with stage={stage!r}, and {modules} as modules '
      "of writer and gold; expected 'solve' and two ''; leave out one of both"
    )
  return weights


def _given_weights(*, max_responses: int, score: Mapping) -> dict[str, float]:
  """Returns the weights of scores; the settings of `comparisons`."""
  lookup.check_counts(2, max_responses=max_responses)  # a pair
  with lookup.naming('score'):
    return check_weights(score)


def swap(
  pairs: Sequence[tuple[Record, Record]], share: float, rng: random.Random
) -> list[tuple[Record, Record]]:
  """Swaps the labels of pairs as annotators err, each with a probability.

  Args:
    pairs: (chosen, rejected) each.
    share: the probability, in [0, 0.5).
    rng: drawn from once for each pair.
  """
  return [pair if rng.random() >= share else pair[::-1] for pair in pairs]


def check_pairs(max_pairs: int, flip_share: float) -> None:
  """Raises ValueError unless there are pairs whose labels say something.

  Args:
    max_pairs: pairs of responses to a prompt, at most.
    flip_share: the share of labels that are swapped.
  """
  lookup.check_counts(max_pairs=max_pairs)
  lookup.check_numbers(0, flip_share=flip_share)
  if not flip_share < 0.5:
    raise ValueError(
      f'flip_share: got {flip_share}; expected less than 0.5, at which labels '
      'say nothing'
    )


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
  """Returns the weights that are not 0, of which there must be one."""
  lookup.check_numbers(**weights)
  weights = {name: weight for name, weight in weights.items() if weight}
  if not weights:
    raise ValueError(
      'got no weight, by which all responses are alike; expected one; raise one'
    )
  return weights


def score_given(
  records: Sequence[Record],
  weights: Mapping[str, float],
  margin_weights: Mapping[str, float],
) -> list[Record]:
  """Scores given responses by what a file says (`weighted`), if they fit."""
  return [
    dataclasses.replace(
      record,
      scores={}
      if record.refused
      else weighted(record.scores, weights, margin_weights),
    )
    for record in records
  ]


def weighted(
  scores: Mapping[str, float],
  weights: Mapping[str, float],
  margin_weights: Mapping[str, float],
) -> dict[str, float]:
  """Returns the scores that are weighed, and their sums.

  Args:
    scores: what a file says of a response, by name.
    weights: weights of those whose sum is its 'reward'.
    margin_weights: weights of those whose sum is its 'margin'; {}: no such sum.
  """
  sums = {
    'reward': _sum(scores, weights), 'margin': _sum(scores, margin_weights)
  }  # fmt: skip
  names = {*weights, *margin_weights}
  if not margin_weights:
    del sums['margin']
  return {name: scores[name] for name in sorted(names)} | sums


def _sum(scores, weights) -> float:
  return math.fsum(weight * scores[name] for name, weight in weights.items())
