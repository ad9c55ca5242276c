import numpy as np
import pytest
from helpers import PROBLEM, make_record

from critic_jax.rollouts import joining
from critic_jax.rollouts.styles import plain
from critic_jax.types import Problem


def scored(reward, stage='solve', parent=None, **fields):
  scores = {} if reward is None else {'reward': float(reward)}
  return make_record(stage, parent, scores=scores, **fields)


@pytest.mark.parametrize(
  ('rewards', 'expected'),
  [
    ([0, 1, 1], 1),  # the first that is right
    ([0, 0], 0),  # nobody is: the first
    ([None, 0, None], 1),  # a grader timed out
    ([0.25, 0.5, 0.5], 1),  # the highest
    ([None], None),
    ([], None),
  ],
)
def test_the_best_is_the_first_with_the_highest_reward(rewards, expected):
  candidates = [scored(r, index=i) for i, r in enumerate(rewards)]
  best = joining.best(candidates)
  assert best is (None if expected is None else candidates[expected])


def test_one_without_tokens_is_no_candidate():
  other = scored(0, index=1)
  assert joining.best([scored(1, tokens=[]), other]) is other


def test_who_joins_has_the_prompt_of_the_group_and_the_rest_of_its_own():
  group = [scored(0, prompt_tokens=[7, 8], index=i) for i in range(2)]
  told = scored(1, 'refine', prompt_tokens=[7, 8, 9, 9], tokens=[3, 5, 6])
  *own, row = joining.join(group, told)
  assert all(a is b for a, b in zip(own, group, strict=True))
  assert row.prompt_tokens.tolist() == [7, 8]
  assert row.tokens is told.tokens and row.scores == told.scores
  # They were sampled under the other prompt, and had these there.
  np.testing.assert_array_equal(row.logprobs, told.logprobs)
  assert told.prompt_tokens.tolist() == [7, 8, 9, 9]


def test_without_a_candidate_there_is_a_row_that_teaches_nothing():
  group = [scored(1), scored(0, index=1)]
  assert joining.join(group, None)[2].scores == {}


def tree():
  """Two problems: two solutions each and one more, critiques, refinements."""
  solutions = [
    scored(i == 4, problem=problem, index=i % 3)
    for i, problem in enumerate([PROBLEM] * 3 + [Problem('b', '?', '1')] * 3)
  ]
  own = [r for r in solutions if r.index < 2]
  critiques = [make_record('critique', solution) for solution in own]
  refinements = [
    scored(c.parent is solutions[1] and i, 'refine', c, index=i)
    for c in critiques[::-1]  # in any order
    for i in range(2)
  ]
  references = [scored(1, 'reference', index=i) for i in range(2)]
  return solutions, critiques, refinements, references


def test_a_group_has_its_own_candidates_in_order():
  solutions, critiques, refinements, references = tree()
  groups, candidates = joining.split(
    solutions, refinements, references, num_own=2, num_solved=3
  )
  assert [[solutions.index(r) for r in group] for group in groups] == [
    [0, 1], [3, 4]
  ]  # fmt: skip
  for number, its in enumerate(candidates):
    parents = [r.parent.parent for r in its[:4]]
    first, second = groups[number]
    assert parents == [first, first, second, second]
    assert [r.index for r in its[:4]] == [0, 1, 0, 1]
    assert its[4:] == [solutions[3 * number + 2], references[number]]
  _, candidates = joining.split(
    solutions, refinements, [], num_own=2, num_solved=3
  )
  assert [len(its) for its in candidates] == [5, 5]


def test_records_tell_what_became_of_them():
  solutions, critiques, refinements, references = tree()
  groups, candidates = joining.split(
    solutions, refinements, references, num_own=2, num_solved=3
  )
  joined = [joining.best(its) for its in candidates]
  records = [*solutions, *critiques, *refinements, *references]
  told = joining.tell(records, groups, candidates, joined)
  assert [r.id for r in told] == [r.id for r in records]
  scores = [r.scores for r in told[:6]]
  assert [s.get('all_wrong') for s in scores] == [1, 1, None, 0, 0, None]
  assert [s.get('rescued') for s in scores] == [1, 1] + [None] * 4
  assert [s.get('joined') for s in scores] == [None, None, 0] * 2
  # The second refinement of the second solution is right; nobody's of 'b' is,
  # but its reference.
  chosen = [r.id for r in told if r.scores.get('joined')]
  assert chosen == ['sum-0/solve.1/critique.0/refine.1', 'sum-0/reference.1']
  # Parents are the told ones: a record is written once.
  new = set(map(id, told))
  assert all(id(r.parent) in new for r in told if r.parent)


def test_nobody_is_rescued_where_nobody_joins():
  group = [scored(0), scored(None, index=1)]
  told = joining.tell(group, [group], [[]], [None])
  assert [r.scores['rescued'] for r in told] == [0, 0]
  unknown = [scored(None)]
  assert joining.tell(unknown, [unknown], [[]], [None])[0].scores == {}


def test_a_reference_is_a_response_to_the_problem():
  problem = Problem('p', '6 * 7?', '42', 'It is \\boxed{42}.')
  record = joining.reference(plain.STAGES.solve, problem)
  assert (record.id, record.text) == ('p/reference.0', problem.solution)
  assert record.parsed == {'answer': '42'}
  with pytest.raises(ValueError, match='problem sum-0: got no solution'):
    joining.reference(plain.STAGES.solve, PROBLEM)
