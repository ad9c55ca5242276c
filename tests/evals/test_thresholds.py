"""Thresholds of the scores of steps, tuned on one part only."""

import dataclasses

import numpy as np
import pytest
from helpers import PROBLEM, make_record

from critic_jax.evals import processbench, thresholds

RANDOM = np.random.default_rng(0)


def scored(scores, label, part='gsm8k', number=0):
  problem = dataclasses.replace(PROBLEM, id=f'{part}-{number}')
  parsed = dict(
    part=part, first_error=label, num_steps=len(scores), step_scores=[*scores]
  )
  return make_record(problem=problem, text='a', parsed=parsed)


def random_case(num=30, seed=0):
  random = np.random.default_rng(seed)
  scores = [random.random(random.integers(1, 6)).round(2) for _ in range(num)]
  labels = [int(random.integers(-1, len(s))) for s in scores]
  return scores, labels


def f1(scores, labels, threshold):
  hits = {True: [], False: []}
  for s, label in zip(scores, labels, strict=True):
    found = next((i for i, x in enumerate(s) if x < threshold), -1)
    hits[label == -1].append(found == label)
  a, b = (np.mean(x) for x in hits.values())
  return 2 * a * b / (a + b) if a + b else 0.0


@pytest.mark.parametrize('seed', range(5))
def test_the_best_threshold_is_that_of_a_fine_grid(seed):
  scores, labels = random_case(seed=seed)
  best = thresholds.best_threshold(scores, labels)
  grid = [f1(scores, labels, t) for t in np.arange(-0.005, 1.02, 0.005)]
  assert f1(scores, labels, best) == pytest.approx(max(grid))


def test_the_best_threshold_by_hand():
  scores = [[0.9, 0.2], [0.8, 0.9], [0.3, 0.9]]
  # Above 0.3 and below 0.8 it finds both wrong steps and passes the right one.
  assert thresholds.best_threshold(scores, [1, -1, 0]) == pytest.approx(0.55)
  # Nothing is found whatever it is: the lowest.
  assert thresholds.best_threshold([[0.5], [0.5]], [0, -1]) == 0.0


def test_without_both_kinds_nothing_can_be_tuned():
  for labels in ([0, 0], [-1, -1]):
    with pytest.raises(ValueError, match='expected both kinds'):
      thresholds.best_threshold([[0.5], [0.6]], labels)


def test_a_score_at_the_threshold_is_right():
  assert thresholds.first_below([0.5], 0.5) == -1
  assert thresholds.first_below([0.5, 0.49], 0.5) == 1
  assert thresholds.first_below([], 0.5) == -1


def test_critiques_say_what_a_threshold_finds():
  solutions = [
    scored([0.9, 0.2, 0.1], 1), scored([0.9], -1), make_record(text='a'),
  ]  # fmt: skip
  written = thresholds.critiques(solutions, 0.5)
  assert [processbench.prediction(c) for c in written] == [1, -1]
  assert [c.parent for c in written] == solutions[:2]
  assert written[0].parsed['verdict'] == 'incorrect'
  f1 = processbench.metrics(written)['f1']
  assert f1.value == 1.0


def parts(shift=0.0):
  """Two parts; the scores of the second are shifted."""
  records = []
  for part, add in (('gsm8k', 0.0), ('math', shift)):
    scores, labels = random_case(40, seed=len(part))
    for i, (s, label) in enumerate(zip(scores, labels, strict=True)):
      # A wrong step has a low score, others a high one.
      s = [0.3 if j == label else 0.6 + 0.3 * x for j, x in enumerate(s)]
      records.append(scored([x + add for x in s], label, part, i))
  return records


def test_it_is_tuned_on_one_part_and_measured_on_the_others():
  tuned = thresholds.metrics(parts())
  assert tuned['gsm8k/f1'].value == tuned['heldout_f1'].value == 1.0
  assert 0.3 < tuned['threshold'].value < 0.61
  # Other scores of the other part are not seen when it is tuned.
  shifted = thresholds.metrics(parts(-0.3))
  assert shifted['threshold'] == tuned['threshold']
  assert shifted['gsm8k/f1'].value == 1.0
  assert shifted['heldout_f1'].value == shifted['math/f1'].value < 0.9
  # Nor are its labels.
  other_labels = [
    dataclasses.replace(r, parsed={**r.parsed, 'first_error': -1})
    if r.parsed['part'] == 'math' else r for r in parts()
  ]  # fmt: skip
  assert thresholds.metrics(other_labels)['threshold'] == tuned['threshold']


def test_nothing_is_tuned_on_what_is_measured():
  own = [r for r in parts() if r.parsed['part'] == 'gsm8k']
  others = [r for r in parts() if r.parsed['part'] == 'math']
  for records in (own, others, [], [make_record(text='a')]):
    assert thresholds.metrics(records) == {}
  assert thresholds.compare(parts(), parts()) == {}
