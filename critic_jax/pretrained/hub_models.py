"""Models of the Hugging Face hub, by their ids.

'OWNER/NAME' is a model in the cache of huggingface_hub, where other programs
have put it; 'hf://OWNER/NAME' is fetched into it if it is not there. One that
is there is taken as it is: the hub is not asked whether it has a newer one.
"""

from __future__ import annotations

import importlib
import pathlib
import re

from critic_jax import strict_json
from critic_jax.pretrained import safetensors_io

PREFIX = 'hf://'
_ID = re.compile(r'(?:hf://)?([\w-][\w.-]*/[\w-][\w.-]*)')
# All that is read of a model; pickled weights, and those of others, are not.
_TEXTS = ('*.json', '*.jinja', 'tokenizer.model')
_WEIGHTS = ('model*.safetensors',)


def folder(name: str, *, with_weights: bool = True) -> pathlib.Path | None:
  """Returns the folder of a model of the hub.

  Args:
    name: 'OWNER/NAME', or 'hf://OWNER/NAME', which may be fetched.
    with_weights: whether its weights are needed, too.

  Returns:
    The folder in the cache; None if the name has no such form, or without
    'hf://' if the cache does not have it.

  Raises:
    ValueError: it cannot be fetched.
  """
  match = _ID.fullmatch(name)
  if not match:
    return None
  is_fetched = name.startswith(PREFIX)
  try:
    hub = importlib.import_module('huggingface_hub')
  except ImportError:
    if not is_fetched:
      return None
    raise ValueError(
      f'source: got {name!r} without the package huggingface_hub; expected it; '
      f"pip install -e '.[hf]', or {advice(match[1])}"
    ) from None
  patterns = [*_TEXTS, *(_WEIGHTS if with_weights else ())]
  try:
    path = pathlib.Path(
      hub.snapshot_download(
        match[1], allow_patterns=patterns, local_files_only=True
      )
    )
    if _is_complete(path, with_weights):
      return path
  except Exception:  # whatever it says, the model is not there
    if not is_fetched:
      return None
  if not is_fetched:
    return None
  try:
    return pathlib.Path(
      hub.snapshot_download(match[1], allow_patterns=patterns)
    )
  except Exception as error:  # it raises any about networks, rights and files
    lines = str(error).strip().splitlines() or ['']
    raise ValueError(
      f'source: got {type(error).__name__} for {name!r} ({lines[0]}); expected '
      f'a model that the hub has; {advice(match[1])}'
    ) from error


def is_id(name: str) -> bool:
  """Whether a name has the form of a hub's id."""
  return _ID.fullmatch(name) is not None


def advice(name: str) -> str:
  """Says how to have a model of the hub on this machine."""
  name = name.removeprefix(PREFIX)
  short = name.partition('/')[2]
  return (
    f'where there is a network, run `hf download {name} --local-dir {short}`, '
    f'copy the folder and give its path'
  )


def _is_complete(path: pathlib.Path, with_weights: bool) -> bool:
  """Whether a folder has the files of a model; a cache may have some."""
  if not (path / 'config.json').is_file():
    return False
  if not with_weights or (path / safetensors_io.SINGLE).is_file():
    return True
  index = path / safetensors_io.INDEX
  if not index.is_file():
    return False
  files = strict_json.read(index).get('weight_map', {}).values()
  return all((path / str(name)).is_file() for name in files)
