"""Passes of roles that read a batch before its update."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_params, tiny_model

from critic_jax.loss_fns import scoring
from critic_jax.models import forward
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.runtime import distributed
from critic_jax.training import updates

STATISTICS = {
  'lm': scoring.Scorer.logprobs,
  'value': scoring.Scorer.values_and_final,
}


def make_scorer(head):
  model, _ = tiny_model(num_layers=1, head=head)
  return scoring.Scorer(model, random_params(model), SamplingParams(0.7))


def make_batch(num_rows, num_columns):
  """Makes rows of different lengths, each with an end that is trained."""
  random = np.random.default_rng(0)
  ends = random.integers(3, num_columns + 1, (num_rows, 1))
  places = np.arange(num_columns)
  return {
    'tokens': random.integers(0, 64, (num_rows, num_columns), np.int32),
    'mask': (places >= ends // 2) & (places < ends),
  }


def test_nothing_else_in_losses_and_recipes_has_a_model():
  """So that no parameters meet the model of another role."""
  root = pathlib.Path(scoring.__file__).parents[1]
  sources = {
    path.relative_to(root).as_posix(): path.read_text()
    for room in ('loss_fns', 'recipes')
    for path in (root / room).glob('*.py')
  }
  pattern = re.compile(r'critic_jax\.models|\.model\b')
  assert [name for name, text in sources.items() if pattern.search(text)] == [
    'loss_fns/scoring.py'
  ]


@pytest.mark.parametrize('head', STATISTICS)
def test_micro_batches_change_no_statistic(head):
  scorer, batch = make_scorer(head), make_batch(8, 12)
  whole, parts = (
    scoring.score(STATISTICS[head], scorer, batch, microbatches=number)
    for number in (1, 4)
  )
  for x, y in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
    assert len(x) == 8 and isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('num_rows', [8, 6])
def test_processes_read_shares_of_the_rows(monkeypatch, num_rows):
  """Four processes, one after another: the last has what all have read."""
  scorer, batch = make_scorer('value'), make_batch(num_rows, 12)
  statistic = scoring.Scorer.values_and_final
  whole = scoring.score(statistic, scorer, batch, microbatches=2)
  payloads, read = {}, []

  def exchange(name, payload):
    payloads[jax.process_index()] = payload
    return [payloads.get(i, payload) for i in range(4)]

  def in_parts(statistic, scorer, batch, microbatches):
    read.append((len(batch['tokens']), microbatches))
    return scoring_in_parts(statistic, scorer, batch, microbatches)

  scoring_in_parts = scoring.in_parts
  monkeypatch.setattr(scoring, 'in_parts', in_parts)
  monkeypatch.setattr(distributed, 'exchange', exchange)
  monkeypatch.setattr(jax, 'process_count', lambda: 4)
  for process in range(4):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    scores = scoring.score(statistic, scorer, batch, microbatches=2)
  for x, y in zip(scores, whole, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
  # Six rows can not be divided among four: each process reads all.
  assert read == [(2, 1) if num_rows == 8 else (6, 2)] * 4


def test_the_value_after_a_row_is_the_head_s_at_its_last_token():
  scorer, batch = make_scorer('value'), make_batch(4, 12)
  values, final = scoring.score(
    scoring.Scorer.values_and_final, scorer, batch, microbatches=1
  )
  longer = np.pad(batch['tokens'], ((0, 0), (0, 1)))
  after = jax.jit(forward.token_values, static_argnums=0)(
    scorer.model, scorer.params, longer
  )
  ends = batch['mask'].shape[1] - batch['mask'][:, ::-1].argmax(axis=1)
  np.testing.assert_allclose(values, after[:, :-1], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    final, np.asarray(after)[np.arange(4), ends], rtol=1e-4, atol=1e-5
  )


def num_bytes(lowered):
  return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('head', STATISTICS)
def test_a_pass_needs_no_more_memory_than_the_update_that_follows(head):
  """Of all rows at once it would need many times as much."""
  scorer, batch = make_scorer(head), make_batch(64, 96)
  statistic = STATISTICS[head]

  def loss(params, batch):
    [x, *_] = jax.tree.leaves(
      statistic(scoring.Scorer(scorer.model, params, SamplingParams()), batch)
    )
    total = jnp.sum(x * batch['mask'])
    return total, ({}, {})

  tx = optax.adam(1e-3)
  state = updates.TrainState(
    jnp.zeros((), jnp.int32), scorer.params, tx.init(scorer.params)
  )
  update = updates.update.lower(loss, tx, state, batch, microbatches=16)
  in_parts, whole = (
    scoring.in_parts.lower(statistic, scorer, batch, number)
    for number in (16, 1)
  )
  assert num_bytes(in_parts) < num_bytes(update) < num_bytes(whole) / 2
