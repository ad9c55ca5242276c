"""Tensors of a Hugging Face folder: `*.safetensors`, in one file or in shards.

`read` returns a function for each tensor, so that a model is converted one
tensor at a time. Values keep their stored type: float32, float16 or bfloat16
(`ml_dtypes.bfloat16`). Pickled checkpoints are refused: unpickling runs code.
"""

from __future__ import annotations

import json
import os
import pathlib
import reprlib
from collections.abc import Callable, Mapping

import ml_dtypes  # noqa: F401  (safetensors looks its bfloat16 up)
import numpy as np
import safetensors
import safetensors.numpy

from critic_jax import strict_json
from critic_jax.files import head, other_format

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
DTYPES = ('F32', 'F16', 'BF16')

ADAPTER = (
  'an adapter is no model: merge it into its model first, by peft: '
  'AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload()'
  '.save_pretrained(NEW)'
)
_WEIGHTS = ('.safetensors', '.bin', '.pt', '.pth', '.h5', '.msgpack', '.ckpt')

Tensors = Mapping[str, Callable[[], np.ndarray]]


def read(folder: str | os.PathLike) -> Tensors:
  """Opens the tensors of a folder.

  Returns:
    Functions that read the tensors, by name.

  Raises:
    ValueError: there are none, or a file is missing, corrupt, or outside the
      folder.
  """
  folder = pathlib.Path(folder)
  if (folder / SINGLE).is_file():
    return read_file(folder / SINGLE)
  if (folder / INDEX).is_file():
    return _read_shards(folder)
  raise ValueError(
    f'weights: got {describe(folder)} in {str(folder)!r}; expected {SINGLE} or '
    f'{INDEX}; {_advice(folder)}'
  )


def describe(folder: pathlib.Path) -> str:
  """Names the files of a folder that look like weights."""
  names = sorted(p.name for p in folder.iterdir() if p.suffix in _WEIGHTS)
  return str(names[:4]) + (f' and {len(names) - 4} more' * (len(names) > 4))


def _advice(folder: pathlib.Path) -> str:
  """Returns what to do with a folder without weights that are read."""
  if is_adapter(folder):
    return ADAPTER
  if any(folder.glob('*-of-*.safetensors')):
    return f'download {INDEX} too, which says what is in each file'
  if others := sorted(folder.glob('*.safetensors')):
    return f'rename {others[0].name} to {SINGLE} if it holds the whole model'
  if any(p.suffix in _WEIGHTS for p in folder.iterdir()):
    return 'convert pickled weights to safetensors first'
  return 'download the weights to this folder'


def is_adapter(folder: pathlib.Path) -> bool:
  """Whether a folder holds the changes of a model, not the model."""
  return any(folder.glob('adapter_*'))


def write(
  folder: str | os.PathLike,
  tensors: Tensors,
  sizes: Mapping[str, int],
  *,
  max_shard_bytes: int,
) -> list[str]:
  """Writes tensors, replacing the folder's own; returns the files' names.

  Args:
    folder: an existing folder.
    tensors: functions that return C-contiguous arrays, by name.
    sizes: bytes of each array.
    max_shard_bytes: the most bytes of a file, unless one tensor has more.
  """
  # Remove the old files, and share the tensors out among new ones.
  folder = pathlib.Path(folder)
  for stale in [*folder.glob('model*.safetensors'), folder / INDEX]:
    stale.unlink(missing_ok=True)
  shards: list[list[str]] = [[]]
  shard_bytes = 0
  for name in tensors:
    if shards[-1] and shard_bytes + sizes[name] > max_shard_bytes:
      shards.append([])
      shard_bytes = 0
    shards[-1].append(name)
    shard_bytes += sizes[name]

  # Write the index, if there are several, and the files.
  if len(shards) == 1:
    files = [SINGLE]
  else:
    count = len(shards)
    files = [
      f'model-{i + 1:05d}-of-{count:05d}.safetensors' for i in range(count)
    ]
    index = {
      'metadata': {'total_size': sum(sizes.values())},
      'weight_map': {
        name: file
        for names, file in zip(shards, files, strict=True)
        for name in names
      },
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n')
  for names, file in zip(shards, files, strict=True):
    write_file(folder / file, {name: tensors[name]() for name in names})
  return files + ([INDEX] if len(shards) > 1 else [])


def write_file(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes C-contiguous arrays to one file, with the umask's permissions."""
  safetensors.numpy.save_file(
    dict(arrays),
    path,
    metadata={'format': 'pt'},  # transformers asks for it
  )
  umask = os.umask(0o077)
  os.umask(umask)
  path.chmod(0o666 & ~umask)  # or nobody but its owner could read it


def read_file(path: pathlib.Path) -> Tensors:
  """Opens the tensors of one file, as `read` those of a folder."""
  try:
    # safe_open checks the header: sizes, types, gaps, overlaps, the file's end.
    handle = safetensors.safe_open(path, framework='np')
    names = list(handle.keys())
  except (safetensors.SafetensorError, OSError) as e:
    other = other_format(head(path, 512))
    got, advice = other if other else (e, 'download it again')
    raise ValueError(
      f'{path}: got {got}; expected a complete safetensors file; {advice}'
    ) from None

  def reader(name):
    def get():
      dtype = handle.get_slice(name).get_dtype()
      if dtype not in DTYPES:
        raise ValueError(
          f'{name}: got the type {dtype}; expected one of {DTYPES}'
        )
      return handle.get_tensor(name)

    return get

  return {name: reader(name) for name in names}


def _read_shards(folder: pathlib.Path) -> Tensors:
  files = strict_json.read(folder / INDEX).get('weight_map')
  if not isinstance(files, dict) or not files:
    raise ValueError(
      f'{INDEX}: got the weight_map {reprlib.repr(files)}; expected an object '
      "of files by tensors' names"
    )
  for file in files.values():
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise ValueError(
        f'{INDEX}: got the shard {reprlib.repr(file)}; expected a file of this '
        'folder'
      )
  shards = {}
  for file in dict.fromkeys(files.values()):
    if not os.path.isfile(folder / file):
      raise ValueError(f'{INDEX}: got the shard {file!r}; expected it to exist')
    shards[file] = read_file(folder / file)
  for name, file in files.items():
    if name not in shards[file]:
      raise ValueError(f'{name}: got no such tensor in {file}; expected it')
  for file, tensors in shards.items():
    for name in tensors:
      if files.get(name) != file:
        raise ValueError(
          f'{name}: got it in {file}; expected it where {INDEX} says: '
          f'{files.get(name)}'
        )
  return {name: shards[file][name] for name, file in files.items()}
