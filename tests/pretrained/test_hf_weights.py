import dataclasses
import json
import pathlib
import shutil
import sys

import flax.linen as nn
import gguf
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from helpers import OTHER_FAMILIES, assert_trees_close

from critic_jax import convert as convert_command
from critic_jax.models import layer_stack
from critic_jax.models.config import RopeScaling, TransformerConfig
from critic_jax.models.transformer import Transformer, abstract_params
from critic_jax.pretrained import gguf_file, gguf_import, hf_weights
from critic_jax.text import tokenizer

GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
SIZES = dict(
  vocab_size=40, embed_dim=16, mlp_dim=24, num_layers=2, num_heads=4,
  num_kv_heads=2, head_dim=8, max_len=32,
)  # fmt: skip
FAMILIES = {
  'llama': dict(rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16), norm_eps=1e-5),
  'qwen2': dict(qkv_bias=True, rope_theta=1e6),
  'qwen3': dict(qk_norm=True),
}


@pytest.fixture(scope='module')
def pieces():
  return tokenizer.from_sentencepiece(
    tokenizer.train_sentencepiece(['hello world'], 300)
  )


def model(family, tie=True, dtype=np.float32, **sizes):
  config = TransformerConfig(
    **SIZES
    | (FAMILIES | OTHER_FAMILIES)[family]
    | {'tie_embeddings': tie, **sizes}
  )
  shapes = nn.meta.unbox(abstract_params(Transformer(config)))
  rng = np.random.default_rng(0)  # biases and norms are not trivial either
  return config, jax.tree.map(
    lambda x: rng.standard_normal(x.shape).astype(dtype), shapes
  )


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize('family', [*FAMILIES, *OTHER_FAMILIES])
@pytest.mark.parametrize('tie', [True, False])
@pytest.mark.parametrize('dtype', [np.float32, np.float16, ml_dtypes.bfloat16])
def test_round_trip_bit_for_bit(tmp_path, pieces, family, tie, dtype):
  config, params = model(family, tie, dtype)
  names = hf_weights.save(tmp_path, config, params, pieces)
  assert sorted(names) == sorted(p.name for p in tmp_path.iterdir())
  config_read, params_read, tokenizer_read = hf_weights.load(tmp_path)
  assert config_read == config
  assert_same(params_read, params)
  model_file = 'tokenizer.model'
  assert tokenizer_read.files[model_file] == pieces.files[model_file]
  assert tokenizer_read.eos == pieces.eos
  written = json.loads((tmp_path / 'config.json').read_text())
  assert written['torch_dtype'] == np.dtype(dtype).name


def test_a_config_is_read_without_weights(tmp_path, pieces):
  config, params = model('qwen2', tie=False)
  hf_weights.save(tmp_path, config, params, pieces)
  (tmp_path / 'model.safetensors').unlink()
  assert hf_weights.load_config(tmp_path) == config


def test_shards_are_small_enough_and_replace_the_old(tmp_path, pieces):
  config, params = model('llama', tie=False)
  hf_weights.save(tmp_path, config, params, pieces)
  names = hf_weights.save(
    tmp_path, config, params, pieces, max_shard_bytes=4000
  )
  shards = [n for n in names if n.startswith('model-')]
  assert len(shards) > 2
  assert sorted(p.name for p in tmp_path.glob('*.safetensors')) == shards
  for name in shards:
    tensors = safetensors.numpy.load_file(tmp_path / name)
    assert sum(x.nbytes for x in tensors.values()) <= 4000
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  assert set(index['weight_map'].values()) == set(shards)
  total = sum(x.nbytes for x in jax.tree.leaves(params))
  assert index['metadata']['total_size'] == total
  assert_same(hf_weights.load_weights(tmp_path)[1], params)
  hf_weights.save(tmp_path, config, params, pieces)
  assert [p.name for p in tmp_path.glob('model*')] == ['model.safetensors']


