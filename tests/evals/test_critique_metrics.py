"""Verdict accuracy on handmade records."""

import dataclasses
import math

import numpy as np
import pytest

from critic_jax.evals import critique_metrics, ranking
from critic_jax.rewards import refinement
from critic_jax.types import Problem, Record


def record(problem, stage, parent, parsed, *, length=4, finish='stop'):
  empty = np.zeros(0, np.int32)
  tokens = np.zeros(length, np.int32)
  logprobs = np.zeros(length, np.float32)
  return Record(
    Problem(problem, '', ''), stage, parent, 0, empty, tokens, logprobs, '',
    finish, parsed,
  )  # fmt: skip


def judge(right, verdict, *, problem='p', **fields):
  """Makes a solution and a critique of it."""
  parsed = {'correct': right, 'answer': '1', 'grade': 'right'}
  solution = record(problem, 'solve', None, parsed)
  parsed = {
    'verdict': verdict,
    'status': fields.pop('status', 'ok'),
    'step': None,
  }
  return [solution, record(problem, 'critique', solution, parsed, **fields)]


def values(estimates):
  return {name: estimate.value for name, estimate in estimates.items()}


def test_by_hand():
  records = [
    *judge(True, 'correct'),
    *judge(True, 'incorrect'),
    *judge(True, None, status='missing', length=1, finish='prompt'),
    *judge(False, 'incorrect'),
    *judge(False, 'incorrect'),
    *judge(False, 'incorrect'),
    *judge(False, 'correct'),
    *judge(False, None, status='unfinished', length=27, finish='length'),
  ]
  got = values(critique_metrics.metrics(records))
  # Right: 1 of 3. Wrong: 3 of 5. Called wrong: 4 of 8, of which 3 are.
  assert got['accuracy_right'] == pytest.approx(1 / 3)
  assert got['accuracy_wrong'] == got['recall'] == pytest.approx(3 / 5)
  assert got['balanced_accuracy'] == pytest.approx((1 / 3 + 3 / 5) / 2)
  assert got['called_wrong'] == pytest.approx(4 / 8)
  assert got['precision'] == pytest.approx(3 / 4)
  # F1 = 2 * (3/4 * 3/5) / (3/4 + 3/5) = 0.9 / 1.35
  assert got['f1'] == pytest.approx(0.9 / 1.35)
  assert got['missing'] == got['unfinished'] == pytest.approx(1 / 8)
  assert got['contradictory'] == 0
  assert got['truncated'] == got['refused'] == pytest.approx(1 / 8)
  assert got['length'] == pytest.approx((6 * 4 + 1 + 27) / 8)
  counts = critique_metrics.metrics(records)
  assert counts['accuracy_wrong'].n == 5 and counts['precision'].n == 4


@pytest.mark.parametrize('verdict', ['correct', 'incorrect'])
def test_a_constant_critic_is_no_better_than_chance(verdict):
  records = []
  for right in [True] * 9 + [False]:
    records += judge(right, verdict)
  assert values(critique_metrics.metrics(records))['balanced_accuracy'] == 0.5


def test_a_contradiction_earns_nothing():
  # A parser that kept one of two verdicts must not make it count.
  records = judge(True, 'correct', status='contradictory')
  records += judge(False, 'incorrect', status='contradictory')
  got = values(critique_metrics.metrics(records))
  assert got['balanced_accuracy'] == 0 and got['contradictory'] == 1
  assert got['called_wrong'] == 0


def test_solutions_of_unknown_correctness_are_left_out():
  solution, critique = judge(False, 'correct')
  parsed = {'correct': False, 'answer': '1', 'grade': 'timeout'}
  timeout = dataclasses.replace(solution, parsed=parsed)
  records = [timeout, dataclasses.replace(critique, parent=timeout)]
  got = critique_metrics.metrics(records + judge(True, 'correct'))
  assert got['called_wrong'].n == 1
  assert got['accuracy_right'].value == 1
  assert math.isnan(got['accuracy_wrong'].value)
  assert math.isnan(got['balanced_accuracy'].value)


