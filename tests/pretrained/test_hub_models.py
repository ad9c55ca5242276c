"""Models of the hub, from a folder in the form of its cache; no network."""

import pathlib
import shutil

import pytest
from huggingface_hub import constants

from critic_jax.pretrained import hf_weights, hub_models

GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
REVISION = 'a' * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """The cache with one model, whose files are links to its store."""
  folder = tmp_path / 'models--owner--tiny-llama'
  snapshot = folder / 'snapshots' / REVISION
  snapshot.mkdir(parents=True)
  (folder / 'blobs').mkdir()
  (folder / 'refs').mkdir()
  (folder / 'refs/main').write_text(REVISION)
  for i, name in enumerate(('config.json', 'model.safetensors')):
    shutil.copy(GOLDENS / 'llama' / name, folder / 'blobs' / str(i))
    (snapshot / name).symlink_to(f'../../blobs/{i}')
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  return snapshot


@pytest.mark.parametrize('prefix', ['', hub_models.PREFIX])
def test_a_model_is_read_from_the_cache(cache, prefix):
  config, params = hf_weights.load_weights(f'{prefix}owner/tiny-llama')
  assert config == hf_weights.load_config(GOLDENS / 'llama')
  assert params['embed']['embedding'].shape == (64, 32)
  with pytest.raises(ValueError, match=f'{REVISION}: tokenizer: got .*; expec'):
    hf_weights.load_config_and_tokenizer(f'{prefix}owner/tiny-llama')


def test_a_part_of_a_model_is_no_model(cache):
  (cache / 'model.safetensors').unlink()
  assert hub_models.folder('owner/tiny-llama') is None
  assert hub_models.folder('owner/tiny-llama', with_weights=False) == cache


def test_a_model_that_is_not_here_is_named_with_what_to_do(cache):
  advice = r'run `hf download owner/other --local-dir other`, copy the folder'
  with pytest.raises(
    ValueError,
    match=r"path: got 'owner/other'; expected one that exists; if it is a "
    rf'model of the hub, write hf://owner/other to fetch it, or .* {advice}',
  ):
    hf_weights.load_config('owner/other')
  with pytest.raises(
    ValueError, match=rf"source: got \w+ for 'hf://owner/other' .*{advice}"
  ):
    hf_weights.load_config('hf://owner/other')
  with pytest.raises(ValueError, match="path: got 'a/b/c'; .* exists$"):
    hf_weights.load_config('a/b/c')
