"""Weights from anybody: a file is read as it is, or refused by name."""

import functools
import json
import struct

import gguf
import numpy as np
from fuzzing import (
  altered,
  at_most,
  broken,
  deep,
  folder,
  refused,
  texts,
  values,
)
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.pretrained import (
  gguf_file,
  gguf_import,
  hf_config,
  hf_parameters,
  hf_weights,
  safetensors_io,
)

SINGLE, INDEX = safetensors_io.SINGLE, safetensors_io.INDEX
CONFIG = {
  'architectures': ['LlamaForCausalLM'],
  'vocab_size': 8,
  'hidden_size': 4,
  'intermediate_size': 6,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'num_key_value_heads': 1,
  'head_dim': 2,
  'hidden_act': 'silu',
  'rope_theta': 10000.0,
  'rope_scaling': {
    'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,
    'high_freq_factor': 4.0, 'original_max_position_embeddings': 16,
  },
  'rms_norm_eps': 1e-5,
  'max_position_embeddings': 32,
  'tie_word_embeddings': True,
  'layer_types': ['full_attention'],
}  # fmt: skip
KEYS = {
  'general.architecture': 'llama',
  'general.alignment': 32,
  'llama.attention.head_count': 2,
  'llama.attention.head_count_kv': 1,
  'llama.attention.key_length': 2,
  'llama.embedding_length': 4,
  'llama.feed_forward_length': 6,
  'llama.block_count': 1,
  'llama.context_length': 32,
  'llama.rope.freq_base': 10000.0,
  'llama.attention.layer_norm_rms_epsilon': 1e-5,
  'llama.vocab_size': 8,
}


@functools.cache
def tensors():
  rows = hf_parameters.rows(hf_config.read(CONFIG))
  rng = np.random.default_rng(0)
  return {r.name: rng.normal(size=r.stored).astype('float32') for r in rows}


def safetensors_bytes(arrays):
  header, data = {}, b''
  for name, array in arrays.items():
    start, data = len(data), data + array.tobytes()
    header[name] = {
      'dtype': 'F32', 'shape': array.shape, 'data_offsets': [start, len(data)]
    }  # fmt: skip
  text = json.dumps(header).encode()
  return struct.pack('<Q', len(text)) + text + data


def model_files(config=CONFIG, weights=None):
  files = {'config.json': json.dumps(config).encode()}
  return files | {SINGLE: weights or safetensors_bytes(tensors())}


