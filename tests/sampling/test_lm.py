import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  log_compilations,
  make_record,
  random_params,
  text_of,
  tiny_config,
  tiny_lm,
)
from sentencepiece import sentencepiece_model_pb2
from vocabularies import OPENED, gguf_metadata

from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import gguf_import
from critic_jax.rewards import shaping
from critic_jax.rewards.refinement import judge
from critic_jax.rollouts import rollout, stages
from critic_jax.sampling import scheduler
from critic_jax.sampling.lanes import Samples
from critic_jax.text import tokenizer
from critic_jax.types import Begun

MODEL = Transformer(tiny_config(vocab_size=264, num_layers=1))
# With the newline of the plain template, 3, 8, 9 and 17 tokens: prompts of two
# buckets, at the edge of one, and too long.
SHORT, FULL, WIDE, LONG = 'ab', 'x' * 7, 'y' * 8, 'z' * 16


@pytest.fixture(scope='module')
def lm():
  return tiny_lm(model=MODEL, max_new_tokens=6)


@pytest.fixture(scope='module')
def params():
  return random_params(MODEL)


def keys(seed=0):
  """Returns always as many keys, since another number would compile anew."""
  return jax.random.split(jax.random.key(seed), 16)


@pytest.fixture
def fake_run(monkeypatch):
  """Replaces the sampler; collects (prompts, lanes, columns, n, rows)."""
  calls = []

  def run(
    model, params, prompts, keys, *, eos, sampling_params, num_samples,
    max_new_tokens, columns, num_lanes, num_rows,
  ):  # fmt: skip
    assert num_rows <= num_samples
    calls.append((len(prompts), num_lanes, columns, num_samples, num_rows))
    # A row says its prompt's first byte, its length, and its number among the
    # siblings; it stops if that is even.
    results = {}
    for i, prompt in prompts.items():
      assert len(prompt) <= columns and i < len(keys)
      tokens = np.zeros((num_samples, max_new_tokens), np.int32)
      tokens[:, 0], tokens[:, 1] = prompt[0], len(prompt) + ord('0')
      tokens[:, 2] = np.arange(num_samples) + ord('A')
      tokens[:, 3] = eos[1]
      results[i] = Samples(
        tokens=tokens,
        length=np.full(num_samples, 4),
        logprobs=-tokens.astype(np.float32),
        stopped=np.arange(num_samples) % 2 == 0,
      )
    return results

  monkeypatch.setattr(scheduler, 'run', run)
  return calls


def test_generations_are_those_of_their_prompts(lm, fake_run):
  prompts = [WIDE, SHORT, LONG, FULL, SHORT]
  result = lm.bind(None)(prompts, keys(), 2)
  assert [[g.text for g in siblings] for siblings in result] == [
    ['y9A', 'y9B'],
    ['a3A', 'a3B'],
    ['', ''],
    ['x8A', 'x8B'],
    ['a3A', 'a3B'],
  ]
  assert [g.finish for g in result[0]] == ['stop', 'length']
  for prompt, siblings in zip(prompts, result, strict=True):
    for generation in siblings:
      assert generation.prompt_tokens.tolist() == [*prompt.encode(), 10]
      assert (
        generation.tokens.dtype == generation.prompt_tokens.dtype == 'int32'
      )
      np.testing.assert_array_equal(generation.logprobs, -generation.tokens)
  first = result[0][0]  # the end is a token, and not in the text
  assert first.tokens.tolist() == [ord('y'), ord('9'), ord('A'), 257]


def test_prompts_too_long_are_refused(lm, fake_run):
  [[long, sibling], _] = lm.bind(None)([LONG, SHORT], keys(), 2)
  for generation in (long, sibling):
    assert generation.finish == 'prompt' and generation.text == ''
    assert len(generation.tokens) == len(generation.logprobs) == 0
    assert len(generation.prompt_tokens) == 17
  # Without another prompt, nothing is sampled; 16 tokens are not too many.
  fake_run.clear()
  lm.bind(None)([LONG], keys(), 2)
  assert lm.bind(None)([], keys(), 2) == []
  assert fake_run == []
  [[generation]] = lm.bind(None)([LONG[1:]], keys(), 1)
  assert generation.finish == 'stop'