def test_files_of_a_cache_are_replaced_and_not_written_to(tmp_path, pieces):
  # In Hugging Face's cache a model's files are links to files of a store.
  config, params = model('llama', tie=False)
  folder, store = tmp_path / 'snapshot', tmp_path / 'store'
  store.mkdir()
  names = hf_weights.save(folder, config, params, pieces)
  for name in names:
    (folder / name).rename(store / name)
    (folder / name).symlink_to(store / name)
  before = {path.name: path.read_bytes() for path in store.iterdir()}
  _, others = model('llama', tie=False, dtype=np.float16)
  hf_weights.save(folder, config, others, pieces)
  assert {path.name: path.read_bytes() for path in store.iterdir()} == before
  assert_same(hf_weights.load_weights(folder)[1], others)


def test_dtype_casts(tmp_path, pieces):
  config, params = model('qwen2')
  hf_weights.save(tmp_path, config, params, pieces, dtype='bfloat16')
  expected = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
  assert_same(hf_weights.load_weights(tmp_path)[1], expected)


def test_float16_overflow_is_refused(tmp_path, pieces):
  config, params = model('llama')
  params['final_norm']['scale'][0] = 1e6
  with pytest.raises(ValueError, match='model.norm.weight: got values beyond'):
    hf_weights.save(tmp_path, config, params, pieces, dtype='float16')


def test_saved_arrays_may_be_jax_arrays(tmp_path, pieces):
  config, params = model('llama')
  on_device = jax.tree.map(jax.numpy.asarray, params)
  for saved in (on_device, layer_stack.stack(on_device)):
    hf_weights.save(tmp_path, config, saved, pieces)
    assert_same(hf_weights.load_weights(tmp_path)[1], params)


def test_kernels_are_transposed_heads_last(tmp_path, pieces):
  config, params = model('llama')
  hf_weights.save(tmp_path, config, params, pieces)
  stored = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
  q = params['layers_1']['attention']['q']['kernel']  # [D, H, Dh]
  name = 'model.layers.1.self_attn.q_proj.weight'
  assert stored[name].shape == (4 * 8, 16)
  np.testing.assert_array_equal(stored[name][8 * 3 + 5], q[:, 3, 5])
  o = params['layers_1']['attention']['o']['kernel']  # [H, Dh, D]
  name = 'model.layers.1.self_attn.o_proj.weight'
  np.testing.assert_array_equal(stored[name][:, 8 * 3 + 5], o[3, 5])


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(head='value'), 'head: got'),
    (dict(qkv_bias=True, qk_norm=True), "'qk_norm': True, 'qkv_bias': True"),
    (dict(embed_dim=32), 'params embed/embedding: got'),
    (dict(num_layers=3), 'params layers_2/attention/q/kernel: got none'),
    (dict(num_layers=1), 'params layers_1.*: got an unexpected parameter'),
  ],
)
def test_params_that_do_not_fit_are_not_saved(
  tmp_path, pieces, change, message
):
  config, params = model('llama')
  if 'qk_norm' in change:
    for i in range(2):
      attention = params[f'layers_{i}']['attention']
      for name, heads in (('q', 4), ('k', 2), ('v', 2)):
        attention[name]['bias'] = np.zeros((heads, 8), np.float32)
        attention[f'{name}_norm'] = {'scale': np.ones(8, np.float32)}
      del attention['v_norm']
  with pytest.raises(ValueError, match=message):
    config = dataclasses.replace(config, **change)
    hf_weights.save(tmp_path, config, params, pieces)


def test_integers_are_not_saved(tmp_path, pieces):
  config, params = model('llama')
  params['final_norm']['scale'] = np.ones(16, np.int8)
  with pytest.raises(ValueError, match='final_norm/scale: got int8'):
    hf_weights.save(tmp_path, config, params, pieces)


# --- config.json ------------------------------------------------------------


def copy_golden(tmp_path, family='llama', **changes):
  folder = tmp_path / family
  shutil.copytree(GOLDENS / family, folder)
  config = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(config | changes))
  return folder