@pytest.mark.parametrize('finish', ['stop', 'length', 'prompt'])
@pytest.mark.parametrize('grade', ['right', 'wrong', 'unparsable', 'timeout'])
def test_evaluations_and_rewards_agree_on_what_is_right(grade, finish):
  correct = grade == 'right' and finish == 'stop'
  parsed = {'correct': correct, 'answer': '1', 'grade': grade}
  solution = record('p', 'solve', None, parsed, finish=finish)
  expected = refinement.is_right(solution)
  assert critique_metrics.truth(solution) is expected
  # One that is known is ranked above the other.
  other = record('p', 'solve', None, {'correct': not correct})
  values = {id(solution): 0.0, id(other): 1.0}
  table = ranking.table([solution, other], lambda s, critiques: values[id(s)])
  assert len(table.clusters) == (expected is not None)


def test_no_critiques():
  assert critique_metrics.metrics([]) == {}
  assert critique_metrics.compare([], judge(True, 'correct')) == {}


def test_compare_pairs_problems():
  def critiques(good):
    return [
      r
      for i in range(20)
      for r in judge(i < 10, 'correct' if i < good else None, problem=str(i))
    ]

  got = critique_metrics.compare(critiques(2), critiques(9))['accuracy_right']
  assert got.value == pytest.approx(0.7)
  assert 0.35 < got.low < 0.7 < got.high <= 1


def test_a_solution_from_a_file_has_a_truth_without_a_grade():
  solution, critique = judge(True, 'correct')
  parents = [
    dataclasses.replace(solution, parsed=parsed)
    for parsed in ({'correct': True}, {'first_error': 1}, {'answer': '3'})
  ]
  assert [critique_metrics.truth(parent) for parent in parents] == [
    True,
    False,
    None,
  ]
  got = critique_metrics.metrics(
    [dataclasses.replace(critique, parent=parent) for parent in parents]
  )
  assert got['called_wrong'].n == 2
  assert got['accuracy_right'].value == 1 and got['accuracy_wrong'].value == 0


def written_by(generator, steps, right, verdict, length):
  """Makes a solution with what is known of it, and a critique of it."""
  records = judge(right, verdict, problem=generator or 'p', length=length)
  records[0].parsed.update(generator=generator, num_steps=steps)
  return records


GROUPED = [
  *written_by('qwen', 3, True, 'correct', 15),
  *written_by('qwen', 9, True, 'incorrect', 16),
  *written_by('llama', 8, False, 'incorrect', 31),
  *written_by('', None, False, 'correct', 99999),
]


@pytest.mark.parametrize(
  ('key', 'counts'),
  [
    ('generator', {'llama': 1, 'qwen': 2}),  # nobody knows who wrote the last
    ('steps', {'3': 1, '8-10': 2}),
    ('critique_length', {'0-15': 1, '16-31': 2, '32768+': 1}),
    ('solution_length', {'0-15': 4}),  # the texts are empty
  ],
)
def test_groups_and_their_order(key, counts):
  got = critique_metrics.by(GROUPED, critique_metrics.KEYS[key])
  sizes = {group: each['called_wrong'].n for group, each in got.items()}
  assert list(sizes.items()) == list(counts.items())


def test_metrics_of_a_group_are_those_of_its_critiques():
  got = critique_metrics.by(GROUPED, critique_metrics.KEYS['generator'])
  assert got['qwen']['accuracy_right'].value == 0.5
  assert got['llama'] == critique_metrics.metrics(GROUPED[4:6])


def test_a_group_has_the_records_below_its_critiques():
  solution, critique = judge(False, 'incorrect')
  refinement = record('p', 'refine', critique, {'correct': True})
  groups = critique_metrics.by(
    [solution, critique, refinement],
    lambda c: c.parsed['verdict'],
    lambda records: {'records': [r.stage for r in records]},
  )
  assert groups == {'incorrect': {'records': ['critique', 'refine']}}


def test_a_group_of_unknown_correctness_is_left_out():
  solution, critique = judge(False, 'incorrect')
  solution.parsed['grade'] = 'timeout'
  assert critique_metrics.by([critique], lambda _: 'all') == {}


def test_ranges():
  key = critique_metrics.ranges(lambda number: number, (2, 4, 5))
  names = [str(key(number)) for number in (1, 2, 3, 4, 5, 900, None)]
  assert names == ['None', '2-3', '2-3', '4', '5+', '5+', 'None']
