import collections

import jax
import numpy as np
import pytest
from helpers import FAMILIES, VOCAB_SIZE, log_compilations, slow, tiny_model

from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.runtime import timing
from critic_jax.sampling import decode, scheduler

EOS = np.array([3, 7, 11, 19, 23, 42], np.int32)
NEVER = np.full(6, -1, np.int32)


def siblings(seed=0, parents=4, children=4, shared=9, columns=16):
  """Makes prompts by number; the children of a parent begin alike."""
  random = np.random.default_rng(seed)
  prompts = []
  for _ in range(parents):
    shared_prefix = random.integers(
      1, VOCAB_SIZE, shared + random.integers(3)
    ).tolist()
    for _ in range(children):
      rest = random.integers(1, VOCAB_SIZE, random.integers(1, 5)).tolist()
      prompts.append((shared_prefix + rest)[:columns])
  return dict(enumerate(prompts))


def small_model(family):
  """Makes a model of two layers in one family, of one in the others."""
  return tiny_model(family, num_layers=2 if family == 'llama' else 1)


def run(prompts, *, family='qwen3', **changes):
  model, params = small_model(family)
  settings = dict(
    eos=EOS,
    sampling_params=SamplingParams(),
    num_samples=2,
    max_new_tokens=20,
    columns=16,
    num_lanes=4,
  ) | changes  # fmt: skip
  settings.setdefault('num_rows', settings['num_samples'])
  keys = jax.random.split(jax.random.key(0), 64)
  return scheduler.run(model, params, prompts, keys, **settings)


def one_by_one(prompts, *, family='qwen3', eos=EOS, n=2, max_new_tokens=20):
  """Samples each prompt alone: the plain path."""
  model, params = small_model(family)
  keys = jax.random.split(jax.random.key(0), 64)
  results = {}
  for i, prompt in prompts.items():
    tokens = np.zeros((1, 16), np.int32)
    tokens[0, : len(prompt)] = prompt
    results[i] = jax.device_get(
      decode.sample(
        model, params, tokens, np.array([len(prompt)]),
        jax.random.split(keys[i], n), eos=eos, sampling_params=SamplingParams(),
        max_new_tokens=max_new_tokens, num_samples=n,
      )
    )  # fmt: skip
  return results


def assert_same(results, expected):
  assert results.keys() == expected.keys()
  for i, samples in expected.items():
    for name in ('tokens', 'length', 'stopped'):
      np.testing.assert_array_equal(
        getattr(results[i], name), getattr(samples, name), err_msg=f'{i} {name}'
      )
    np.testing.assert_allclose(results[i].logprobs, samples.logprobs, atol=1e-5)


@pytest.mark.parametrize('family', ['gemma3', 'qwen3_moe', *slow(*FAMILIES)])
def test_shared_beginnings_and_refilled_lanes_give_the_plain_texts(
  family, monkeypatch
):
  inserted = []
  insert = decode.insert

  def spy(*args, shared_prefixes=None, **kwargs):
    inserted.append((len(args[3]), shared_prefixes is not None))
    return insert(*args, shared_prefixes=shared_prefixes, **kwargs)

  monkeypatch.setattr(decode, 'insert', spy)
  prompts = siblings(parents=5, children=5)
  results = run(prompts, family=family, num_lanes=16)
  # Both ways of inserting were used, by four prompts at a time: behind a shared
  # prefix if the four have the same parent. 16 lanes were refilled.
  assert inserted[:2] == [(4, True), (4, False)]
  assert len(inserted) == 7
  plain = one_by_one(prompts, family=family)
  assert_same(results, plain)
  lengths = [n for samples in plain.values() for n in samples.length]
  assert 1 < min(lengths) + 1 < max(lengths)  # they did end at different times


@pytest.mark.parametrize(
  ('num_lanes', 'n'), [(2, 3), (16, 3), *slow((1, 1), (4, 1))]
)
def test_texts_do_not_depend_on_the_number_of_lanes(num_lanes, n):
  """Two responses by 4, 8 and 16 lanes are other tests'."""
  prompts = siblings(seed=1, parents=3, children=3)
  results = run(prompts, num_lanes=num_lanes, num_samples=n)
  assert_same(results, one_by_one(prompts, n=n))


@pytest.mark.parametrize(
  ('num_rows', 'num_lanes', 'family'),
  [(3, 2, 'qwen3'), *slow((1, 8, 'llama'), (2, 4, 'qwen2'))],
)
def test_texts_do_not_depend_on_the_rows_of_a_lane(num_rows, num_lanes, family):
  """A row draws several responses of its prompt, one after another.

  What it knows of the model are logits, so families take turns.
  """
  prompts = siblings(seed=1, parents=2, children=3)
  expected = one_by_one(prompts, n=5, family=family)
  results = run(
    prompts, num_lanes=num_lanes, num_rows=num_rows, num_samples=5,
    family=family,
  )  # fmt: skip
  assert_same(results, expected)
  lengths = {n for samples in expected.values() for n in samples.length}
  assert len(lengths) > 3  # they did not end together


def test_a_row_goes_on_while_another_is_long():
  """No response waits for another: 12 of them in a lane of 2 rows."""
  prompts = siblings(parents=1, children=1)
  with timing.opened() as costs:
    [samples] = run(prompts, num_lanes=1, num_rows=2, num_samples=12).values()
  assert len(set(samples.length)) > 3
  # Two were begun by the insert; the others take as many steps as tokens.
  tokens = samples.length.sum() - 2
  assert costs['slots/all'] <= tokens + 2 * samples.length.max()
  with timing.opened() as batch_costs:
    run(prompts, num_lanes=1, num_samples=12)
  assert costs['slots/all'] < 0.8 * batch_costs['slots/all']