def test_rope_settings_of_old_and_new_transformers(tmp_path):
  folder = copy_golden(tmp_path)
  new, _ = hf_weights.load_weights(folder)
  assert new.rope_theta == 500.0
  assert new.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 16)
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  rope = config.pop('rope_parameters')
  config['rope_theta'] = rope.pop('rope_theta')
  config['rope_scaling'] = rope
  path.write_text(json.dumps(config))
  assert hf_weights.load_weights(folder)[0] == new


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      dict(architectures=['Gemma2ForCausalLM']),
      "got .'Gemma2ForCausalLM'., which has soft caps; .*; take Gemma 3 instea",
    ),
    (dict(architectures=['NewForCausalLM']), "got .'NewForCausalLM'.; expect"),
    (
      dict(architectures=['Qwen3MoeForCausalLM'], mlp_only_layers=[0]),
      r'mlp_only_layers=\[0\]',
    ),
    (
      dict(
        architectures=['Gemma3ForCausalLM'],
        final_logit_softcapping=30.0,
        hidden_activation='gelu_pytorch_tanh',
      ),
      'final_logit_softcapping=30.0',
    ),
    (
      dict(
        architectures=['MistralForCausalLM'],
        layer_types=['sliding_attention', 'full_attention'],
      ),
      'layer_types: got',
    ),
    (dict(architectures=None), 'architectures: got'),
    (dict(hidden_act='gelu'), "hidden_act='gelu'"),
    (dict(attention_bias=True), 'attention_bias=True'),
    (dict(use_sliding_window=True), 'use_sliding_window=True'),
    (dict(quantization_config={'bits': 4}), 'quantization_config='),
    (dict(layer_types=['sliding_attention']), 'layer_types: got'),
    (dict(rope_parameters={'rope_type': 'dynamic'}), "rope_scaling: .*'dynam"),
    (dict(rope_parameters={'rope_type': 'yarn'}), 'got factor=None'),
    (
      dict(rope_parameters=None, rope_scaling={'type': 'linear'}),
      'got factor=None',
    ),
    (
      dict(rope_parameters={'rope_type': 'yarn', 'rope_theta': 1.0}),
      'rope_theta: got 1.0 with the type yarn',
    ),
    (
      dict(rope_parameters={'full_attention': {'rope_theta': 1.0}}),
      'rope_scaling: got',
    ),
    (dict(rope_parameters={'rope_type': 'llama3'}), 'got factor=None'),
    (dict(hidden_size='wide'), "hidden_size='wide'"),
    (dict(num_attention_heads=3), 'num_heads: got 3'),
    (dict(num_attention_heads=0), 'num_attention_heads=0'),
    (dict(vocab_size=None), 'vocab_size=None'),
    (dict(num_hidden_layers=1.5), 'num_hidden_layers=1.5'),
    (dict(num_hidden_layers=10**9), 'num_hidden_layers=1000000000'),
    (dict(rms_norm_eps=10**400), 'rms_norm_eps='),
    (dict(architectures=5), 'architectures: got 5'),
    (dict(layer_types=[[]]), 'layer_types: got'),
    (dict(layer_types=5), 'layer_types: got 5'),
    (dict(rope_parameters=[1]), 'rope_scaling: got'),
    (dict(intermediate_size=50), r'gate_proj.weight: got shape \(48, 32\)'),
    (dict(tie_word_embeddings=True), 'lm_head.weight: got another matrix'),
    (dict(num_hidden_layers=3), 'model.layers.2.*: got no such tensor'),
    (dict(num_hidden_layers=1), 'model.layers.1.*: got an unexpected'),
  ],
)
def test_configs_that_cannot_be_honoured(tmp_path, changes, message):
  folder = copy_golden(tmp_path, **changes)
  with pytest.raises(ValueError, match=message):
    hf_weights.load_weights(folder)


def test_missing_and_malformed_config(tmp_path):
  folder = copy_golden(tmp_path)
  (folder / 'config.json').write_text('{')
  with pytest.raises(ValueError, match='config.json: got'):
    hf_weights.load_weights(folder)
  (folder / 'config.json').write_text('[' * 10**5)
  with pytest.raises(ValueError, match='config.json: got'):
    hf_weights.load_weights(folder)
  (folder / 'config.json').write_text('[]')
  with pytest.raises(ValueError, match='config.json: got'):
    hf_weights.load_weights(folder)
  (folder / 'config.json').unlink()
  with pytest.raises(ValueError, match='config.json: got none'):
    hf_weights.load_weights(folder)


def edit_tensors(folder, edit):
  path = folder / 'model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  edit(tensors)
  safetensors.numpy.save_file(tensors, path)


