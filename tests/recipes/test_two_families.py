"""Solver and critic of different families, with tokenizers of their own."""

import jax
import ml_collections
import numpy as np
from helpers import random_params
from loop_helpers import make_recipe

from configs import common, refcritic
from critic_jax.models.config import TransformerConfig
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights
from critic_jax.recipes import refcritic as recipe
from critic_jax.tasks import arithmetic, arithmetic_tokenizer
from critic_jax.text.tokenizer import from_sentencepiece, train_sentencepiece
from critic_jax.training import roles


def save_llama(folder):
  """Saves a Llama with a small tokenizer of its own, as Hugging Face does."""
  texts = arithmetic_tokenizer.corpus(40, seed=1)
  tokenizer = from_sentencepiece(train_sentencepiece(texts, 400))
  config = TransformerConfig(
    vocab_size=tokenizer.vocab_size,
    embed_dim=32,
    mlp_dim=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    tie_embeddings=False,
  )
  params = random_params(Transformer(config), seed=1)
  hf_weights.save(folder, config, jax.device_get(params), tokenizer)


def test_each_reads_the_other_through_text(tmp_path):
  save_llama(tmp_path / 'llama')
  limits = dict(max_new_tokens=8, lengths=(256, 320))
  sections = dict(
    solver=common.model(
      'nano',
      tokenizer=dict(module='arithmetic_tokenizer', name='tokenizer'),
      **limits,
    ),
    critic=common.model(source=str(tmp_path / 'llama'), **limits),
  )
  lms, loaded = roles.make_lms(sections), roles.load_params(sections)
  solver, critic = lms['solver'], lms['critic']
  assert solver.model.config.qk_norm and not critic.model.config.qk_norm
  assert solver.tokenizer.vocab_size != critic.tokenizer.vocab_size
  params = {
    'solver': random_params(solver.model),
    'critic': loaded['critic'],
  }
  config = ml_collections.ConfigDict(
    refcritic.refcritic(num_critiques=2)
    | dict(batch_size=2, aggregate='token', row_shapes=(), microbatches=1)
  )
  two_family_recipe = make_recipe(
    recipe, config, lms, lambda pairs: ['wrong'] * len(pairs)
  )
  problems = arithmetic.problems('train', 2)
  batch, records = two_family_recipe.collect(
    params, problems, jax.random.key(2)
  )

  critiques = [r for r in records if r.stage == 'critique']
  assert len(critiques) == 4
  for critique in critiques:
    prompt = critic.tokenizer.decode(critique.prompt_tokens)
    assert critique.problem.question in prompt
    assert critique.parent.text in prompt
  ids = np.concatenate([batch['tokens'][batch['mask']], [0]])
  assert ids.max() < critic.tokenizer.vocab_size
  loss, _ = two_family_recipe.loss({'critic': params['critic']}, batch)
  assert np.isfinite(loss)