@pytest.mark.parametrize('n', [1, 2, 3, 4, 5, 8])
def test_shapes_are_few_and_hold_at_most_max_rows(lm, fake_run, n):
  lm = dataclasses.replace(lm, max_rows=16)  # 16 // 3 and 16 // 5 are no powers
  for num_prompts in range(1, 12):
    prompts = [(SHORT, FULL, WIDE)[i % 3] for i in range(num_prompts)]
    lm.bind(None)(prompts, keys(), n)
  for num_prompts, num_lanes, columns, siblings, num_rows in fake_run:
    assert num_lanes in (1, 2, 4, 8, 16)
    assert num_lanes < 2 * num_prompts
    assert columns in (8, 16) and siblings == n
    assert num_lanes * num_rows <= lm.max_rows
    assert num_rows == n or num_rows >= max(2, n / 4)


@pytest.mark.parametrize(
  'processes, shape',
  [(1, (32, 2)), (2, (16, 2)), (3, (8, 2)), (64, (1, 1)), (100, (1, 1))],
)
def test_processes_share_max_rows(lm, processes, shape):
  """Each has a power of two of them, and one at least."""
  lm = dataclasses.replace(lm, max_rows=64, processes=processes)
  assert lm.shape(100, 4) == shape


def test_the_number_of_prompts_changes_the_shape_seldom(lm, fake_run):
  lm = dataclasses.replace(lm, max_rows=256)
  many = jax.random.split(jax.random.key(0), 128)
  for num_prompts in (1, 2, 5, 8, 9, 32, 33, 64, 100, 128):
    lm.bind(None)([SHORT] * num_prompts, many, 2)
  assert [lanes for _, lanes, _, _, _ in fake_run] == [
    1, 2, 8, 8, 32, 32, 128, 128, 128, 128
  ]  # fmt: skip


def test_siblings_that_max_rows_do_not_hold_take_turns(lm, fake_run):
  lm.bind(None)([SHORT] * 3, keys(), 12)
  assert fake_run == [(3, 4, 8, 12, 2)]


def test_prompts_of_similar_length_go_together(lm, fake_run):
  lm.bind(None)([WIDE, SHORT, WIDE, SHORT], keys(), 4)
  assert fake_run == [(4, 4, 16, 4, 2)]


def test_no_prompt_is_padded_to_more_than_twice_its_column(lm, fake_run):
  lm = dataclasses.replace(lm, lengths=(4, 8, 10), max_rows=16)
  prompts = ['a', WIDE, SHORT, FULL, 'b']  # with a newline 2, 9, 3, 8, 2 tokens
  results = lm.bind(None)(prompts, keys(), 1)
  # 4 and 8 columns go together, 10 is more than twice 4.
  assert fake_run == [(4, 4, 8, 1, 1), (1, 1, 10, 1, 1)]
  assert [len(g.prompt_tokens) for [g] in results] == [2, 9, 3, 8, 2]


def test_a_model_that_has_compiled_is_still_equal():
  lm, other = tiny_lm(model=MODEL), tiny_lm(model=MODEL)
  lm._compiled.add('shape')
  assert lm == dataclasses.replace(other, tokenizer=lm.tokenizer)


def test_a_text_depends_on_its_key_and_prompt_only(lm, params):
  generate, key = lm.bind(params), keys()
  [single_group] = generate([SHORT], key[jnp.arange(2, 18) % 16], 4)
  # Among others, later, in a wider batch.
  groups = generate([WIDE, FULL, SHORT], key, 4)
  equal_groups = generate([SHORT, SHORT], key[jnp.arange(1, 17) % 16], 4)
  assert len({tuple(g.tokens) for g in single_group}) == 4  # siblings differ
  for other in (groups[2], equal_groups[1]):
    for x, y in zip(single_group, other, strict=True):
      np.testing.assert_array_equal(x.tokens, y.tokens)
      np.testing.assert_allclose(x.logprobs, y.logprobs, atol=1e-5)
      assert (x.text, x.finish) == (y.text, y.finish)
  # The same prompt with another key is another text.
  for x, y in zip(single_group, equal_groups[0], strict=True):
    assert x.tokens.tolist() != y.tokens.tolist()


def test_compiles_for_its_shapes_only(lm, params):
  generate = lm.bind(params)
  generate([SHORT, SHORT, WIDE], keys(), 4)  # 2 lanes of 16 columns,
  generate([SHORT, SHORT], keys(), 4)  # 2 of 8,
  generate([SHORT], keys(), 4)  # 1 of 8
  generate([WIDE], keys(), 4)  # and 1 of 16
  with log_compilations() as compiled:
    for seed, prompts in enumerate(
      ([FULL, 'a'], [SHORT, LONG, FULL], ['b'], [WIDE], [WIDE, 'c', 'd'])
    ):
      generate(prompts, keys(seed), 4)
    # Other parameters and sampling parameters compile nothing either.
    other = dataclasses.replace(
      lm, sampling_params=lm.sampling_params._replace(temperature=0.5)
    )
    other.bind(random_params(MODEL, seed=1))([SHORT], keys(), 4)
  assert compiled == []