def test_a_tied_checkpoint_may_hold_the_head_too(tmp_path):
  folder = copy_golden(tmp_path, 'qwen2')
  _, params = hf_weights.load_weights(folder)

  def add_head(tensors):
    tensors['lm_head.weight'] = tensors['model.embed_tokens.weight']
    tensors['model.layers.0.self_attn.rotary_emb.inv_freq'] = np.ones(4)

  edit_tensors(folder, add_head)
  assert_same(hf_weights.load_weights(folder)[1], params)


@pytest.mark.parametrize(
  'prefix', ['language_model.model', 'model.language_model']
)
def test_the_part_for_texts_of_a_model_of_images_is_read(tmp_path, prefix):
  config, params = hf_weights.load_weights(GOLDENS / 'gemma3')
  folder = copy_golden(tmp_path, 'gemma3')
  path = folder / 'config.json'
  whole = dict(
    architectures=['Gemma3ForConditionalGeneration'],
    text_config=json.loads(path.read_text()),
  )
  path.write_text(json.dumps(whole))

  def add_images(tensors):
    for name in [*tensors]:
      tensors[name.replace('model', prefix, 1)] = tensors.pop(name)
    tensors['vision_tower.x.weight'] = np.ones(3, np.float32)
    tensors['model.multi_modal_projector.y'] = np.ones(3, np.float32)

  edit_tensors(folder, add_images)
  config_read, params_read = hf_weights.load_weights(folder)
  assert config_read == config
  assert_same(params_read, params)


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (lambda t: t.pop('model.norm.weight'), 'model.norm.weight: got no such'),
    (lambda t: t.update(extra=np.ones(3)), 'extra: got an unexpected tensor'),
    (
      lambda t: t.update({'model.norm.weight': np.ones(33, np.float32)}),
      r'model.norm.weight: got shape \(33,\); expected \(32,\)',
    ),
    (
      lambda t: t.update({'model.norm.weight': np.ones(32, np.int32)}),
      'model.norm.weight: got the type I32',
    ),
  ],
)
def test_tensors_that_do_not_fit(tmp_path, edit, message):
  folder = copy_golden(tmp_path)
  edit_tensors(folder, edit)
  with pytest.raises(ValueError, match=message):
    hf_weights.load_weights(folder)


# --- Damaged files ----------------------------------------------------------


def test_truncated_safetensors(tmp_path):
  folder = copy_golden(tmp_path)
  path = folder / 'model.safetensors'
  data = path.read_bytes()
  header = 8 + int.from_bytes(data[:8], 'little')
  cuts = (0, 1, 7, 8, 100, header - 1, header, header + 1, len(data) // 2)
  for cut in (*cuts, len(data) - 1):
    path.write_bytes(data[:cut])
    with pytest.raises(ValueError, match='complete safetensors file'):
      hf_weights.load_weights(folder)
  for bad in (data + b'\0', b'\xff' * 8 + data[8:], b'PK\x03\x04' + data[4:]):
    path.write_bytes(bad)
    with pytest.raises(ValueError, match='complete safetensors file'):
      hf_weights.load_weights(folder)


def sharded(tmp_path, pieces):
  config, params = model('llama')
  hf_weights.save(tmp_path, config, params, pieces, max_shard_bytes=4000)
  path = tmp_path / 'model.safetensors.index.json'
  return path, json.loads(path.read_text())


def test_bad_indices(tmp_path, pieces):
  path, index = sharded(tmp_path / 'model', pieces)
  weight_map = index['weight_map']
  name = 'model.norm.weight'
  outside = tmp_path / 'outside.safetensors'
  safetensors.numpy.save_file({name: np.ones(16, np.float32)}, outside)
  other = next(f for f in weight_map.values() if f != weight_map[name])
  bad = {
    '../outside.safetensors': 'expected a file of this folder',
    str(outside): 'expected a file of this folder',
    'absent.safetensors': 'expected it to exist',
    other: f'{name}: got no such tensor',
    5: 'expected a file of this folder',
    'a' * 300: 'expected it to exist',
  }
  for file, message in [*bad.items(), ([], 'expected a file of this folder')]:
    changed = {'weight_map': weight_map | {name: file}}
    path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=message):
      hf_weights.load_weights(path.parent)
  fewer = {k: v for k, v in weight_map.items() if k != name}
  path.write_text(json.dumps({'weight_map': fewer}))
  with pytest.raises(ValueError, match=f'{name}: got'):
    hf_weights.load_weights(path.parent)
  empty = '{"weight_map": {}}'
  for text in ('{', '[]', '{}', '{"weight_map": 3}', empty, '[' * 10**5):
    path.write_text(text)
    with pytest.raises(ValueError, match='index.json: got'):
      hf_weights.load_weights(path.parent)


