"""Offline preferences: given comparisons, their pairs, and what is kept."""

import dataclasses
import functools
import math

import jax
import numpy as np
import optax
import pytest
from helpers import make_record
from loop_helpers import init, make_recipe, nano, problems, settings

from configs import preference as preference_config
from critic_jax.recipes import offline_preference
from critic_jax.training import updates
from critic_jax.types import Comparison, Problem

WORLD = dict(
  module='arithmetic_pairs', name='solutions', max_slips=2, noise=0.0
)


def make(**changes):
  section = settings(
    preference_config.preference() | dict(batch_size=4, writer=WORLD), **changes
  )
  models = {'solver': nano(), 'ref': nano()}
  return make_recipe(offline_preference, section, models, None)


@functools.cache
def roles():
  params = init(solver=nano())['solver']
  return {'solver': params, 'ref': params}


def trained():
  return {'solver': roles()['solver']}


def collect(recipe, examples, seed=0):
  return recipe.collect(roles(), examples, jax.random.key(seed))


def compared(name, *scores, label=None, text='{}.'):
  """Makes a comparison of responses '1.', '2.', ... with such scores."""
  problem = Problem(name, f'What is {name}?', '')
  responses = [
    make_record(
      problem=problem, index=i, text=text.format(i), tokens=[],
      prompt_tokens=[], scores={'preference': float(score)},
      parsed={} if label is None else {'label': label[i]},
    )
    for i, score in enumerate(scores)
  ]  # fmt: skip
  messages = ({'role': 'user', 'content': problem.question},)
  return Comparison(problem, tuple(responses), messages)


def texts(batch):
  """Returns the texts of plain rows, by row."""
  tokenizer = nano().tokenizer
  return {
    row: tokenizer.decode(batch['tokens'][row][mask][:-1])
    for row, mask in enumerate(batch['mask'])
    if mask.any()
  }


def pairs_in(batch, size):
  """Returns the texts of pairs, None for nobody."""
  text, bits = texts(batch), batch['pairs'].max(axis=1)
  pairs = []
  for row in text:
    first = row - row % size
    pairs += [
      (text[row], text[first + other])
      for other in range(size) if bits[row] >> other & 1
    ]  # fmt: skip
    pairs += [(text[row], None)] if bits[row] >> size & 1 else []
    pairs += [(None, text[row])] if bits[row] >> (size + 1) & 1 else []
  return pairs


def test_the_world_s_pairs_are_the_same_in_each_epoch():
  recipe = make(writer=WORLD | dict(noise=0.5))
  batches = [collect(recipe, problems(4), seed)[0] for seed in (0, 1)]
  for name, x in batches[0].items():
    np.testing.assert_array_equal(x, batches[1][name], name)
  solutions = {p.solution for p in problems(4)}
  right_is_chosen = [c in solutions for c, _ in pairs_in(batches[0], 2)]
  assert len(right_is_chosen) == 4
  clean, _ = collect(make(), problems(4))
  assert all(c in solutions for c, _ in pairs_in(clean, 2))
  assert right_is_chosen != [True] * 4, 'some labels are wrong'
  assert not recipe.takes_comparisons and not recipe.sampled


def test_given_responses_are_paired_by_their_scores():
  recipe = make(writer=dict(module=''), max_responses=3, max_pairs=2)
  examples = [compared('a', 1, 0), compared('b', 2, 7, 3), compared('c', 1, 1)]
  batch, records = collect(recipe, examples)
  assert pairs_in(batch, 3) == [('0.', '1.'), ('1.', '0.'), ('1.', '2.')]
  assert len(records) == 7 and recipe.takes_comparisons
  assert [r.scores['reward'] for r in records[:5]] == [1, 0, 2, 7, 3]
  # The prompt is the messages as they are, not a stage's.
  tokens = batch['tokens'][0][: batch['mask'][0].argmax()]
  assert nano().tokenizer.decode(tokens).strip() == 'What is a?'
  assert (recipe.num_rows, recipe.rows_per_group) == (12, 3)


def test_scores_and_margins_are_weighed():
  example = compared('a', 1, 0)
  responses = [
    dataclasses.replace(r, scores=dict(preference=i, helpfulness=2.0 - i,
                                       verbosity=4.0 * i))
    for i, r in enumerate(example.responses)
  ]  # fmt: skip
  recipe = make(
    writer=dict(module=''),
    score=dict(preference=0.0, helpfulness=0.5),
    margin=dict(verbosity=-0.25, preference=0.0),
    objective=dict(name='modpo', beta=0.5, weight=0.4),
  )
  batch, records = collect(
    recipe, [dataclasses.replace(example, responses=tuple(responses))]
  )
  assert pairs_in(batch, 2) == [('0.', '1.')]
  first, second = (dict(r.scores) for r in records)
  assert first == dict(helpfulness=2, verbosity=0, reward=1.0, margin=0.0)
  assert second == dict(helpfulness=1, verbosity=4, reward=0.5, margin=-1.0)
  # At the reference: (0 - (0 - -1)) / 0.4.
  total, _ = jax.jit(recipe.loss)(trained(), batch)
  assert total == pytest.approx(math.log1p(math.exp(1 / 0.4)), rel=1e-4)


