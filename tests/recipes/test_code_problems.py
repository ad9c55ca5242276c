"""The recipes on problems whose answers are programs."""

import jax
import pytest
from loop_helpers import critique, make_recipe, scripted, settings

from configs import common, ctrl, refcritic
from critic_jax.data import problems
from critic_jax.graders.pool import Pool
from critic_jax.recipes import grpo
from critic_jax.recipes import refcritic as recipe_lib
from critic_jax.rollouts.styles import programs

ROW = dict(
  text='Write a function to square a number.',
  code='def square(x): return x * x',
  test_list=['assert square(3) == 9', 'assert square(-4) == 16'],
)
RIGHT = '```python\ndef square(x):\n  return x * x\n```'
WRONG = '```python\ndef square(x):\n  return 3 * x\n```'
CHEAT = '```python\nimport os\nos._exit(0)\n```'


@pytest.fixture(scope='module')
def grade():
  try:
    graders = Pool(1, name='code', deadline_s=5.0)
  except ValueError as error:
    pytest.skip(str(error))
  with graders:
    yield graders.grade


def problem():
  return problems.parse(ROW, 'mbpp', default_id='mbpp-0')


def lm(script):
  return scripted(
    script, prompts='programs', max_new_tokens=128, lengths=(384,)
  )


def test_programs_are_rewarded_by_their_tests(grade):
  texts = [RIGHT, WRONG, CHEAT, 'square(x) = x * x']
  section = settings(
    dict(
      batch_size=1, aggregate='sequence', num_solutions=4,
      **common.policy_gradient(), **common.solver_rewards(),
    )
  )  # fmt: skip
  solver = lm(lambda prompt, index: texts[index])
  recipe = make_recipe(grpo, section, {'solver': solver}, grade)
  _, records = recipe.collect({'solver': None}, [problem()], jax.random.key(0))
  assert [r.scores['reward'] for r in records] == [1, 0, 0, 0]
  assert [r.parsed['grade'] for r in records] == [
    'right', 'wrong', 'wrong', 'unparsable'
  ]  # fmt: skip
  assert records[0].parsed['answer'] == 'def square(x):\n  return x * x\n'
  [prompt] = solver.prompts
  assert 'square(3)' in prompt and '9' not in prompt and '16' not in prompt


def test_critiques_of_programs_are_refined_and_graded(grade):
  solver = lm(
    lambda prompt, index: RIGHT if 'x times itself' in prompt else WRONG
  )
  critic = lm(
    lambda prompt, index: critique(
      'incorrect', 'It must be x times itself.' if index else 'Hm.'
    )
  )
  section = settings(
    dict(
      batch_size=1, aggregate='token', copy={}, **refcritic.refcritic(),
    ),
    num_solutions=1, num_critiques=2, num_refinements=2, num_controls=0,
  )  # fmt: skip
  models = {'solver': solver, 'critic': critic}
  recipe = make_recipe(recipe_lib, section, models, grade)
  roles = {'solver': None, 'critic': None}
  _, records = recipe.collect(roles, [problem()], jax.random.key(0))
  scores = [r.scores for r in records if r.stage == 'critique']
  assert [s['judge'] for s in scores] == [1, 1]
  assert [s['refine'] for s in scores] == [0, 1]
  # The critic sees the program; the solver the advice.
  assert 'return 3 * x' in critic.prompts[0]
  assert any('x times itself' in prompt for prompt in solver.prompts)


def test_ctrl_pays_the_tests_that_a_revision_passes(grade):
  """A verdict must be there, and nobody grades it."""
  half = WRONG  # right of 3, wrong of -4
  texts = {'all': RIGHT, 'half': half, 'none': CHEAT, 'text': 'Sorry.'}

  def solve(prompt, index):
    return next((t for word, t in texts.items() if f'({word})' in prompt), half)

  critiques = [
    critique(verdict, f'Do ({word}).')
    for word in texts
    for verdict in ('incorrect', 'correct')
  ]
  silent = 'Do (all).'
  critic = lm(lambda prompt, index: [*critiques, silent][index])
  section = settings(
    dict(batch_size=1, aggregate='token', **ctrl.reward()),
    num_critiques=len(critiques) + 1, num_controls=0,
    kl=dict(name='k3', coef=0.0),
  )  # fmt: skip
  recipe = make_recipe(
    recipe_lib, section, {'solver': lm(solve), 'critic': critic}, grade
  )
  roles = {'solver': None, 'critic': None}
  _, records = recipe.collect(roles, [problem()], jax.random.key(0))
  scores = [r.scores for r in records if r.stage == 'critique']
  rewards = [s['reward'] for s in scores]
  assert rewards == [1, 1, 0.5, 0.5, 0, 0, 0, 0, 0]
  assert [s['judge'] for s in scores] == [1, 0] * 4 + [0]


def test_the_style_reads_programs():
  parsed = programs.STAGES.refine.parse(f'Now:\n{RIGHT}')
  assert parsed == {'answer': 'def square(x):\n  return x * x\n'}


def test_a_grader_of_the_other_kind_is_refused():
  with Pool(1) as graders:
    with pytest.raises(ValueError, match="name: got 'answers' for the answer"):
      graders.check([problem()])