@pytest.mark.parametrize('n', [1, 2])
def test_ahead_it_compiles_for_all_that_may_come(lm, params, n):
  lm = dataclasses.replace(lm, compile_ahead=True, max_rows=16)
  generate = lm.bind(params)
  [[plain]] = dataclasses.replace(lm, compile_ahead=False).bind(params)(
    [WIDE], keys(), 1
  )
  assert generate([], keys(), n, 16) == []
  with log_compilations() as compiled:
    for seed, prompts in enumerate(
      ([WIDE], [SHORT] * 16, ['a', SHORT, FULL, WIDE, LONG] * 3, [])
    ):
      generations = generate(prompts, keys(seed), n, 16)
  assert compiled == []
  assert generations == []
  [[first, *_]] = generate([WIDE], keys(), n, 16)
  if n == 1:  # a sibling more is another key for the first
    np.testing.assert_array_equal(first.tokens, plain.tokens)


def test_other_keys_give_other_texts(lm, params):
  generate = lm.bind(params)
  [first], [second] = (generate([SHORT], keys(seed), 4) for seed in (0, 1))
  for x, y in zip(first, second, strict=True):
    assert x.tokens.tolist() != y.tokens.tolist()


def test_encode(lm):
  assert lm.encode_prompt('a') == [97, 10]
  assert lm.encode_response('a') == [97, 256]
  # A special token's name in a text is plain text.
  assert 256 not in lm.encode_prompt('<eos>')
  assert lm.encode_response('<eos>').count(256) == 1


def test_a_prefix_is_given_and_not_sampled(lm, params):
  prefixed_lm = dataclasses.replace(lm, prefix='Verdict:')
  [[plain]] = lm.bind(params)([SHORT], keys(), 1)
  [[generation]] = prefixed_lm.bind(params)([SHORT], keys(), 1)
  prefix_tokens = lm.tokenizer.encode('Verdict:')
  assert generation.prompt_tokens.tolist() == [
    *plain.prompt_tokens,
    *prefix_tokens,
  ]
  assert generation.text == 'Verdict:' + lm.tokenizer.decode(generation.tokens)
  assert len(generation.logprobs) == len(generation.tokens) <= lm.max_new_tokens
  # A written response is divided like a sampled one.
  text = 'Verdict: no'
  assert prefixed_lm.encode_response(text) == lm.encode_response(' no')


@pytest.mark.parametrize('prefix', ['', 'Ver', 'Verdict:'])
def test_a_response_that_has_begun_is_one_with_a_prefix(lm, params, prefix):
  """Whether the model has it or the prompt, or each a part."""
  begun = dataclasses.replace(lm, prefix=prefix).bind(params)
  [[whole]] = dataclasses.replace(lm, prefix='Verdict:').bind(params)(
    [SHORT], keys(), 1
  )
  [[actual]] = begun([Begun(SHORT, 'Verdict:')], keys(), 1)
  assert actual.text == whole.text and actual.text.startswith('Verdict:')
  for field in ('prompt_tokens', 'tokens', 'logprobs'):
    np.testing.assert_array_equal(
      getattr(actual, field), getattr(whole, field), field
    )
  [[actual], [plain]] = begun([Begun(SHORT, ''), SHORT], keys(), 1)
  assert actual.prompt_tokens.tolist() == plain.prompt_tokens.tolist()