def test_pickles_are_refused(tmp_path):
  folder = copy_golden(tmp_path)
  (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
  with pytest.raises(ValueError, match="got .'pytorch_model.bin'.*safetensors"):
    hf_weights.load_weights(folder)


def test_paths_that_name_nothing(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match='expected one that exists'):
    hf_weights.load(tmp_path / 'absent')
  (tmp_path / 'model.bin').write_bytes(b'')
  with pytest.raises(ValueError, match='got the file'):
    hf_weights.load(tmp_path / 'model.bin')
  for name in ('no_such_package', 'os.path', '../x', ''):
    with pytest.raises(ValueError, match='package: got'):
      hf_weights.load(f'package:{name}')
  (tmp_path / 'two_models').mkdir()
  for file in ('__init__.py', 'a.gguf', 'b.gguf'):
    (tmp_path / 'two_models' / file).touch()
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match='two_models: got 2 .gguf files'):
    hf_weights.load('package:two_models')
  assert 'two_models' not in sys.modules  # found without being run


# --- GGUF -------------------------------------------------------------------

QUANTIZED = ('F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1')
# Blocks have 32 values, so rows are multiples of 32.
GGUF_SIZES = dict(embed_dim=32, mlp_dim=64, head_dim=8, vocab_size=40)
PARTS = {
  'attn_q': ('attention', 'q', 'kernel'),
  'attn_k': ('attention', 'k', 'kernel'),
  'attn_v': ('attention', 'v', 'kernel'),
  'attn_output': ('attention', 'o', 'kernel'),
  'ffn_gate': ('mlp', 'gate', 'kernel'),
  'ffn_up': ('mlp', 'up', 'kernel'),
  'ffn_down': ('mlp', 'down', 'kernel'),
}


def interleave(x, heads):
  """llama.cpp's permutation of q and k rows (convert_hf_to_gguf.py)."""
  halves = x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:])
  return halves.swapaxes(1, 2).reshape(x.shape)