def test_one_token_each():
  prompts = siblings(parents=2, children=2)
  results = run(prompts, num_rows=2, num_samples=5, max_new_tokens=1)
  assert_same(results, one_by_one(prompts, n=5, max_new_tokens=1))


@pytest.mark.parametrize('num_shards', [3, *slow(8, 16)])
def test_inserts_of_other_sizes_give_the_same_texts(num_shards, monkeypatch):
  """Sizes are those of several devices, even more devices than lanes."""
  monkeypatch.setattr(
    scheduler.sharding, 'num_shards_here', lambda name: num_shards
  )
  prompts = siblings(seed=1, parents=3, children=5)
  results = run(prompts, num_lanes=16 if num_shards == 3 else 8)
  assert_same(results, one_by_one(prompts))


def test_numbers_of_prompts_and_shared_prefixes_of_an_insert():
  """Rounded up to the devices; no prefixes if they were as many as prompts."""
  numbers = [
    (
      scheduler.num_inserted(n, num_shards),
      scheduler.num_shared_prefixes(
        scheduler.num_inserted(n, num_shards), num_shards
      ),
    )
    for n, num_shards in ((2, 1), (64, 1), (64, 4), (64, 8), (64, 16), (8, 16))
  ]
  assert numbers == [(1, 0), (16, 4), (16, 4), (16, 8), (16, 0), (16, 0)]


def test_numbers_choose_the_keys():
  prompts = siblings(parents=1, children=1)
  renumbered = {5: prompts[0]}
  assert_same(run(renumbered), one_by_one(renumbered))
  assert np.any(run(renumbered)[5].tokens != run(prompts)[0].tokens)


def test_one_new_token_needs_no_step():
  prompts = siblings()
  results = run(prompts, max_new_tokens=1)
  assert_same(results, one_by_one(prompts, max_new_tokens=1))
  with timing.opened() as sums:
    run(prompts, max_new_tokens=1)
  assert sums.get('slots/all', 0) == 0


def test_no_prompts():
  assert run({}) == {}


def test_a_long_row_does_not_hold_the_others():
  """Lanes take fewer steps than batches that wait for their longest."""
  prompts = siblings(parents=16, children=4)
  settings = dict(num_samples=1, max_new_tokens=32, num_lanes=8)
  with timing.opened() as sums:
    results = run(prompts, **settings)
  lengths = [int(samples.length[0]) for samples in results.values()]
  assert sums['slots/busy'] == sum(lengths) - len(lengths)
  batches = [lengths[i : i + 8] for i in range(0, 64, 8)]
  waiting = 8 * sum(max(batch) - 1 for batch in batches)
  assert max(lengths) > 4 * np.median(lengths)
  assert sums['slots/all'] < 0.75 * waiting


def test_compiles_for_its_shapes_only():
  prompts = siblings()
  run(prompts, num_lanes=8)
  run({i: p for i, p in prompts.items() if i % 4 == 0}, num_lanes=8)  # whole
  with log_compilations() as compiled:
    for seed in range(4):
      run(
        siblings(seed),
        num_lanes=8,
        sampling_params=SamplingParams(temperature=0.5 + seed),
      )
    run(siblings(parents=8, children=1), num_lanes=8)
    run(siblings(parents=1, children=8), num_lanes=8, eos=NEVER)
  assert set(compiled) <= {'insert'} and len(compiled) <= 1  # whole refills


def test_shared_prefixes_cover_the_prompts():
  random = np.random.default_rng(0)
  decided = collections.Counter()
  for _ in range(300):
    prompts = list(
      siblings(
        random.integers(1000), random.integers(1, 5), random.integers(1, 5)
      ).values()
    )
    max_prefixes, max_rest = random.integers(1, 6), random.integers(1, 6)
    groups = scheduler.find_shared_prefixes(prompts, max_prefixes, max_rest)
    decided[groups is None] += 1
    if groups is None:
      continue
    assert len(groups) <= max_prefixes
    members = [i for _, members in groups for i in members]
    assert members == list(range(len(prompts)))
    for shared, members in groups:
      for i in members:
        assert prompts[i][:shared] == prompts[members[0]][:shared]
        assert 1 <= len(prompts[i]) - shared <= max_rest
  assert min(decided.values()) > 50


def test_shared_prefixes_of_equal_prompts_and_of_one_token():
  assert scheduler.find_shared_prefixes([[1, 2]] * 3, 1, 1) == [(1, range(3))]
  # One that begins with all of another leaves the other a token of its own.
  assert scheduler.find_shared_prefixes([[1, 2], [1, 2, 3]], 1, 2) == [
    (1, range(2))
  ]
  assert scheduler.find_shared_prefixes([[5], [5]], 1, 1) == [(0, range(2))]
  assert scheduler.find_shared_prefixes([[5], [6]], 0, 4) is None
  assert scheduler.find_shared_prefixes([[1, 2, 3], [1, 9, 9]], 1, 1) is None


def test_a_prompt_of_one_token_behind_an_empty_shared_prefix():
  prompts = {0: [5], 1: [5], 2: [5, 9], 3: [5, 9]}
  assert scheduler.lay_out(list(prompts.values()), 4, 16)[2] is not None
  assert_same(run(prompts), one_by_one(prompts))
