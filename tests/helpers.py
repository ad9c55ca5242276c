"""Shared by tests: tiny models, a byte tokenizer, records, compile counts."""

import contextlib
import functools
import logging
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from critic_jax.models import transformer
from critic_jax.models.config import (
  LinearScaling,
  RopeScaling,
  TransformerConfig,
  YarnScaling,
)
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts.styles import plain
from critic_jax.sampling.lm import LM
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.types import Begun, Problem, Prompt, Record

VOCAB_SIZE = 64

# The fields that tell families apart; all have grouped queries.
FAMILIES = {
  'llama': dict(rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16), norm_eps=1e-5),
  'qwen2': dict(qkv_bias=True, rope_theta=1e6),
  'qwen3': dict(qk_norm=True, rope_theta=1e6),
}
# Others, for tests of what only they have: windows, experts, scales.
OTHER_FAMILIES = {
  'mistral': dict(sliding_window=4, rope_scaling=YarnScaling(4.0, 16, 1.2)),
  'gemma3': dict(
    sliding_window=4, global_every=2, local_rope_theta=100.0,
    query_scale=10**-0.5,
    rope_scaling=LinearScaling(8.0), qk_norm=True, norm_offset=1.0,
    post_norms=True, scale_embeddings=True, activation='gelu_tanh',
  ),
  'qwen3_moe': dict(
    qk_norm=True, mlp_dim=24, num_experts=8, experts_per_token=2,
    normalize_experts=True,
  ),
}  # fmt: skip


def slow(*cases) -> list:
  """Marks cases of a test as `slow`, where another one is quick."""
  return [
    pytest.param(*case, marks=pytest.mark.slow)
    if isinstance(case, tuple)
    else pytest.param(case, marks=pytest.mark.slow)
    for case in cases
  ]


def tiny_config(family='qwen3', **changes) -> TransformerConfig:
  """Makes the config of a model that compiles in a second."""
  sizes = dict(
    vocab_size=VOCAB_SIZE,
    embed_dim=32,
    mlp_dim=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_len=128,
  )
  features = (FAMILIES | OTHER_FAMILIES)[family]
  return TransformerConfig(**{**sizes, **features, **changes})


def random_params(model: Transformer, seed=0):
  """Draws parameters, none 0 or 1, by numpy: nothing compiles.

  Logits of different tokens differ by about 1, so that no sampling_params is
  flat and none is a point.
  """
  random = np.random.default_rng(seed)

  def draw(path, x):
    name = path[-1].key
    if name == 'scale':
      array = random.uniform(0.5, 1.5, x.shape) - model.config.norm_offset
    elif name == 'bias':
      array = random.normal(0.0, 0.3, x.shape)
    else:
      array = random.normal(0.0, model.config.embed_dim**-0.5, x.shape)
    return jax.numpy.asarray(array, x.dtype)

  shapes = nn.meta.unbox(transformer.abstract_params(model))
  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def tiny_model(family='qwen3', **changes):
  """Makes a model and its parameters; the same ones for each caller."""
  model = Transformer(tiny_config(family, **changes))
  return model, random_params(model)


def byte_tokenizer() -> Tokenizer:
  """Makes a tokenizer: ids 0-255 are bytes; 256, 257 end a text, 258 pads."""
  special = {'<eos>': 256, '<end>': 257, '<pad>': 258}
  names = {number: text.encode() for text, number in special.items()}

  def encode(text, parse_special):
    if not parse_special:
      return list(text.encode())
    tokens = []
    for part in re.split('(<eos>|<end>|<pad>)', text):
      tokens += [special[part]] if part in special else part.encode()
    return tokens

  def decode(tokens):
    data = b''.join(names.get(t) or bytes([t]) for t in tokens)
    return data.decode(errors='replace')

  return Tokenizer(
    vocab_size=259,
    eos=(256, 257),
    pad=258,
    bos=None,
    unknown=None,
    special=special,
    chat_template=None,
    adds_bos=False,
    files={},
    encode_fn=encode,
    decode_fn=decode,
  )


