"""What each token adds to a text, for those who look at rollouts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critic_jax import lookup
from critic_jax.text import tokenizer as tokenizer_lib
from critic_jax.text.tokenizer import Tokenizer


def tokenizers(config: Mapping[str, Any]) -> dict[str, Tokenizer]:
  """The tokenizers of a run's models by role, as far as they are at hand.

  Those inside of a .gguf file or of a package are left out, as only
  `models/convert.py` reads them: `convert.load(source)[2]`.

  Args:
    config: of the run.
  """
  models = config.get('models')
  found = {
    role: _load(json.dumps(section.get('source') or section.get('tokenizer')))
    for role, section in (models if isinstance(models, dict) else {}).items()
    if isinstance(section, dict)
  }
  return {role: tokenizer for role, tokenizer in found.items() if tokenizer}


_MAX_SIZE = 100_000  # of a vocabulary that is made here, or of its texts


@functools.lru_cache(maxsize=8)
def _load(source: str) -> Tokenizer | None:
  named = json.loads(source)
  try:
    if isinstance(named, str):
      return tokenizer_lib.load(named)
    # A config of anybody must not call what else is there, nor for long.
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
  """What each token adds to the text; joined, they are the text.

  A token is decoded after the few before it, as a decoder may drop a leading
  space; where bytes of a character are missing, the token that completes it
  gets it.
  """
  tokens = tuple(tokens)
  pieces, start, whole = [], 0, ''
  for end in range(1, len(tokens) + 1):
    text = decode(tokens[start:end])
    if text.endswith('\ufffd') and end < len(tokens):
      pieces.append('')
      continue
    pieces.append(text[len(whole) :])
    start = end - 1
    whole = decode(tokens[start:end])
  return pieces


def visible(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
  """As `split`, with the special tokens, which add nothing, by their names."""
  names = {token: text for text, token in tokenizer.special.items()}
  pieces = split(tokens, tokenizer.decode)
  return [
    names.get(token, piece) if not piece else piece
    for token, piece in zip(tokens, pieces, strict=True)
  ]