def test_kto_learns_from_labels_alone():
  recipe = make(
    writer=dict(module=''),
    max_responses=3,
    objective=dict(name='kto', beta=0.1),
  )
  examples = [
    compared('a', 1, 1, 0, label=(True, True, False)),
    compared('b', 0, label=(False,)),
    compared('c', 1, label=(True,)),
  ]
  batch, _ = collect(recipe, examples)
  assert pairs_in(batch, 3) == [
    ('0.', '2.'), ('1.', None), (None, '0.'), ('0.', None)
  ]  # fmt: skip
  assert recipe.scored == ('ref', 'solver') and 'kl' in batch
  total, _ = jax.jit(recipe.loss)(trained(), batch)
  assert total == pytest.approx(0.5, rel=1e-4)
  # DPO has the pair alone.
  batch, _ = collect(make(writer=dict(module=''), max_responses=3), examples)
  assert pairs_in(batch, 3) == [('0.', '2.')]


def test_good_responses_are_kept_beside_pairs():
  recipe = make(writer=dict(module=''), keep_coef=0.5)
  examples = [
    compared('a', 1, 0),
    compared('near', 1, label=(True,)),
    compared('far', 1, label=(True,)),
    compared('bad', 0, label=(False,)),  # nothing to keep
  ]
  batch, _ = collect(recipe, examples)
  assert pairs_in(batch, 2) == [('0.', '1.'), ('0.', None), ('0.', None)]
  total, (sums, _) = jax.jit(recipe.loss)(trained(), batch)
  assert sums['loss/preference'] == pytest.approx(math.log(2), rel=1e-4)
  assert sums['loss/kept'] > 0.5
  assert total == pytest.approx(sum(map(float, sums.values())) - float(
    sum(x for name, x in sums.items() if 'loss/' not in name)), rel=1e-5
  )  # fmt: skip
  assert {*sums} <= recipe.metrics


def test_a_response_that_is_too_long_is_in_no_pair():
  long = compared('b', 1, 0)
  response = dataclasses.replace(long.responses[0], text='7 ' * 200)
  long = dataclasses.replace(long, responses=(response, long.responses[1]))
  recipe = make(writer=dict(module=''))
  batch, records = collect(recipe, [compared('a', 1, 0), long])
  assert pairs_in(batch, 2) == [('0.', '1.')]
  assert [r.refused for r in records] == [False, False, True, False]
  assert not records[2].scores


def test_dpo_tells_right_from_wrong_solutions():
  """The wrong sign would not."""
  recipe = make()
  batch, _ = collect(recipe, problems(4))
  tx = optax.adam(3e-3)
  state = updates.TrainState(
    np.zeros((), np.int32), jax.tree.map(np.asarray, trained()),
    tx.init(trained()),
  )  # fmt: skip
  losses = []
  for _ in range(6):
    state, (sums, _) = updates.update(recipe.loss, tx, state, batch)
    losses.append(float(sums['loss/total']))
  assert losses[0] == pytest.approx(math.log(2), rel=1e-4)
  assert losses[-1] < losses[0] - 0.1
  assert sums['preference/accuracy'] == pytest.approx(1)
  assert sums['preference/margin'] > 1


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(max_responses=1), 'max_responses: got 1; .* 2 or more'),
    (dict(max_responses=30), 'responses: got 30 of a prompt'),
    (dict(max_pairs=0), 'max_pairs: got 0'),
    (dict(score=dict(preference=0.0)), 'score: got no weight'),
    (dict(score=dict(preference='1')), "preference: got '1'"),
    (dict(margin=dict(x=None)), 'x: got None; expected a number'),
    (dict(writer=dict(module='arithmetic_pairs', name='solution')),
     "mean 'solutions'"),
    (dict(objective=dict(name='kto'), keep_coef=1.0), 'keep_coef: got 1.0'),
    (dict(role='critic'), "got .* expected also .'critic'"),
    (dict(objective=dict(name='inpo')), "'inpo', a game .* without win rates"),
  ],
)  # fmt: skip
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)
