import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)

from configs import common
from configs import grpo as grpo_config
from critic_jax.recipes import grpo
from critic_jax.types import Problem


def section(**changes):
  return settings(
    dict(
      batch_size=2,
      aggregate='sequence',
      num_solutions=4,
      **common.policy_gradient(),
      **common.solver_rewards(),
    ),
    **changes,
  )


def collect(texts, **changes):
  """Collects scripted groups; the second problem's solutions are all wrong."""
  other = Problem('other', 'Ben has 1 pen.', '1')
  solver = scripted(lambda p, i: WRONG if 'Ben' in p else texts[i])
  recipe = make_recipe(grpo, section(**changes), {'solver': solver}, grade)
  batch, records = recipe.collect(
    {'solver': None}, [PROBLEM, other], jax.random.key(0)
  )
  return recipe, batch, records


def row_advantages(batch):
  return [
    row[mask][0]
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]


@pytest.mark.parametrize(
  ('advantage', 'expected'),
  [
    # Rewards 1, 0, 0, 1: mean 1/2, deviation 1/2.
    (dict(name='group_relative'), [1, -1, -1, 1]),
    (dict(name='group_relative', normalize=False), [0.5, -0.5, -0.5, 0.5]),
    # The mean of the three others is 1/3 or 2/3.
    (dict(name='leave_one_out'), [2 / 3, -2 / 3, -2 / 3, 2 / 3]),
  ],
)
def test_advantages_by_hand(advantage, expected):
  _, batch, records = collect([RIGHT, WRONG, 'Hm.', RIGHT], advantage=advantage)
  assert [r.scores['reward'] for r in records] == [1, 0, 0, 1, 0, 0, 0, 0]
  np.testing.assert_allclose(
    row_advantages(batch), [*expected, 0, 0, 0, 0], rtol=1e-6
  )


def test_wins_in_place_of_the_rewards_that_are_compared():
  """Two of four are right: each wins two games of three, and draws one."""
  _, batch, records = collect(
    [RIGHT, WRONG, 'Hm.', RIGHT], preference=dict(name='raters'),
    advantage=dict(name='group_relative', normalize=False),
  )  # fmt: skip
  assert [r.scores['correct'] for r in records] == [1, 0, 0, 1, 0, 0, 0, 0]
  rates = [2.5 / 3, 0.5 / 3, 0.5 / 3, 2.5 / 3, *[0.5] * 4]
  for name in ('win_rate', 'reward'):
    np.testing.assert_allclose([r.scores[name] for r in records], rates, 1e-6)
  np.testing.assert_allclose(
    row_advantages(batch), np.array(rates) - 0.5, atol=1e-6
  )


@pytest.mark.parametrize('text', [RIGHT, WRONG])
def test_groups_of_equal_rewards_teach_exactly_nothing(text):
  _, batch, _ = collect([text] * 4)
  assert batch['mask'].any() and not batch['advantages'].any()


def test_a_solution_cut_off_is_not_right():
  long = RIGHT + ' And so on' * 1000
  _, batch, records = collect([long, RIGHT, WRONG, WRONG])
  assert [r.finish for r in records[:2]] == ['length', 'stop']
  assert [r.scores['reward'] for r in records[:4]] == [0, 1, 0, 0]


def test_without_a_penalty_there_is_no_reference():
  _, batch, _ = collect([RIGHT, WRONG, WRONG, WRONG])
  assert sorted(batch) == [
    'advantages', 'logprobs', 'mask', 'mean_weights', 'tokens', 'weights'
  ]  # fmt: skip


def test_a_penalty_without_a_reference_is_named():
  with pytest.raises(ValueError, match="kl.coef: got 0.1 without .* 'ref'"):
    collect([RIGHT] * 4, kl=dict(name='k3', coef=0.1))


@pytest.mark.parametrize('variant', ['grpo', 'dr_grpo', 'dapo', 'rloo'])
def test_the_config_of_each_variant_gives_a_finite_loss(variant):
  config = grpo_config.get_config(variant).phases.rl
  config.batch_size, config.num_solutions = 2, 4
  config.row_shapes = ()  # a row a response, to see their weights
  solver = nano()
  params = init(solver=solver)
  roles = {**params, 'ref': params['solver']}
  script = scripted(lambda p, i: RIGHT if i % 2 else 'Hm.')
  models = {'solver': script, 'ref': script}
  recipe = make_recipe(grpo, config, models, grade)
  batch, _ = recipe.collect(roles, [PROBLEM] * 2, jax.random.key(0))
  total, (metrics, _) = jax.jit(recipe.loss)(params, batch)
  assert np.isfinite(total)
  assert all(np.isfinite(x).all() for x in metrics.values())
  assert batch['advantages'].any()
  # Scripted texts have log-probability -1 a token: far from the policy's.
  assert ('loss/kl' in metrics) == (variant == 'grpo')
  # GRPO weighs rows, the others tokens.
  per_row = batch['weights'].sum(axis=1)
  equal = np.allclose(per_row, per_row[0])
  assert equal == (variant == 'grpo')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(advantage=dict(name='gea')), "got 'gea'"),
    (dict(objective=dict(name='gspq')), "mean 'gspo'"),
    (dict(kl=dict(name='k0', coef=0.0)), "got 'k0'"),
    (dict(preference=dict(name='rater')), "mean 'raters'"),
    (dict(self_play=dict(share=0.1, tau=0.0)), 'self_play: .* set preference'),
  ],
)
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    make_recipe(grpo, section(**changes), {'solver': nano()}, grade)
