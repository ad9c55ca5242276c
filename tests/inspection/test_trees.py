"""Families, advantages, and the best and worst critiques among records."""

import dataclasses

import numpy as np
import pytest
import synthetic_run
from synthetic_run import message

from critic_jax.inspection import trees
from critic_jax.objectives import advantages
from critic_jax.types import Problem
from critic_jax.workdir import run_dir

PROBLEM = Problem('p-0', 'How many?', '7')


def solution(right=False, problem=PROBLEM, **parsed):
  parsed = {'answer': '7', 'correct': right} | parsed
  return message(problem, 'solve', parsed=parsed)


def critique(parent, verdict, index=0, reward=None):
  status = 'missing' if verdict is None else 'ok'
  return message(
    parent.problem,
    'critique',
    parent,
    index,
    parsed={'verdict': verdict, 'status': status},
    scores={} if reward is None else {'reward': reward},
  )


def refinement(parent, right, index=0, stage='refine'):
  return message(
    parent.problem, stage, parent, index, parsed={'correct': right}
  )


def test_family_is_what_is_above_and_below():
  records = synthetic_run.trees(2)
  [member] = [r for r in records if r.id == 'sum-1/solve.1/critique.1']
  assert [r.id for r in trees.family(records, [member])] == [
    'sum-1/solve.1',
    'sum-1/solve.1/critique.1',
    'sum-1/solve.1/critique.1/refine.0',
    'sum-1/solve.1/critique.1/refine.1',
  ]
  assert trees.family(records, []) == []
  above = trees.family(records, [r for r in records if r.stage == 'refine'])
  assert 'sum-1/solve.1/critique.0' not in {r.id for r in above}


def test_responses():
  records = synthetic_run.trees(1)
  children = trees.responses(records)
  assert [r.index for r in children[records[0]]] == [0, 1]
  assert {r.stage for r in children[records[0]]} == {'critique'}
  assert records[-1] not in children


@pytest.mark.parametrize(
  ('name', 'estimator'),
  [
    ('group_relative', advantages.group_relative),
    ('leave_one_out', advantages.leave_one_out),
  ],
)
def test_advantages_are_those_of_training(name, estimator):
  rewards = np.array([[2, 1, 0, 0.5], [1, 1, 1, 1], [0, 0, 0, 1]], np.float32)
  records = []
  for row in rewards:
    # A step may draw a problem twice: ids are no groups.
    parent = solution()
    records.append(parent)
    records += [
      critique(parent, 'correct', i, float(reward))
      for i, reward in enumerate(row)
    ]
  advantages = trees.advantages(records, name=name)
  assert list(advantages) == [r for r in records if r.stage == 'critique']
  expected = np.asarray(estimator(rewards))
  np.testing.assert_allclose(
    list(advantages.values()), expected.reshape(-1), rtol=1e-6
  )


def test_advantages_without_normalisation_by_hand():
  parent = solution()
  records = [
    critique(parent, 'correct', i, reward)
    for i, reward in enumerate((2.0, 1.0, 0.0))
  ]
  advantages = trees.advantages(records, normalize=False)
  assert list(advantages.values()) == [1.0, 0.0, -1.0]


def test_solutions_of_a_problem_are_a_group_though_they_have_no_parent():
  other = Problem('p-1', 'How few?', '8')
  records = [
    dataclasses.replace(
      solution(problem=problem), index=index, scores={'reward': reward}
    )
    for problem, index, reward in (
      (PROBLEM, 0, 1.0), (PROBLEM, 1, 0.0),
      (PROBLEM, 0, 1.0), (PROBLEM, 1, 1.0),  # drawn again
      (other, 2, 0.0), (other, 3, 3.0),
    )
  ]  # fmt: skip
  assert list(trees.advantages(records, normalize=False).values()) == [
    0.5, -0.5, 0.0, 0.0, -1.5, 1.5
  ]  # fmt: skip


def test_critiques_of_different_solutions_are_no_group():
  records = [critique(solution(), 'correct', i, float(i)) for i in range(2)]
  assert list(trees.advantages(records).values()) == [0.0, 0.0]


def test_advantages_are_known_from_saved_records(tmp_path):
  parent = solution()
  records = [parent, critique(parent, None, 0, 3.0), critique(parent, None, 1)]
  records[2] = dataclasses.replace(records[2], scores={'reward': 1.0})
  run_dir.write_records(tmp_path / 'x.jsonl.gz', records)
  records_read = run_dir.read_records(tmp_path / 'x.jsonl.gz')
  assert list(trees.advantages(records_read).values()) == [1.0, -1.0]


def test_advantages_of_another_estimator():
  with pytest.raises(ValueError, match="got 'gae'"):
    trees.advantages([], name='gae')


def test_confusion_counts_silence_and_leaves_out_the_unknown():
  right, wrong = solution(True), solution(False)
  unknown = message(PROBLEM, 'solve', parsed={})
  # Solutions from files that have labels of steps only.
  solution_from_file = message(PROBLEM, 'solve', parsed={'first_error': 2})
  records = [
    critique(right, 'correct'),
    critique(right, None),
    critique(wrong, 'incorrect'),
    critique(wrong, 'correct'),
    critique(solution_from_file, 'incorrect'),
    critique(unknown, 'correct'),
  ]
  assert trees.confusion(records) == {
    True: {'correct': 1, None: 1},
    False: {'incorrect': 2, 'correct': 1},
  }


def test_worth_is_the_reward_or_what_it_would_be():
  right, wrong = solution(True), solution(False)
  called = critique(wrong, 'incorrect')
  halves = [refinement(called, True), refinement(called, False, 1)]
  control = refinement(called, True, stage='refine_empty')
  assert trees.worth(critique(wrong, 'correct', reward=0.3), []) == 0.3
  assert trees.worth(called, [*halves, control]) == 1.5
  assert trees.worth(called, []) == 1.0
  assert trees.worth(critique(wrong, 'correct'), []) == 0.0
  assert trees.worth(critique(wrong, None), []) == 0.0
  assert trees.worth(critique(right, 'correct'), []) == 1.0
  passed = critique(right, 'correct')
  assert trees.worth(passed, [refinement(passed, True)]) == 1.0
  # To refine a right solution earns nothing, whatever comes of it.
  harmful = critique(right, 'incorrect')
  assert trees.worth(harmful, [refinement(harmful, True)]) == 0.0


def test_extremes_are_about_different_problems():
  records = []
  for number in range(4):
    parent = solution(problem=Problem(f'p-{number}', '', ''))
    records += [parent, critique(parent, 'incorrect', 0)]
    records.append(refinement(records[-1], number >= 2))
    records += [critique(parent, 'correct', 1), critique(parent, None, 2)]
  best, worst = trees.extremes(records, 3)
  assert [r.id for r in best] == [
    'p-2/solve.0/critique.0', 'p-3/solve.0/critique.0', 'p-0/solve.0/critique.0'
  ]  # fmt: skip
  assert len({r.problem.id for r in worst}) == 3
  assert {r.parsed['verdict'] for r in worst} <= {'correct', None}


def test_extremes_by_reward_need_no_grade():
  parent = message(PROBLEM, 'solve', parsed={})
  records = [parent] + [
    critique(parent, 'correct', i, reward)
    for i, reward in enumerate((0.5, 2.0, -1.0))
  ]
  best, worst = trees.extremes(records)
  assert [r.index for r in best] == [1] and [r.index for r in worst] == [2]
  assert trees.extremes([parent]) == ([], [])
  assert trees.extremes(records[:2]) == ([records[1]], [])
