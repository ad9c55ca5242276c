"""GGUF files: metadata, and tensors dequantised to float32.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. This
module reads the header itself, because `gguf.GGUFReader` does not check that
its reads lie within the file; `gguf.quants` decodes the block formats.
"""

from __future__ import annotations

import math
import os
import reprlib
import struct
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np

from critic_jax.files import head, other_format

_SCALARS = {  # struct codes by value type
  0: 'B', 1: 'b', 2: 'H', 3: 'h', 4: 'I', 5: 'i', 6: 'f', 7: '?',
  10: 'Q', 11: 'q', 12: 'd',
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MAX_RANK = 4


def read(
  path: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, Callable[[], np.ndarray]]]:
  """Reads a GGUF file.

  Returns:
    The metadata by key, and for each tensor's name a function that returns it
    as float32, in row-major order (GGUF lists dimensions in reverse).

  Raises:
    ValueError: the file is not GGUF, is truncated, or has a type that
      `gguf.quants` does not dequantise.
  """
  # Read the header.
  size = os.path.getsize(path)
  if size < 24:
    raise ValueError(f'{path}: got {size} bytes; expected a GGUF file')
  cursor = _Cursor(np.memmap(path, np.uint8, mode='r'), path)
  if cursor.take(4) != b'GGUF':
    other = other_format(head(path, 512))
    got, advice = other if other else ('no GGUF magic', 'download it again')
    raise ValueError(f'{path}: got {got}; expected a GGUF file; {advice}')
  version, num_tensors, num_keys = cursor.unpack('<IQQ')
  if version not in _VERSIONS:
    raise ValueError(
      f'{path}: got GGUF version {version}; expected one of {_VERSIONS}'
    )
  metadata = {}
  for _ in range(num_keys):
    key = cursor.text()
    metadata[key] = cursor.value(*cursor.unpack('<I'))

  # Locate the tensors, whose offsets count from the end of the header.
  entries = [_tensor_entry(cursor) for _ in range(num_tensors)]
  alignment = metadata.get('general.alignment', 32)
  if not isinstance(alignment, int) or alignment < 1:
    raise ValueError(
      f'{path}: got alignment {alignment}; expected a positive number'
    )
  start = -(-cursor.offset // alignment) * alignment
  tensors = {}
  for name, shape, kind, offset in entries:
    if name in tensors:
      raise ValueError(f'{path}: got {name} twice; expected it once')
    tensors[name] = _reader(cursor, name, shape, kind, start + offset)
  return metadata, tensors


class _Cursor:
  """A position in a file's bytes that never passes its end."""

  def __init__(self, data: np.ndarray, path):
    self.data = data
    self.path = path
    self.offset = 0

  def span(self, start: int, size: int) -> np.ndarray:
    """Returns the `size` bytes from `start`."""
    if start + size > len(self.data):
      raise ValueError(
        f'{self.path}: got {len(self.data)} bytes; expected at least '
        f'{start + size}; the file is truncated or corrupt'
      )
    return self.data[start : start + size]

  def take(self, size: int) -> bytes:
    """Reads the next bytes."""
    data = self.span(self.offset, size).tobytes()
    self.offset += size
    return data

  def unpack(self, form: str) -> tuple:
    """Reads the next values, by a struct format."""
    return struct.unpack(form, self.take(struct.calcsize(form)))

  def text(self) -> str:
    """Reads the next string."""
    data = self.take(*self.unpack('<Q'))
    # Old files have tokens that end within a character.
    return data.decode('utf-8', errors='replace')

  def texts(self, count: int) -> list[str]:
    """Reads the next strings, at once: vocabularies have 100,000."""
    data, texts = memoryview(self.data), []
    for _ in range(count):
      start = self.offset + 8
      size = int.from_bytes(data[self.offset : start], 'little')
      self.offset = start + size
      if self.offset > len(data):
        self.span(start, size)  # raises
      texts.append(str(data[start : self.offset], 'utf-8', 'replace'))
    return texts

  def value(self, kind: int, *, nested: bool = False) -> Any:
    """Reads the next metadata value."""
    if kind in _SCALARS:
      return self.unpack('<' + _SCALARS[kind])[0]
    if kind == _STRING:
      return self.text()
    if kind == _ARRAY and not nested:
      inner, count = self.unpack('<IQ')
      if inner in _SCALARS:
        size = struct.calcsize('<' + _SCALARS[inner])
        data = self.take(count * size)
        return list(struct.unpack(f'<{count}{_SCALARS[inner]}', data))
      # A string takes at least 8 bytes, so the file's size bounds the count.
      self.span(self.offset, 8 * count)
      if inner == _STRING:
        return self.texts(count)
      return [self.value(inner, nested=True) for _ in range(count)]
    raise ValueError(
      f'{self.path}: got value type {kind}; expected one of GGUF 3, and no '
      'array of arrays'
    )


def _tensor_entry(cursor):
  """Reads a tensor's name, shape (row-major), type and offset."""
  name = cursor.text()
  (rank,) = cursor.unpack('<I')
  if rank > _MAX_RANK:
    raise ValueError(
      f'{cursor.path}: got {rank} dimensions of {reprlib.repr(name)}; expected '
      f'at most {_MAX_RANK}'
    )
  shape = cursor.unpack(f'<{rank}Q')[::-1]
  kind, offset = cursor.unpack('<IQ')
  return name, shape, kind, offset


def _reader(cursor, name, shape, kind, start):
  """Makes a function that dequantises a tensor; checks its bytes at once."""
  try:
    kind = gguf.GGMLQuantizationType(kind)
  except ValueError:
    raise ValueError(
      f'{cursor.path}: got tensor type {kind} of {reprlib.repr(name)}; '
      'expected one of GGUF 3'
    ) from None
  block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
  if not shape or shape[-1] % block:
    raise ValueError(
      f'{cursor.path}: got shape {shape} of {reprlib.repr(name)}; expected '
      f'rows of whole blocks of {block}'
    )
  data = cursor.span(start, math.prod(shape) // block * block_bytes)

  def get():
    rows = data.reshape(*shape[:-1], shape[-1] // block * block_bytes)
    try:
      values = gguf.quants.dequantize(rows, kind)
    except NotImplementedError:
      raise ValueError(
        f'{name}: got the type {kind.name}; expected one that gguf.quants '
        'dequantises'
      ) from None
    return np.array(values, np.float32)

  return get