def tiny_lm(family='qwen3', **settings) -> LM:
  """Makes a tiny model that reads bytes; `settings` replace fields of `LM`."""
  fields = dict(
    model=Transformer(tiny_config(family, vocab_size=264)),
    tokenizer=byte_tokenizer(),
    stages=plain.STAGES,
    sampling_params=SamplingParams(),
    max_new_tokens=8,
    lengths=(8, 16),
    max_rows=8,
  )
  return LM(**{**fields, **settings})


def text_of(prompt: Prompt) -> str:
  """Returns all texts of a prompt, in order."""
  if isinstance(prompt, str):
    return prompt
  if isinstance(prompt, Begun):
    return prompt.asked + prompt.text
  return '\n'.join([prompt.asked, prompt.response.text, prompt.message])


PROBLEM = Problem('sum-0', 'What is 3 + 4?', '7')


def make_record(
  stage='solve', parent=None, *, problem=PROBLEM, index=0, text='', **fields
) -> Record:
  """Makes a record; by default three prompt tokens and two response tokens.

  Args:
    stage: its stage.
    parent: the record it responds to; the problem is then its problem.
    problem: see `parent`.
    index: its number among its siblings.
    text: the response.
    **fields: other fields of `Record`; tokens may be lists.
  """
  tokens = np.asarray(fields.pop('tokens', [4, 5]), np.int32)
  logprobs = fields.pop('logprobs', np.linspace(-0.5, -2.0, len(tokens)))
  return Record(
    problem=parent.problem if parent else problem,
    stage=stage,
    parent=parent,
    index=index,
    prompt_tokens=np.asarray(fields.pop('prompt_tokens', [1, 2, 3]), np.int32),
    tokens=tokens,
    logprobs=np.asarray(logprobs, np.float32),
    text=text,
    **fields,
  )


def assemble(prompts, length, samples):
  """Lays out training rows of sampled responses, as trainers see them.

  Args:
    prompts: int32[B, P].
    length: int32[B].
    samples: `sampling.Samples` of B * n rows.

  Returns:
    tokens int32[B * n, P + R], mask bool and logprobs float32 of that shape.
  """
  num_rows, max_new_tokens = samples.tokens.shape
  siblings = num_rows // len(length)
  shape = num_rows, prompts.shape[1] + max_new_tokens
  tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
  logprobs = np.zeros(shape, np.float32)
  for row in range(num_rows):
    start = length[row // siblings]
    end = start + samples.length[row]
    tokens[row, :start] = prompts[row // siblings, :start]
    tokens[row, start:end] = samples.tokens[row, : end - start]
    logprobs[row, start:end] = samples.logprobs[row, : end - start]
    mask[row, start:end] = True
  return tokens, mask, logprobs


@contextlib.contextmanager
def log_compilations():
  """Yields a list, at the end of the block the functions XLA compiled in it.

  As optax's `_src/test_utils.py` does. A second call that compiles nothing:

      with log_compilations() as compiled:
        f(x)
      assert not compiled
  """
  compiled = []
  pattern = re.compile(r'Finished XLA compilation of (?:jit\()?([^ )]*)')

  class Handler(logging.Handler):
    def emit(self, record):
      if match := pattern.search(record.getMessage()):
        compiled.append(match[1])

  handler, logger = Handler(), logging.getLogger('jax')
  logger.addHandler(handler)
  try:
    with jax.log_compiles():
      yield compiled
  finally:
    logger.removeHandler(handler)


def assert_trees_close(actual, expected, **tolerances):
  """Asserts that leaves are close; an error names the path of a leaf."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(actual),
    jax.tree.leaves(expected),
    strict=True,
  ):
    np.testing.assert_allclose(
      np.asarray(x, np.float32),
      np.asarray(y, np.float32),
      err_msg=jax.tree_util.keystr(path),
      **tolerances,
    )
