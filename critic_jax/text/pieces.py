"""The piece of text that each token adds, for readers of rollouts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critic_jax import lookup
from critic_jax.text import tokenizer as tokenizer_lib
from critic_jax.text.tokenizer import Tokenizer


def tokenizers(config: Mapping[str, Any]) -> dict[str, Tokenizer]:
  """Returns the tokenizers of a run's models by role, if they can be read.

  Those inside a .gguf file, a package or another run are left out, as only
  `training/model_sources.py` reads them: `model_sources.load(source, role)[2]`.

  Args:
    config: the run's config.
  """
  models = config.get('models')
  tokenizer_by_role = {
    role: _load(json.dumps(section.get('source') or section.get('tokenizer')))
    for role, section in (models if isinstance(models, dict) else {}).items()
    if isinstance(section, dict)
  }
  return {
    role: tokenizer
    for role, tokenizer in tokenizer_by_role.items()
    if tokenizer
  }


_MAX_SIZE = 100_000  # tokens or texts of a vocabulary to be trained


@functools.lru_cache(maxsize=8)
def _load(source: str) -> Tokenizer | None:
  named = json.loads(source)
  try:
    if isinstance(named, str):
      return tokenizer_lib.load(named)
    # An untrusted config must not call other functions, nor for long.
    numbers = {k: v for k, v in named.items() if k not in ('module', 'name')}
    is_tokenizer = named.get('name') == 'tokenizer' and all(
      isinstance(v, int) and abs(v) <= _MAX_SIZE for v in numbers.values()
    )
    if not is_tokenizer:
      return None
    module = lookup.module('tasks', named.get('module', ''))
    return lookup.bind(module, {'name': 'tokenizer', **numbers})()
  except (ValueError, OSError, AttributeError):
    return None


def split(
  tokens: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> list[str]:
  """Returns the piece that each token adds to a text; joined, they are it.

  A token is decoded after the few before it, as a decoder may drop a leading
  space. A character of several tokens belongs to the token that completes it.
  """
  tokens = tuple(tokens)
  pieces, start, prefix = [], 0, ''
  for end in range(1, len(tokens) + 1):
    text = decode(tokens[start:end])
    if text.endswith('\ufffd') and end < len(tokens):
      pieces.append('')
      continue
    pieces.append(text[len(prefix) :])
    start = end - 1
    prefix = decode(tokens[start:end])
  return pieces


def visible(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
  """Splits a text as `split` does, with special tokens as their names."""
  names = {token: text for text, token in tokenizer.special.items()}
  pieces = split(tokens, tokenizer.decode)
  return [
    names.get(token, piece) if not piece else piece
    for token, piece in zip(tokens, pieces, strict=True)
  ]
