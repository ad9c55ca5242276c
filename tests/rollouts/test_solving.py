import jax
import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, grade, scripted, solution

from critic_jax.rollouts import solving
from critic_jax.types import Problem

OTHER = Problem('other', 'Ben has 1 pen. How many?', '1')
ROLES = dict(solver=None)


def solve(lm, examples, num_solutions, **settings):
  step = solving.bind(lm, num_solutions, **settings)
  return step(ROLES, examples, jax.random.key(0))


def solver():
  return scripted(lambda prompt, index: (RIGHT, WRONG)[index])


@pytest.mark.parametrize('grade', [None, grade])
def test_the_solver_solves_each_problem(grade):
  solutions = solve(solver(), [PROBLEM, OTHER], 2, grade=grade)
  assert [s.id for s in solutions] == [
    f'{problem}/solve.{i}' for problem in ('sum-0', 'other') for i in (0, 1)
  ]
  assert [s.text for s in solutions] == [RIGHT, WRONG] * 2
  marks = [s.parsed.get('correct') for s in solutions]
  assert marks == ([True, False, False, False] if grade else [None] * 4)


@pytest.mark.parametrize('is_graded', [False, True])
def test_given_solutions_are_the_examples(is_graded):
  given = [solution(solver(), WRONG), solution(solver(), RIGHT)]
  settings = dict(grade=grade) if is_graded else {}
  solutions = solve(None, [*given, given[0]], 0, **settings)
  assert [s.text for s in solutions] == [WRONG, RIGHT, WRONG]
  # A step may have one of them twice: they are two records.
  assert solutions[0] is not solutions[2]
  assert solutions[0] is not given[0]


def test_a_rule_solves_in_the_solvers_place():
  lm = solver()
  solutions = solve(
    lm, [PROBLEM, OTHER], 2, write=lambda problem, rng: problem.id, grade=grade
  )
  assert [s.text for s in solutions] == ['sum-0', 'sum-0', 'other', 'other']
  assert [s.parsed['grade'] for s in solutions] == ['unparsable'] * 4
  assert {s.stage for s in solutions} == {'solve'} and not lm.prompts


@pytest.mark.parametrize('count', [-1, 0.5, True])
def test_a_wrong_number_is_refused(count):
  with pytest.raises(ValueError, match=f'num_solutions: got {count}'):
    solving.bind(solver(), count)
