"""A critic learns to judge: a wrong sign anywhere keeps it from it."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from loop_helpers import grade, make_recipe, mesh, nano, scripted, settings

from configs import refcritic as config
from critic_jax.models.transformer import Transformer
from critic_jax.recipes import refcritic
from critic_jax.sampling import lm
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.training import roles, updates
from critic_jax.types import Problem

# The critic sees two tokens, what kind of prompt it is and whether the
# solution says 7, and writes any of eight.
PROMPT, SEVEN, OTHER, EOS = 1, 2, 3, 4
WORDS = {5: 'Verdict: correct', 6: 'Verdict: incorrect', 7: 'Who knows?'}


def tokenizer() -> Tokenizer:
  def encode(text, parse_special):
    return [PROMPT, SEVEN if 'boxed{7}' in text else OTHER]

  def decode(tokens):
    return ' '.join(WORDS.get(token, '') for token in tokens).strip()

  return Tokenizer(
    vocab_size=8, eos=(EOS,), pad=0, bos=None, unknown=None, special={},
    chat_template=None, adds_bos=False, files={}, encode_fn=encode,
    decode_fn=decode,
  )  # fmt: skip


def make_critic() -> lm.LM:
  nano_lm = nano()
  return dataclasses.replace(
    nano_lm,
    tokenizer=tokenizer(),
    model=Transformer(dataclasses.replace(nano_lm.model.config, vocab_size=8)),
    lengths=(2,),
    max_new_tokens=3,
  )


@pytest.mark.parametrize('staleness', [0, 1])
def test_the_critic_learns_what_is_right(staleness):
  """Right verdicts rise from one in some thirty to nine in ten.

  Also from batches that the parameters before the last update wrote.
  """
  critic = make_critic()
  solver = scripted(
    lambda prompt, index: f'\\boxed{{{7 if "odd" in prompt else 8}}}'
  )
  models = {'solver': solver, 'critic': critic}
  section = config.refcritic(num_critiques=16, refine_weight=0.0)
  recipe = make_recipe(
    refcritic,
    settings({'batch_size': 8, 'aggregate': 'token', **section}),
    models,
    grade,
  )
  problems = [
    Problem(f'toy-{i}', 'an odd one' if i % 2 else 'an even one', '7')
    for i in range(8)
  ]
  params = roles.init_params({'critic': critic}, {}, mesh(), jax.random.key(0))
  tx = optax.adam(1e-2)
  state = updates.init_state(tx, params, mesh())
  rewards, errors, older = [], [], state.params
  for step in range(60):
    batch, records = recipe.collect(
      {'solver': None, **(older if staleness else state.params)},
      problems,
      jax.random.key(step),
    )
    rewards.append(
      np.mean([r.scores['judge'] for r in records if r.stage == 'critique'])
    )
    older = state.params
    if staleness:
      state, (sums, _) = updates.update(
        recipe.loss,
        tx,
        state._replace(params=None),
        batch,
        kept_params=state.params,
      )
    else:
      state, (sums, _) = updates.update(recipe.loss, tx, state, batch)
    errors.append(sums['policy/ratio_error'])
    if np.mean(rewards[-3:]) > 0.95:
      break
  assert rewards[0] < 0.3
  assert np.mean(rewards[-3:]) > 0.9, rewards
  assert (max(errors) > 0.01) == bool(staleness), errors
