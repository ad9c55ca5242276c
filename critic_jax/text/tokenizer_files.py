"""The settings in a tokenizer's files, checked: names of tokens, a template."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from critic_jax import strict_json


def read_folder(folder: pathlib.Path, names: Iterable[str]) -> dict[str, bytes]:
  """Returns the contents of the files of a folder that are there, by name.

  Without `generation_config.json` its ids are those of `config.json`.

  Raises:
    ValueError: there is no vocabulary, or `config.json` is malformed.
  """
  files = {
    name: (folder / name).read_bytes()
    for name in names
    if (folder / name).is_file()
  }
  config = folder / 'config.json'
  if 'generation_config.json' not in files and config.is_file():
    settings = read_json({'config.json': config.read_bytes()}, 'config.json')
    keys = ('bos_token_id', 'eos_token_id', 'pad_token_id')
    generation = {k: settings[k] for k in keys if settings.get(k) is not None}
    if generation:
      files['generation_config.json'] = json.dumps(generation).encode()
  if not {'tokenizer.json', 'tokenizer.model'} & set(files):
    raise ValueError(
      f'tokenizer: got {str(folder)!r}; expected a folder with '
      'tokenizer.json or tokenizer.model'
    )
  return files


def special_names(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> dict[str, str]:
  """Returns the special tokens that the files name, by role."""
  names = {}
  for role in ('eos', 'bos', 'pad', 'unk'):
    for source in (read_json(files, 'special_tokens_map.json'), config):
      text = source.get(f'{role}_token')
      text = text.get('content') if isinstance(text, dict) else text
      if text and not (isinstance(text, str) and _is_unicode(text)):
        raise ValueError(f'{role}_token: got {text!r}; expected a text')
      if text:
        names[role] = text
  return names


def token_ids(generation: Mapping[str, Any], key: str) -> list[int]:
  """Returns the ids, one or several, of a key of generation_config.json."""
  value = generation.get(key)
  ids = value if isinstance(value, list) else [value]
  if not all(t is None or type(t) is int and t >= 0 for t in ids):
    raise ValueError(f'{key}: got {value!r}; expected token ids')
  return [t for t in ids if t is not None]


def chat_template(
  files: Mapping[str, bytes], config: Mapping[str, Any]
) -> str | None:
  """Returns the chat template of a file of its own or of the config."""
  if 'chat_template.jinja' in files:
    try:
      return files['chat_template.jinja'].decode()
    except UnicodeDecodeError as e:
      raise ValueError(
        f'chat_template.jinja: got {e}; expected UTF-8'
      ) from None
  template = config.get('chat_template')
  if isinstance(template, list):  # several, by name
    named = [t for t in template if isinstance(t, dict)]
    template = {t.get('name'): t.get('template') for t in named}.get('default')
  if template is not None and not isinstance(template, str):
    raise ValueError(f'chat_template: got {template!r}; expected a text')
  return template


def read_json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
  """Returns the object in a JSON file, {} without the file."""
  try:
    value = strict_json.loads(files.get(name, b'{}'))
  except ValueError as e:
    raise ValueError(f'{name}: got {e}; expected JSON') from None
  if not isinstance(value, dict):
    raise ValueError(
      f'{name}: got {type(value).__name__}; expected a JSON object'
    )
  return value


def _is_unicode(text: str) -> bool:
  """Whether a text has no lone surrogate, which JSON can spell."""
  return not re.search('[\ud800-\udfff]', text)