def test_row_length(lm):
  # Prompts of 8 or 16 columns, and 6 tokens after the longest.
  lengths = [lm.row_length(n) for n in (1, 8, 9, 16, 17, 22)]
  assert lengths == [8, 8, 16, 16, 22, 22]
  with pytest.raises(ValueError, match='got 23 tokens; expected at most 22'):
    lm.row_length(23)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(lengths=()), r'lengths: got \(\); expected ascending'),
    (dict(lengths=(16, 8)), r'lengths: got \(16, 8\); expected ascending'),
    (dict(lengths=(8, 8)), r'lengths: got \(8, 8\); expected ascending'),
    (
      dict(lengths=(8, 123)),
      'got prompts of 123 and max_new_tokens=6; expected at most max_len=128',
    ),
    (dict(max_rows=6), 'max_rows: got 6; expected a power of two'),
    (dict(max_rows=0), 'max_rows: got 0; expected a power of two'),
    (
      dict(model=Transformer(tiny_config(vocab_size=258))),
      "vocab_size: got 258 rows in the model; expected at least the "
      "tokenizer's 259",
    ),
  ],
)  # fmt: skip
def test_wrong_settings(lm, change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(lm, **change)


# --- What a prompt gives of its response -----------------------------------


def opened_lm(**settings):
  """Makes an LM whose chat template opens the thinking."""
  metadata = gguf_metadata(add_bos_token=False)
  metadata['tokenizer.chat_template'] = OPENED
  files = gguf_import.tokenizer_files(metadata)
  config = dataclasses.replace(MODEL.config, max_len=4096)
  return tiny_lm(
    model=Transformer(config),
    tokenizer=tokenizer.from_files(files),
    **settings,
  )


def saying(monkeypatch, lm, text):
  """Replaces the sampler by one that writes a text and ends."""

  def run(model, params, prompts, keys, *, num_samples, **settings):
    tokens = np.array([[*lm.tokenizer.encode(text), lm.tokenizer.end]])
    length = np.full(num_samples, tokens.shape[1])
    stopped = np.ones(num_samples, bool)
    samples = Samples(tokens, length, -np.ones(tokens.shape), stopped)
    return dict.fromkeys(prompts, samples)

  monkeypatch.setattr(scheduler, 'run', run)


@pytest.mark.parametrize('style', ['plain', 'instruct', 'first_error'])
@pytest.mark.parametrize(
  ('said', 'status'),
  [
    ('All is well. Verdict: correct', 'unfinished'),
    ('Wrong: \\boxed{1}\nVerdict: incorrect', 'unfinished'),
    ('Well.\n</think>\n\n\\boxed{-1}\nVerdict: correct', 'ok'),
  ],
)
def test_thinking_that_the_template_opens_must_end(
  monkeypatch, style, said, status
):
  lm = opened_lm(lengths=(2048,), max_new_tokens=8)
  lm = dataclasses.replace(lm, stages=stages.make_stages(style))
  saying(monkeypatch, lm, said)
  solution = make_record(text='3 + 4 = 7', parsed={'correct': True})
  [critique] = rollout.run(
    lm.stages.critique, lm.bind(None), [solution], jax.random.key(0), n=1
  )
  assert critique.text == f'<think>\n{said}'
  assert critique.parsed['status'] == status
  assert critique.finish == 'stop'
  refinement = text_of(lm.stages.refine.prompt(critique))
  assert 'Well.' not in refinement and 'All is well' not in refinement
  if status == 'unfinished':
    assert critique.parsed['verdict'] is None
    assert not shaping.format(critique, [])
    assert not judge(critique, []) and said not in refinement


def test_lessons_go_on_where_the_template_stops():
  lm = opened_lm()
  end = lm.tokenizer.end

  def written(text):
    tokens = lm.encode_response(text)
    assert tokens[-1] == end
    return lm.tokenizer.decode(tokens)

  assert written('<think>\nwhy\n</think>\nso') == 'why\n</think>\nso'
  assert written('<think>why\n</think>\nso') == 'why\n</think>\nso'
  # A text without thinking is none: the thinking is closed first.
  assert written('so') == '\n</think>\n\nso'
  # A record that was sampled is learned as it was sampled.
  tokens = lm.tokenizer.encode('why\n</think>\nso')
  assert lm.encode_response(lm.decode_response(tokens)) == [*tokens, end]


def test_a_template_and_a_prefix_do_not_both_open_the_thinking():
  with pytest.raises(ValueError, match='prefix: got .* opens the thinking'):
    opened_lm(prefix='<think>\n')
  assert opened_lm(prefix='Well').decode_response([]) == '<think>\nWell'


@pytest.fixture(scope='module')
def spaced():
  """A tokenizer that puts a space before every text, as Llama 2's."""
  lines = ['Verdict: correct', 'Verdict: incorrect, it is 12'] * 20
  model = tokenizer.train_sentencepiece(lines, 330)
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  proto.normalizer_spec.add_dummy_prefix = True
  return tokenizer.from_sentencepiece(proto.SerializeToString())


@pytest.mark.parametrize('rest', [' correct', 'x', '\n12', '  two', ''])
def test_a_prefix_has_no_space_of_the_tokenizer_s_own(spaced, rest):
  model = Transformer(tiny_config(vocab_size=400, num_layers=1))
  lm = tiny_lm(model=model, tokenizer=spaced, prefix='Verdict:')
  *tokens, end = lm.encode_response(f'Verdict:{rest}')
  assert end == spaced.end
  # The tokens after the prompt are those of the whole text, and so is the text.
  prompt = lm.encode_prompt('a')
  prefix = spaced.encode('Verdict:')
  assert prompt[-len(prefix) :] == prefix
  assert [*prefix, *tokens] == spaced.encode(f'Verdict:{rest}')
  assert lm.decode_response(tokens) == f'Verdict:{rest}'
