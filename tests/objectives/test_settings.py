"""Defaults are the papers', and the limits of settings are where they are."""

import inspect

import jax.numpy as jnp
import pytest

from critic_jax.objectives import (
  advantages,
  clipping,
  contrastive,
  ensembles,
  gae,
  games,
  kl,
  pair_labels,
  pair_preferences,
  policy,
  preference,
  quantile,
  reward,
  value,
  win_rates,
)

# Each default that a config may leave out, with its source.
DEFAULTS = {
  'group_relative': dict(normalize=True),  # GRPO
  'ppo_clip': dict(clip_low=0.2, clip_high=0.2, dual_clip=None),  # PPO, 6.1
  'gspo': dict(clip_low=3e-4, clip_high=4e-4),  # GSPO, 5.1
  'gae': dict(bootstrap=None),  # nothing follows the last token
  'cispo': dict(clip_low=1.0, clip_high=4.0),  # ours; see its docstring
  'shaped': dict(gamma=0.1),  # the code of LUFFY and Critique-GRPO
  'clipped': dict(clip=0.2),  # PPO's implementation
  'dpo': dict(beta=0.1, label_smoothing=0.0),  # DPO, appendix B
  'ipo': dict(tau=0.1, per_token=False),  # ours; the paper tries many
  'slic': dict(beta=1.0),  # SLiC-HF's margin
  'simpo': dict(beta=2.0, gamma=1.0),  # the smallest of SimPO, table 7
  'orpo': dict(lambda_=0.1),  # ORPO, 6.1
  'modpo': dict(beta=0.1, weight=0.5),  # MODPO's code; the paper has a grid
  'mmdpo': dict(beta=0.1, scale=0.5, rate=0.5),  # MM-DPO, from memory
  'd2o': dict(beta=0.1, alpha=0.1),  # D2O, from memory
  'kto': dict(beta=0.1, chosen_weight=1.0, rejected_weight=1.0),  # KTO, 4.2
  'inpo': dict(eta=0.0075, tau=0.0025),  # public code
  'online_ipo': dict(beta=0.1),  # the first of EGPO's code
  'dno': dict(eta=0.1),  # from memory
  'sppo': dict(eta=1000.0, even=0.5),  # its code
  'bradley_terry': dict(label_smoothing=0.0, center_coef=0.0),  # InstructGPT
  'simcse': dict(temperature=0.05),  # SimCSE, 6.1
  'flips': dict(share=0.2),  # Secrets of RLHF, part II, 2.2
  'uncertainty_weighted': dict(coef=0.5),  # its code, of best-of-n
  'pinball': dict(delta=0.0),  # the plain loss
  'crossing': dict(margin=0.0),  # ours; the paper tries several
}
MODULES = (
  advantages, clipping, contrastive, ensembles, gae, games, kl, pair_labels,
  pair_preferences, policy, preference, quantile, reward, value, win_rates,
)  # fmt: skip
ONE = jnp.ones((1, 1))


def defaults(function):
  """Returns the keyword-only parameters of a function that have a default."""
  return {
    p.name: p.default
    for p in inspect.signature(function).parameters.values()
    if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
  }


def test_defaults_are_those_of_the_papers():
  functions = [
    function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith('_')
  ]
  actual = {f.__name__: defaults(f) for f in functions if defaults(f)}
  assert actual == DEFAULTS


@pytest.mark.parametrize(
  'function', [policy.ppo_clip, policy.gspo, policy.cispo]
)
@pytest.mark.parametrize('name', ['clip_low', 'clip_high'])
def test_clips_may_be_zero_but_not_below(function, name):
  function(ONE, ONE, ONE, ONE > 0, **{name: 0.0})
  with pytest.raises(ValueError, match=r'clip_low, clip_high: got .*-0\.1'):
    function(ONE, ONE, ONE, ONE > 0, **{name: -0.1})


@pytest.mark.parametrize('gamma', [0.0, -0.1, float('nan'), float('inf')])
def test_the_gamma_of_shaping_is_above_0(gamma):
  with pytest.raises(ValueError, match=f'gamma: got {gamma}; expected a fin'):
    policy.shaped(ONE, ONE, ONE, ONE > 0, gamma=gamma)


def test_the_clip_of_values_may_be_zero_but_not_below():
  value.clipped(ONE, ONE, ONE, ONE > 0, clip=0.0)
  with pytest.raises(ValueError, match=r'clip: got -0\.1'):
    value.clipped(ONE, ONE, ONE, ONE > 0, clip=-0.1)


def test_gspo_has_room_for_a_response_a_token():
  # Every token its own response, numbered from 1, in rows of an odd length.
  logprobs = jnp.linspace(-1.0, 1.0, 5)[None]
  arrays = logprobs, 0 * logprobs, 1 + 0 * logprobs, logprobs < 9
  actual = policy.gspo(*arrays, jnp.arange(1, 6)[None])
  expected = policy.ppo_clip(*arrays, clip_low=3e-4, clip_high=4e-4)
  assert jnp.allclose(actual, expected, rtol=1e-6)