@functools.cache
def gguf_bytes():
  """Writes the same model, and an array of texts, by llama.cpp's library."""
  with folder({}) as path:
    writer = gguf.GGUFWriter(path / 'm.gguf', 'llama')
    for key, value in KEYS.items():
      if key == 'general.architecture':
        continue
      add = (
        writer.add_float32 if isinstance(value, float) else writer.add_uint32
      )
      add(key, value)
    writer.add_array('texts', ['a', 'bc', ''])
    writer.add_array('numbers', [1, 2, 3])
    names = {v: k for k, v in gguf_import._TOP_PARTS.items()}
    parts = {v: k for k, v in gguf_import._LAYER_PARTS.items()}
    for name, array in tensors().items():
      stem = name.removesuffix('.weight')
      if stem.startswith('model.layers.0.'):
        stem = 'blk.0.' + parts[stem.removeprefix('model.layers.0.')]
      writer.add_tensor(names.get(stem, stem) + '.weight', array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (path / 'm.gguf').read_bytes()


def shapes(params):
  if isinstance(params, dict):
    return {k: shapes(v) for k, v in params.items()}
  return params.shape


@given(st.data())
def test_broken_safetensors(data):
  content = data.draw(broken(safetensors_bytes(tensors())))
  with folder(model_files(weights=content)) as path, refused():
    # Numpy's and the header's own; the library's memory is not seen.
    with at_most(64 * len(content) + 2**20):
      config, params = hf_weights.load_weights(path)
    assert shapes(params) == shapes(
      hf_weights._params(
        config, {k: lambda v=v: v for k, v in tensors().items()}
      )
    )


@given(st.data())
def test_any_header_of_safetensors(data):
  whole = safetensors_bytes(tensors())
  size = struct.unpack('<Q', whole[:8])[0]
  header = data.draw(altered(json.loads(whole[8 : 8 + size])))
  text = json.dumps(header).encode()
  content = struct.pack('<Q', len(text)) + text + whole[8 + size :]
  with folder({SINGLE: content}) as path:
    try:
      readers = safetensors_io.read(path)
    except ValueError as error:
      assert str(path / SINGLE) in str(error)
      return
    for read in readers.values():
      with refused():
        assert read().nbytes <= len(content)


OUTSIDE = (
  '../../x.safetensors', '/etc/passwd', '..', '.', '', '/', 'a/../b', '~',
  '\\\\host\\x', 'C:\\x', 'link/../../x', '\0', 'a\0b', 'a' * 300,
)  # fmt: skip


@given(st.sampled_from(OUTSIDE) | texts() | values())
def test_shards_are_files_of_the_folder(name):
  index = {'weight_map': dict.fromkeys(tensors(), name)}
  files = {
    'model/' + INDEX: json.dumps(index).encode(),
    'x.safetensors': safetensors_bytes(tensors()),
  }
  with folder(files) as path:
    try:
      safetensors_io.read(path / 'model')
    except ValueError as error:
      assert INDEX in str(error)
    else:
      raise AssertionError(f'{name!r} was read')


@given(
  altered({'metadata': {}, 'weight_map': dict.fromkeys(tensors(), SINGLE)})
)
def test_any_index(index):
  files = {INDEX: json.dumps(index).encode(), 'other': b''}
  files['m-1.safetensors'] = safetensors_bytes(tensors())
  files[INDEX] = files[INDEX].replace(SINGLE.encode(), b'm-1.safetensors')
  with folder(files) as path, refused():
    readers = safetensors_io.read(path)
    assert set(readers) == set(tensors())


@given(st.data())
def test_broken_gguf(data):
  content = data.draw(broken(gguf_bytes()))
  with folder({'m.gguf': content}) as path:
    path = path / 'm.gguf'
    with refused(), at_most(64 * len(content) + 2**20):
      hf_weights.load_weights(path)
    try:
      gguf_file.read(path)
    except ValueError as error:
      assert str(path) in str(error)


@given(altered(KEYS), st.integers(0, 3))
def test_any_metadata_of_gguf(metadata, num_missing):
  readers = {
    k.replace('model.layers.0.', 'blk.0.'): lambda v=v: v
    for k, v in [*tensors().items()][num_missing:]
  }
  readers['rope_freqs.weight'] = lambda: np.ones(1, np.float32)
  with refused(), at_most(2**22):
    config, _ = gguf_import.to_hf(
      metadata if isinstance(metadata, dict) else {}, readers
    )
    hf_config.read(config)


@given(altered(CONFIG))
def test_any_config(config):
  with folder(model_files(config)) as path, refused(), at_most(2**22):
    model_config, params = hf_weights.load_weights(path)
    assert model_config.num_layers == 1
    assert params['embed']['embedding'].shape == (8, 4)


@given(st.binary(max_size=99) | st.sampled_from([deep(10**5).encode()]))
def test_any_text_for_a_config(content):
  with folder({'config.json': content}) as path, refused():
    hf_weights.load_config(path)
  with folder({INDEX: content}) as path, refused():
    safetensors_io.read(path)


def test_the_sound_files_are_read():
  with folder(model_files()) as path:
    config, params = hf_weights.load_weights(path)
  with folder({'m.gguf': gguf_bytes()}) as path:
    gguf_config, gguf_params = hf_weights.load_weights(path / 'm.gguf')
  assert shapes(params) == shapes(gguf_params)
  assert gguf_config.vocab_size == config.vocab_size == 8
