"""Adapters in PEFT's format, against a golden of PEFT's own."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from helpers import random_params

from critic_jax.models import forward, layer_stack, lora
from critic_jax.models.config import Lora
from critic_jax.models.transformer import Transformer
from critic_jax.pretrained import hf_weights, peft_adapters

GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
PEFT = GOLDENS / 'peft'  # made by goldens/make_peft.py
TARGETS = 'attention/(q|o)|mlp/down'
# The settings of the golden.
SETTINGS = Lora(rank=3, alpha=5.0, targets=TARGETS, dropout=0.1)


@pytest.fixture(scope='module')
def base():
  return hf_weights.load_weights(GOLDENS / 'qwen2')


def logits(config, params):
  tokens = np.load(GOLDENS / 'qwen2' / 'golden.npz')['tokens']
  return jax.jit(lambda p: forward.logits(Transformer(config), p, tokens))(
    params
  )


def as_adapters(config, tensors):
  """Returns PEFT's tensors as the parameters of our adapters."""
  shapes = lora.split(random_params(Transformer(config)))[0]

  def fill(path, x):
    layer, part, matrix, name = (key.key for key in path)
    hf_part = {'attention': 'self_attn'}.get(part, part)
    hf_name = (
      f'base_model.model.model.layers.{layer.removeprefix("layers_")}.'
      f'{hf_part}.{matrix}_proj.lora_{name[-1].upper()}.weight'
    )
    return tensors[hf_name].T.reshape(x.shape)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def test_logits_are_pefts(base):
  """Merged into their matrices, and beside them."""
  config, params = base
  read = peft_adapters.read(PEFT)
  assert read.base == 'tests/goldens/qwen2'
  golden = np.load(PEFT / 'golden.npz')['logits']
  plain = np.load(GOLDENS / 'qwen2' / 'golden.npz')['logits']
  assert np.abs(golden - plain).max() > 1
  merged = peft_adapters.merged(config, params, read)
  np.testing.assert_allclose(logits(config, merged), golden, atol=1e-4)
  adapted = dataclasses.replace(config, lora=SETTINGS)
  tensors = {name: get() for name, get in read.tensors.items()}
  beside = lora.join(params, as_adapters(adapted, tensors))
  np.testing.assert_allclose(logits(adapted, beside), golden, atol=1e-4)


@pytest.mark.parametrize('layers', ['unrolled', 'scanned'])
def test_saved_adapters_are_pefts_file(base, tmp_path, layers):
  """So PEFT reads of ours what it reads of its own."""
  config = dataclasses.replace(base[0], lora=SETTINGS)
  ours, theirs = (x / peft_adapters.WEIGHTS for x in (tmp_path, PEFT))
  expected = safetensors.numpy.load_file(theirs)
  params = as_adapters(config, expected)
  if layers == 'scanned':
    params = layer_stack.stack(params)
  source = 'hf://owner/name' if layers == 'scanned' else 'somewhere'
  names = peft_adapters.save(tmp_path, config, SETTINGS, params, source)
  assert {*names} == {path.name for path in tmp_path.iterdir()}
  tensors = safetensors.numpy.load_file(ours)
  assert {*tensors} == {*expected}
  for name, x in expected.items():
    np.testing.assert_array_equal(tensors[name], x, err_msg=name)
  ours, theirs = (
    json.loads((x / peft_adapters.CONFIG).read_text()) for x in (tmp_path, PEFT)
  )
  assert sorted(theirs.pop('target_modules')) == ours.pop('target_modules')
  # An id of the hub is written as PEFT reads it.
  assert ours.pop('base_model_name_or_path') == source.removeprefix('hf://')
  assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(peft_type='IA3'), "got peft_type='IA3'; expected 'LORA'; merge"),
    (dict(use_dora=True), 'got use_dora=True; expected False; merge'),
    (dict(rank_pattern={'q_proj': 1}), 'got rank_pattern='),
    (dict(base_model_name_or_path=None), 'got base_model_name_or_path=None'),
    (dict(r=0), 'got r=0; expected more than 0'),
    (dict(lora_alpha='x'), "got lora_alpha='x'; expected more than 0"),
  ],
)
def test_what_is_no_plain_adapter_is_refused(tmp_path, changes, message):
  shutil.copytree(PEFT, tmp_path, dirs_exist_ok=True)
  path = tmp_path / peft_adapters.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  with pytest.raises(ValueError, match=message):
    peft_adapters.read(tmp_path)


def test_layers_without_adapters_are_not_pefts_to_change(base, tmp_path):
  settings = dataclasses.replace(SETTINGS, last_layers=1)
  config = dataclasses.replace(base[0], lora=settings)
  last = f'layers_{config.num_layers - 1}'
  params = lora.split(random_params(Transformer(config)))[0]
  assert set(params) == {last}
  peft_adapters.save(tmp_path, config, settings, params, 'somewhere')
  saved = json.loads((tmp_path / peft_adapters.CONFIG).read_text())
  assert saved['layers_to_transform'] == [config.num_layers - 1]
  tensors = safetensors.numpy.load_file(tmp_path / peft_adapters.WEIGHTS)
  assert all(last.replace('_', '.') in name for name in tensors)
  assert len(tensors) == 6


def test_stabilised_ranks_are_scaled_by_the_root(tmp_path):
  shutil.copytree(PEFT, tmp_path, dirs_exist_ok=True)
  path = tmp_path / peft_adapters.CONFIG
  content = json.loads(path.read_text()) | dict(use_rslora=True)
  path.write_text(json.dumps(content))
  assert peft_adapters.read(tmp_path).scale == pytest.approx(5 / 3**0.5)


def test_tensors_that_do_not_fit_are_refused(base, tmp_path):
  config, params = base
  tensors = safetensors.numpy.load_file(PEFT / peft_adapters.WEIGHTS)
  name = min(tensors)
  shutil.copy(PEFT / peft_adapters.CONFIG, tmp_path)
  with pytest.raises(ValueError, match=r'got \[\] in .*expected that file'):
    peft_adapters.read(tmp_path)
  for changed, message in (
    ({name: tensors[name][:, 1:]}, 'got the shapes'),
    ({'base_model.model.lm_head.lora_A.weight': tensors[name]}, 'unexpected'),
    ({name: None}, 'got no such tensor; expected A and B'),
  ):
    content = {k: x for k, x in (tensors | changed).items() if x is not None}
    content = {k: np.ascontiguousarray(x) for k, x in content.items()}
    safetensors.numpy.save_file(content, tmp_path / peft_adapters.WEIGHTS)
    with pytest.raises(ValueError, match=message):
      peft_adapters.merged(config, params, peft_adapters.read(tmp_path))