def write_gguf(path, arch, config, params, kind='F32', **metadata):
  """Writes the model; returns its parameters after quantisation."""
  writer = gguf.GGUFWriter(path, arch)
  writer.add_block_count(config.num_layers)
  writer.add_context_length(config.max_len)
  writer.add_embedding_length(config.embed_dim)
  writer.add_feed_forward_length(config.mlp_dim)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_key_length(config.head_dim)
  writer.add_layer_norm_rms_eps(config.norm_eps)
  writer.add_rope_freq_base(config.rope_theta)
  writer.add_vocab_size(config.vocab_size)
  for key, value in metadata.items():
    writer.add_string(f'{arch}.{key}', value)
  params = jax.tree.map(np.array, params)

  def add(name, x, kind='F32'):
    kind = gguf.GGMLQuantizationType[kind]
    data = gguf.quants.quantize(np.ascontiguousarray(x), kind)
    writer.add_tensor(name, data, raw_dtype=kind)
    return gguf.quants.dequantize(data, kind)

  embed = params['embed']
  embed['embedding'] = add('token_embd.weight', embed['embedding'], kind)
  add('output_norm.weight', params['final_norm']['scale'])
  if not config.tie_embeddings:
    head = params['lm_head']
    head['kernel'] = add('output.weight', head['kernel'].T, kind).T
  for i in range(config.num_layers):
    layer = params[f'layers_{i}']
    add(f'blk.{i}.attn_norm.weight', layer['attention_norm']['scale'])
    add(f'blk.{i}.ffn_norm.weight', layer['mlp_norm']['scale'])
    for norm in ('q_norm', 'k_norm') if config.qk_norm else ():
      scale = layer['attention'][norm]['scale']
      add(f'blk.{i}.attn_{norm}.weight', scale)
    for part, (block, name, leaf) in PARTS.items():
      node = layer[block][name]
      shape = node[leaf].shape
      rows = config.embed_dim if part == 'attn_output' else None
      x = (
        node[leaf].reshape(-1, rows).T
        if rows
        else node[leaf].reshape(shape[0], -1).T
      )
      permuted = arch == 'llama' and part in ('attn_q', 'attn_k')
      if permuted:
        x = interleave(x, shape[1])
      x = add(f'blk.{i}.{part}.weight', x, kind)
      if permuted:  # back: the halves of a head are its even and odd rows
        x = x.reshape(shape[1], shape[2] // 2, 2, -1)
        x = np.concatenate([x[:, :, 0], x[:, :, 1]], axis=1)
        x = x.reshape(shape[1] * shape[2], -1)
      node[leaf] = x.T.reshape(shape)
      if 'bias' in node:
        add(f'blk.{i}.{part}.bias', node['bias'].reshape(-1))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return params


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('kind', QUANTIZED)
def test_gguf_types(tmp_path, family, kind):
  config, params = model(
    family, tie=kind != 'F16', rope_scaling=None, **GGUF_SIZES
  )
  path = tmp_path / 'model.gguf'
  expected = write_gguf(path, family, config, params, kind)
  config_read, params_read = hf_weights.load_weights(path)
  eps = config_read.norm_eps  # GGUF keeps it in float32
  assert eps == pytest.approx(config.norm_eps, rel=1e-6)
  assert dataclasses.replace(config_read, norm_eps=config.norm_eps) == config
  assert_same(params_read, expected)
  if kind == 'F32':
    assert_same(params_read, params)


def rope_factors(scaling, config):
  """Computes the frequencies' divisors by convert_hf_to_gguf.py's loop."""
  factors = []
  for i in range(0, config.head_dim, 2):
    wavelength = 2 * np.pi * config.rope_theta ** (i / config.head_dim)
    low = scaling.original_max_len / scaling.low_freq_factor
    high = scaling.original_max_len / scaling.high_freq_factor
    smooth = (
      scaling.original_max_len / wavelength - scaling.low_freq_factor
    ) / (scaling.high_freq_factor - scaling.low_freq_factor)
    if wavelength < high:
      factors.append(1.0)
    elif wavelength > low:
      factors.append(scaling.factor)
    else:
      factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
  return np.array(factors, np.float32)


def test_gguf_llama3_scaling_is_read_off_its_divisors():
  scaling = RopeScaling(8.0, 1.0, 4.0, 8192)
  config = TransformerConfig(**SIZES | dict(head_dim=64, rope_theta=5e5))
  factors = rope_factors(scaling, config)
  assert ((factors > 1) & (factors < 8)).any()  # some are blended
  arch = 'llama.'
  metadata = {
    'general.architecture': 'llama',
    arch + 'vocab_size': 40,
    arch + 'embedding_length': 256,
    arch + 'attention.head_count': 4,
    arch + 'feed_forward_length': 24,
    arch + 'block_count': 2,
    arch + 'attention.layer_norm_rms_epsilon': 1e-5,
    arch + 'context_length': 131072,
    arch + 'rope.freq_base': 5e5,
  }
  hf, tensors = gguf_import.to_hf(
    metadata, {'rope_freqs.weight': lambda: factors}
  )
  assert hf['rope_scaling'] == {
    'rope_type': 'llama3',
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  }
  assert not tensors
  with pytest.raises(ValueError, match='rope_freqs.weight: got'):
    gguf_import.to_hf(
      metadata, {'rope_freqs.weight': lambda: np.linspace(1, 8, 32)}
    )
  for key, value in {'rope.scaling.type': 'yarn', 'expert_count': 8}.items():
    with pytest.raises(ValueError, match=f'llama.{key}: got'):
      gguf_import.to_hf(metadata | {arch + key: value}, {})
  for key, value in {
    'attention.head_count': 2**40,
    'attention.head_count_kv': [4, 4],
    'attention.key_length': 2**62,
    'embedding_length': True,
    'rope.freq_base': 'x',
  }.items():
    changed = metadata | {arch + key: value}
    with pytest.raises(ValueError, match=f'llama.{key}: got'):
      gguf_import.to_hf(changed, {'rope_freqs.weight': lambda: factors})
  with pytest.raises(ValueError, match=r"architecture: got \['llama'\]"):
    gguf_import.to_hf({'general.architecture': ['llama']}, {})
  del metadata[arch + 'block_count']
  with pytest.raises(ValueError, match='llama.block_count: got none'):
    gguf_import.to_hf(metadata, {})


def test_gguf_of_another_architecture(tmp_path):
  config, params = model('llama', rope_scaling=None, **GGUF_SIZES)
  write_gguf(tmp_path / 'model.gguf', 'gemma3', config, params)
  with pytest.raises(ValueError, match="general.architecture: got 'gemma3'"):
    hf_weights.load_weights(tmp_path / 'model.gguf')


def test_truncated_gguf(tmp_path):
  config, params = model('llama', rope_scaling=None, **GGUF_SIZES)
  path = tmp_path / 'model.gguf'
  write_gguf(path, 'llama', config, params, 'Q8_0')
  data = path.read_bytes()
  cuts = [*range(0, 2500, 61), *np.linspace(2500, len(data) - 64, 20)]
  for cut in map(int, cuts):
    path.write_bytes(data[:cut])
    with pytest.raises(ValueError):
      hf_weights.load_weights(path)


def test_corrupt_gguf_headers_fail_fast(tmp_path):
  config, params = model('llama', rope_scaling=None, **GGUF_SIZES)
  path = tmp_path / 'model.gguf'
  write_gguf(path, 'llama', config, params)
  data = bytearray(path.read_bytes())
  huge = (2**62).to_bytes(8, 'little')
  for at, value in (
    (0, b'GGUX'),
    (4, b'\x09\0\0\0'),  # version
    (8, huge),  # number of tensors
    (16, huge),  # number of keys
    (24, huge),  # length of the first key
  ):
    path.write_bytes(data[:at] + value + data[at + len(value) :])
    with pytest.raises(ValueError, match='model.gguf: got'):
      hf_weights.load_weights(path)
  # An array that claims 2^62 strings, numbers, or arrays.
  for inner in (8, 6, 9):
    array = (9).to_bytes(4, 'little') + inner.to_bytes(4, 'little') + huge
    body = b'GGUF' + (3).to_bytes(4, 'little') + bytes(8)
    body += (1).to_bytes(8, 'little') + (1).to_bytes(8, 'little') + b'k'
    path.write_bytes(body + array + bytes(64))
    with pytest.raises(ValueError, match='model.gguf: got'):
      gguf_file.read(path)


@pytest.mark.parametrize('seed', range(4))
def test_flipped_bytes_never_raise_anything_else(tmp_path, seed):
  config, params = model('llama', rope_scaling=None, **GGUF_SIZES)
  path = tmp_path / 'model.gguf'
  write_gguf(path, 'llama', config, params)
  data = path.read_bytes()
  rng = np.random.default_rng(seed)
  num_refused = 0
  for _ in range(60):
    changed = bytearray(data)
    changed[rng.integers(0, 2500)] = rng.integers(0, 256)
    path.write_bytes(changed)
    try:
      hf_weights.load_weights(path)
    except ValueError:
      num_refused += 1
  assert num_refused > 0


# --- The command ------------------------------------------------------------


def test_command(tmp_path, pieces, capsys):
  config, params = model('qwen3')
  source, target = tmp_path / 'source', tmp_path / 'target'
  hf_weights.save(source, config, params, pieces)
  command = [str(source), str(target), '--dtype', 'float16']
  assert convert_command.main(command) == 0
  out = capsys.readouterr().out
  assert all(p.name in out for p in target.iterdir())
  expected = jax.tree.map(lambda x: x.astype(np.float16), params)
  assert_same(hf_weights.load_weights(target)[1], expected)

  assert convert_command.main(command) == 2  # not empty
  err = capsys.readouterr().err
  assert err.count('\n') == 1 and '--overwrite' in err
  assert convert_command.main([str(source), str(target), '--overwrite']) == 0
  assert_same(hf_weights.load_weights(target)[1], params)

  same = [str(source), str(source), '--overwrite']
  assert convert_command.main(same) == 2
  assert convert_command.main([str(tmp_path / 'no'), str(tmp_path / 'x')]) == 2
  assert not (tmp_path / 'x').exists()
  err = capsys.readouterr().err
  assert err.count('\n') == 2 and 'expected one that exists' in err


def test_two_models_are_merged(tmp_path, pieces, capsys):
  config, params = model('qwen3')
  double = jax.tree.map(lambda x: 2 * x, params)
  for name, tree in dict(a=params, b=double).items():
    hf_weights.save(tmp_path / name, config, tree, pieces)
  a, b, c = (str(tmp_path / name) for name in 'abc')
  for weight, factor in ((None, 1.5), ('0', 1), ('1', 2), ('0.25', 1.25)):
    command = ['--merge', a, b, c, '--overwrite']
    command += ['--weight', weight] if weight else []
    assert convert_command.main(command) == 0
    expected = jax.tree.map(lambda x, by=factor: by * x, params)
    assert_trees_close(hf_weights.load_weights(c)[1], expected, rtol=1e-6)

  other = tmp_path / 'other'
  hf_weights.save(other, *model('llama'), pieces)
  capsys.readouterr()
  for command, message in (
    (['--merge', a, str(other)], 'expected models of one family'),
    (['--merge', a, b, '--weight', '1.5'], 'weight: got 1.5'),
    (['--merge', a, b, a], 'SRC: got'),
    (['--merge', a, b, '--adapters'], 'adapters: got it with --merge'),
    ([a, '--weight', '0.5'], 'without --merge'),
    ([], 'SRC: got neither'),
  ):
    assert convert_command.main([*command, str(tmp_path / 'd')]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'd').exists()


NO_WEIGHTS = {  # names of files beside config.json -> what is said of them
  'an adapter': (
    ['adapter_config.json', 'adapter_model.safetensors'],
    'adapter_model.safetensors.* an adapter is no model: merge it',
  ),
  'an old adapter': (['adapter_config.json', 'adapter_model.bin'], 'merge it'),
  'shards': (
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'],
    'model-00001-of-00002.*download model.safetensors.index.json too',
  ),
  'another name': (['weights.safetensors'], 'rename weights.safetensors to'),
  'pickles': (['pytorch_model.bin'], 'pytorch_model.bin.*convert pickled'),
  'many': ([f'{i}.bin' for i in range(9)], 'and 5 more'),
  'nothing': ([], r'got \[\] in .*download the weights to this folder'),
}


@pytest.mark.parametrize('name', NO_WEIGHTS)
def test_the_error_about_weights_fits_the_folder(tmp_path, name):
  files, message = NO_WEIGHTS[name]
  folder = copy_golden(tmp_path)
  (folder / 'model.safetensors').unlink()
  for file in files:
    (folder / file).write_bytes(b'')
  with pytest.raises(ValueError, match=message) as caught:
    hf_weights.load_weights(folder)
  assert ('pickled' in str(caught.value)) == (name in ('pickles', 'many'))


def test_a_folder_with_a_gguf_file_only_says_which_to_give(tmp_path):
  (tmp_path / 'q8.gguf').write_bytes(b'GGUF')
  with pytest.raises(ValueError, match='give a .gguf file itself, .*q8.gguf'):
    hf_weights.load_config_and_tokenizer(tmp_path)


def test_a_folder_with_an_adapter_only_says_so(tmp_path):
  (tmp_path / 'adapter_config.json').write_text('{}')
  with pytest.raises(ValueError, match='config.json: got none .* merge it'):
    hf_weights.load(tmp_path)


@pytest.mark.parametrize('file', ['model.safetensors', 'config.json', 'a.gguf'])
def test_what_was_not_downloaded_is_named(tmp_path, file):
  folder = copy_golden(tmp_path)
  pointer = b'version https://git-lfs.github.com/spec/v1\noid sha256:00'
  (folder / file).write_bytes(pointer)
  path = folder / file if file == 'a.gguf' else folder
  with pytest.raises(ValueError, match='got a pointer .* git lfs pull'):
    hf_weights.load_weights(path)
