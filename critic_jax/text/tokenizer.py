"""Text to token ids and back.

A `Tokenizer` is built from files: those of a Hugging Face folder
(`tokenizer.json`, or a sentencepiece `tokenizer.model`, beside
`tokenizer_config.json`), or such files made from other sources
(`train_sentencepiece`, `pretrained/gguf_import.py`). It keeps their bytes, so
`save` writes the files that were loaded.

Special tokens (end of turn, padding, ...) are parsed from text only where the
caller says so: `encode` reads '<|im_end|>' as plain characters, and `render`
parses the specials of the chat template but never those of a message.
Nothing adds a beginning-of-sequence token except a template.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critic_jax import strict_json
from critic_jax.text import chat_template as chat_template_lib
from critic_jax.text import vocabulary

# The files of a tokenizer in a folder; one of the first two must be there.
FILES = (
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'generation_config.json',
)

train_sentencepiece = vocabulary.train_sentencepiece


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """An immutable tokenizer, built from files.

  Attributes:
    vocab_size: one more than the largest id; a model may have more rows.
    eos: ids that end a message, the tokenizer's own first.
    pad: the padding id; it may also be in `eos`.
    bos: the beginning-of-sequence id, or None.
    unknown: the id of text outside the vocabulary, or None.
    special: ids of the special tokens by their text.
    chat_template: jinja2 source, or None (contents joined by newlines).
    adds_bos: whether the plain template begins with `bos`.
    files: the files it was made from, by name.
    encode_fn: (text, whether to parse specials) -> ids.
    decode_fn: ids below `vocab_size` -> text, specials included.
    date: the day that a chat template is told that asks for today's.
  """

  vocab_size: int
  eos: tuple[int, ...]
  pad: int
  bos: int | None
  unknown: int | None
  special: Mapping[str, int]
  chat_template: str | None
  adds_bos: bool
  files: Mapping[str, bytes]
  encode_fn: Callable[[str, bool], list[int]]
  decode_fn: Callable[[list[int]], str]
  date: str = chat_template_lib.DATE

  def encode(self, text: str, *, special: bool = False) -> list[int]:
    """Returns the token ids of `text`.

    Args:
      text: valid Unicode.
      special: whether special tokens written in the text are parsed.

    Raises:
      ValueError: the text has a lone surrogate, or the tokenizer's file is
        broken in a way that only this text shows.
    """
    try:
      text.encode()
    except UnicodeEncodeError as e:
      raise ValueError(
        f'text: got a lone surrogate at {e.start}; expected valid Unicode'
      ) from None
    return self.encode_fn(text, special)

  def decode(self, tokens: Sequence[int]) -> str:
    """Returns the text of `tokens`, without special tokens.

    Ids outside the vocabulary have no text; bytes that are not UTF-8 become
    U+FFFD. `decode_fn` gives special tokens their text.
    """
    hidden = set(self.special.values())
    tokens = [int(t) for t in tokens if 0 <= t < self.vocab_size]
    return self.decode_fn([t for t in tokens if t not in hidden])

  def render(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Returns the token ids of a conversation, through the chat template.

    The assistant's turn is opened at the end.

    A special token written in a content stays plain text: a placeholder
    stands for it while the template runs. A template that joins contents into
    special tokens is caught afterwards: the specials must be those that come
    out when every visible character of the contents is blanked. Without
    specials in the contents, the ids are those of the rendered text.

    Args:
      messages: each with a 'role' (a word) and a 'content'; texts only.

    Raises:
      ValueError: a message is not of this form, the template fails or passes a
        limit, or it joins contents into special tokens.
    """
    _check_messages(messages)
    if self.chat_template is None:
      text = '\n'.join(m['content'] for m in messages) + '\n'
      start = [self.bos] if self.adds_bos and self.bos is not None else []
      return start + self.encode(text)
    finder = vocabulary.special_finder(self.special)
    blank, start, end = _unused_characters(
      ''.join([self.chat_template, *(''.join(m.values())
                                           for m in messages)])
    )  # fmt: skip
    blanked = self._render_text(messages, lambda s: re.sub(r'\S', blank, s))
    hidden: dict[str, str] = {}  # the specials in contents, by placeholder

    def hide(match):
      placeholder = f'{start}{self.special[match[0]]}{end}'
      hidden[placeholder] = match[0]
      return placeholder

    text = self._render_text(messages, lambda s: finder.sub(hide, s))
    tokens = self._encode_rendered(text, finder, hidden)
    self._check_specials(tokens, finder.findall(blanked))
    return tokens

  def _encode_rendered(self, text, finder, hidden) -> list[int]:
    """Encodes a rendered text; its `hidden` specials become plain text."""
    if not hidden:
      return self.encode(text, special=True)
    tokens, place = [], 0
    placeholder = re.compile('|'.join(hidden))
    for match in [*finder.finditer(text), None]:
      plain = text[place : match.start() if match else None]
      plain = placeholder.sub(lambda m: hidden[m[0]], plain)
      tokens += self.encode(plain)
      if match:
        tokens.append(self.special[match[0]])
        place = match.end()
    return tokens

  def _check_specials(self, tokens, texts) -> None:
    """Raises ValueError unless `texts` are the specials in `tokens`."""
    reserved = set(self.special.values()) - {self.unknown}
    expected = [self.special[text] for text in texts]
    expected = [t for t in expected if t in reserved]
    specials = [t for t in tokens if t in reserved]
    if specials != expected:
      raise ValueError(
        f'chat template: got special tokens {specials}; expected {expected}, '
        'those of the template without contents; use a template that does '
        'not build special tokens from contents'
      )

  def _render_text(self, messages, change) -> str:
    """Renders messages, with `change` applied to all texts but roles."""
    names = {token: text for text, token in self.special.items()}
    variables = {
      'messages': [
        {k: v if k == 'role' else change(v) for k, v in message.items()}
        for message in messages
      ],
      'add_generation_prompt': True,
      'bos_token': names.get(self.bos, ''),
      'eos_token': names.get(self.eos[0], '') if self.eos else '',
      'pad_token': names.get(self.pad, ''),
      'unk_token': names.get(self.unknown, ''),
    }
    return chat_template_lib.render(
      self.chat_template, variables, date=self.date
    )

  def save(self, folder: str | os.PathLike) -> list[str]:
    """Writes the tokenizer's files, and only those; returns their names."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
      (folder / name).unlink(missing_ok=True)
    for name, data in self.files.items():
      (folder / name).write_bytes(data)
    return sorted(self.files)


def load(folder: str | os.PathLike) -> Tokenizer:
  """Reads the tokenizer of a Hugging Face folder.

  The ids that end a message are the tokenizer's own and those of
  `generation_config.json` or, without that file, of `config.json`.

  Raises:
    ValueError: a file is missing or malformed.
  """
  folder = pathlib.Path(folder)
  files = {
    name: (folder / name).read_bytes()
    for name in FILES
    if (folder / name).is_file()
  }
  config = folder / 'config.json'
  if 'generation_config.json' not in files and config.is_file():
    config = _json({'config.json': config.read_bytes()}, 'config.json')
    keys = ('bos_token_id', 'eos_token_id', 'pad_token_id')
    generation = {k: config[k] for k in keys if config.get(k) is not None}
    if generation:
      files['generation_config.json'] = json.dumps(generation).encode()
  if not {'tokenizer.json', 'tokenizer.model'} & set(files):
    raise ValueError(
      f'tokenizer: got {str(folder)!r}; expected a folder with '
      'tokenizer.json or tokenizer.model'
    )
  return from_files(files)


def from_sentencepiece(model: bytes | str | os.PathLike) -> Tokenizer:
  """Makes a tokenizer of a sentencepiece model, its bytes or its path."""
  if not isinstance(model, bytes):
    model = pathlib.Path(model).read_bytes()
  return from_files({'tokenizer.model': model})


def from_files(files: Mapping[str, bytes]) -> Tokenizer:
  """Makes a tokenizer of the contents of its files, by the names in `FILES`.

  Raises:
    ValueError: a file is malformed, or names a token the vocabulary lacks.
  """
  config = _json(files, 'tokenizer_config.json')
  generation = _json(files, 'generation_config.json')
  # Read the vocabulary, with the special tokens that the files name.
  names = {}
  for role in ('eos', 'bos', 'pad', 'unk'):
    for source in (_json(files, 'special_tokens_map.json'), config):
      text = source.get(f'{role}_token')
      text = text.get('content') if isinstance(text, dict) else text
      if text and not (isinstance(text, str) and _is_unicode(text)):
        raise ValueError(f'{role}_token: got {text!r}; expected a text')
      if text:
        names[role] = text
  if 'tokenizer.json' in files:
    words = vocabulary.byte_pair(files['tokenizer.json'], names)
  else:
    words = vocabulary.sentencepiece(files['tokenizer.model'], names)
  # Add the ids that the generation config names.
  for key in ('eos_token_id', 'bos_token_id', 'pad_token_id'):
    value = generation.get(key)
    ids = value if isinstance(value, list) else [value]
    if not all(t is None or type(t) is int and t >= 0 for t in ids):
      raise ValueError(f'{key}: got {value!r}; expected token ids')
  eos = generation.get('eos_token_id')
  eos = [words.ids.get('eos'), *(eos if isinstance(eos, list) else [eos])]
  eos = tuple(dict.fromkeys(t for t in eos if t is not None))
  pad = [words.ids.get('pad'), generation.get('pad_token_id'), *eos]
  pad = next((t for t in pad if t is not None), None)
  if pad is None:
    raise ValueError(
      'tokenizer: got neither a padding nor an end-of-sequence token; '
      'expected one in tokenizer_config.json'
    )
  bos = words.ids.get('bos', generation.get('bos_token_id'))
  return Tokenizer(
    vocab_size=words.vocab_size,
    eos=eos,
    pad=pad,
    bos=bos,
    unknown=words.ids.get('unk'),
    special=words.special,
    chat_template=_chat_template(files, config),
    adds_bos=bos is not None
    and (words.adds_bos or bool(config.get('add_bos_token'))),
    files=dict(files),
    encode_fn=words.encode,
    decode_fn=words.decode,
  )


def _is_unicode(text: str) -> bool:
  """Whether a text has no lone surrogate, which JSON can spell."""
  return not re.search('[\ud800-\udfff]', text)


def _check_messages(messages):
  for message in messages:
    if not all(isinstance(value, str) for value in message.values()):
      raise ValueError(f'message: got {message!r}; expected texts only')
    # Templates build special tokens from roles ('<|' + role + '|>').
    if not re.fullmatch(r'\w+', message.get('role', '')):
      raise ValueError(
        f'role: got {message.get("role")!r}; expected a word such as user'
      )
    if 'content' not in message:
      raise ValueError(f'message: got {message!r}; expected a content')


def _unused_characters(text: str) -> list[str]:
  """Returns three private-use characters that `text` does not contain."""
  used = set(text)
  free = [chr(c) for c in range(0xE000, 0xF900) if chr(c) not in used][:3]
  if len(free) < 3:
    raise ValueError(
      'messages: got all private-use characters; expected three unused ones'
    )
  return free


def _chat_template(files, config) -> str | None:
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


def _json(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
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
