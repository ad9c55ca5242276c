"""Text to token ids and back.

A `Tokenizer` is built from files: those of a Hugging Face folder
(`tokenizer.json`, or a sentencepiece `tokenizer.model`, beside
`tokenizer_config.json`), or such files made from other sources
(`train_sentencepiece`, `pretrained/gguf_import.py`). It keeps their bytes, so
`save` writes the files that were loaded.

Special tokens (end of turn, padding, ...) are parsed from text only where the
caller says so: `encode` reads '<|im_end|>' as plain characters, and `render`
parses the specials of the chat template but never those of a message, nor the
other tokens that the template writes as markers. Nothing adds a
beginning-of-sequence token except a template.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

from critic_jax.text import chat_template as chat_template_lib
from critic_jax.text import tokenizer_files, tokenizer_json, turns, vocabulary
from critic_jax.types import THINKING

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
    markers: ids of the other tokens that the chat template writes, by their
      text. They are shown in texts, and parsed anywhere but in messages.
    end_of_turn: the id that the chat template ends a turn with, if any; one of
      `eos`.
    blind_fn: text -> ids, without specials and markers.
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
  markers: Mapping[str, int] = dataclasses.field(default_factory=dict)
  end_of_turn: int | None = None
  blind_fn: Callable[[str], list[int]] | None = None
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
    U+FFFD. Tags of thinking are shown, special or not, as what follows them is
    read; `decode_fn` gives all special tokens their text.
    """
    hidden = {i for text, i in self.special.items() if text not in THINKING}
    tokens = [int(t) for t in tokens if 0 <= t < self.vocab_size]
    return self.decode_fn([t for t in tokens if t not in hidden])

  def render(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Returns the token ids of a conversation, through the chat template.

    The assistant's turn is opened at the end.

    A special token or a marker that is written in a content stays plain text: a
    placeholder stands for it while the template runs. A template that joins
    contents into such tokens is caught afterwards: they must be those that come
    out when every visible character of the contents is blanked. Without them in
    the contents, the ids are those of the rendered text.

    Args:
      messages: each with a 'role' (a word) and a 'content'; texts only.

    Raises:
      ValueError: a message is not of this form, the template fails or passes a
        limit, or it joins contents into special tokens.
    """
    turns.check_messages(messages)
    if self.chat_template is None:
      text = '\n'.join(m['content'] for m in messages) + '\n'
      start = [self.bos] if self.adds_bos and self.bos is not None else []
      return start + self.encode(text)
    render = functools.partial(self._render_text, messages)
    return self._encode_rendering(render, messages)

  def render_after(
    self, messages: Sequence[Mapping[str, str]], response: str
  ) -> list[int] | None:
    """Returns the token ids of a conversation after its first response.

    After `render(messages[:1])` and the tokens that the response was sampled
    in, they make a conversation with the text of `render(messages)`.

    Args:
      messages: a user's, the assistant's and the user's next, as for `render`.
      response: the assistant's content, without what the template opens.

    Returns:
      None if the text of the conversation does not begin with those of the
      prompt and of the response, since the template strips thinking or spaces
      from earlier turns; or if no special token or marker ends the turn.
    """
    turns.check_messages(messages)
    if self.chat_template is None:
      return None
    start = self._render_text(messages[:1]) + response
    finder = vocabulary.special_finder({**self.special, **self.markers})
    *earlier, last = messages

    def render(change=str):
      text = self._render_text([*earlier, turns.changed(last, change)])
      return text.removeprefix(start) if text.startswith(start) else ''

    if not finder.match(render()):
      return None
    return self._encode_rendering(render, messages)

  def _encode_rendering(self, render, messages) -> list[int]:
    """Encodes what `render(change)` gives, with `change` applied to contents.

    Nothing that is written in the contents of messages becomes a special token.
    """
    reserved = {**self.special, **self.markers}
    finder = vocabulary.special_finder(reserved)
    blank, start, end = turns.unused_characters(
      ''.join([self.chat_template, *(''.join(m.values())
                                           for m in messages)])
    )  # fmt: skip
    blanked = render(lambda s: re.sub(r'\S', blank, s))
    hidden: dict[str, str] = {}  # the specials in contents, by placeholder

    def hide(match):
      placeholder = f'{start}{reserved[match[0]]}{end}'
      hidden[placeholder] = match[0]
      return placeholder

    text = render(lambda s: finder.sub(hide, s))
    tokens = [] if hidden else self.encode(text, special=True)
    # A content may hold one in another spelling, where the file normalises it.
    if hidden or self._reserved(tokens) != self._reserved(finder.findall(text)):
      tokens = self._encode_rendered(text, finder, hidden)
    self._check_reserved(tokens, finder.findall(blanked))
    return tokens

  def _encode_rendered(self, text, finder, hidden) -> list[int]:
    """Encodes a rendered text; its `hidden` tokens become plain text."""
    tokens, place = [], 0
    placeholder = re.compile('|'.join(hidden) or r'(?!)')
    encode_plain = self.blind_fn or self.encode
    for match in [*finder.finditer(text), None]:
      plain = text[place : match.start() if match else None]
      tokens += encode_plain(placeholder.sub(lambda m: hidden[m[0]], plain))
      if match:
        tokens += self._reserved([match[0]])
        place = match.end()
    return tokens

  def has_reserved(self, tokens: Sequence[int]) -> bool:
    """Whether special tokens or markers are among tokens.

    Tags of thinking are not counted.
    """
    tags = {self.special.get(t, self.markers.get(t)) for t in THINKING}
    return bool(set(self._reserved(tokens)) - tags)

  def _reserved(self, tokens) -> list[int]:
    """Returns the special tokens and markers among tokens, or texts of them."""
    ids = {**self.special, **self.markers}
    known = set(ids.values()) - {self.unknown}
    tokens = [ids[t] if isinstance(t, str) else t for t in tokens]
    return [t for t in tokens if t in known]

  def _check_reserved(self, tokens, texts) -> None:
    """Raises ValueError unless `texts` are the reserved ones of `tokens`."""
    reserved, expected = self._reserved(tokens), self._reserved(texts)
    if reserved != expected:
      raise ValueError(
        f'chat template: got special tokens {reserved}; expected {expected}, '
        'those of the template without contents; use a template that does '
        'not build special tokens from contents'
      )

  @functools.cached_property
  def opening(self) -> str:
    r"""The beginning of a response that the chat template writes, or ''.

    Templates of models that always think end a prompt with '<think>\n'.

    Raises:
      ValueError: the template fails with a message of a user.
    """
    if self.chat_template is None:
      return ''
    content = turns.unused_characters(self.chat_template)[0]
    prompt = self._render_text([{'role': 'user', 'content': content}])
    return turns.opening(prompt, content)

  @property
  def end(self) -> int:
    """The token that a response ends with where it is learned from."""
    return self.eos[0] if self.end_of_turn is None else self.end_of_turn

  def _render_text(self, messages, change=str, opens=True) -> str:
    """Renders messages, with `change` applied to all texts but roles."""
    names = {token: text for text, token in self.special.items()}
    variables = {
      'messages': [turns.changed(message, change) for message in messages],
      'add_generation_prompt': opens,
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

  def export(self, folder: str | os.PathLike) -> list[str]:
    """Writes files of which transformers makes the same ids, as far as it can.

    Returns:
      Their names; `tokenizer_json.convert` says when a `tokenizer.json` is not
      among them.
    """
    texts = {i: text for text, i in self.special.items()}
    roles = {'bos': self.bos, 'pad': self.pad, 'unk': self.unknown}
    names = {
      role: texts[i]
      for role, i in {'eos': self.eos[0], **roles}.items()
      if i in texts
    }
    files = tokenizer_json.exported(self.files, names)
    return dataclasses.replace(self, files=files).save(folder)


def load(folder: str | os.PathLike) -> Tokenizer:
  """Reads the tokenizer of a Hugging Face folder.

  The ids that end a message are the tokenizer's own and those of
  `generation_config.json` or, without that file, of `config.json`.

  Raises:
    ValueError: a file is missing or malformed.
  """
  return from_files(tokenizer_files.read_folder(pathlib.Path(folder), FILES))


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
  files = tokenizer_json.without_copy(files)
  config = tokenizer_files.read_json(files, 'tokenizer_config.json')
  generation = tokenizer_files.read_json(files, 'generation_config.json')
  template = tokenizer_files.chat_template(files, config)
  names = tokenizer_files.special_names(files, config)
  ids = {
    r: tokenizer_files.token_ids(generation, f'{r}_token_id')
    for r in ('eos', 'bos', 'pad')
  }
  adds_bos = bool(config.get('add_bos_token'))
  words, tokenizer = _build(files, names, ids, template, adds_bos)

  # Read the template: the tokens that it writes, and ends a turn with.
  if template is not None:
    content = turns.unused_characters(template)[0]

    def render(messages, opens):
      return tokenizer._render_text(messages, opens=opens)

    known = {**words.special, **words.added}
    end = known.get(turns.end_of_turn(render, known, content))
    if end is not None and end not in tokenizer.eos:
      ids['eos'].append(end)
      words, tokenizer = _build(files, names, ids, template, adds_bos)
    markers = turns.markers(template, render, words.added, content)
    tokenizer = dataclasses.replace(
      tokenizer,
      markers=markers,
      end_of_turn=end,
      blind_fn=words.blind(markers) if markers else None,
    )
  if not tokenizer.eos:
    raise ValueError(
      'eos_token: got no token that ends a message; expected one; name it in '
      'tokenizer_config.json, or its id as eos_token_id in '
      'generation_config.json'
    )
  return tokenizer


def _build(files, names, ids, template, adds_bos):
  """Makes the vocabulary of files, and the tokenizer without its markers.

  Args:
    files: contents by name.
    names: special tokens by role.
    ids: more ids of special tokens by role.
    template: the chat template, or None.
    adds_bos: whether the plain template begins with `bos`.
  """
  if 'tokenizer.json' in files:
    words = vocabulary.byte_pair(files['tokenizer.json'], names, ids['eos'])
  else:
    words = vocabulary.sentencepiece(
      files['tokenizer.model'], names, ids['eos']
    )
  eos, bos, pad = (
    tuple(dict.fromkeys([i for i in [words.ids.get(r)] if i is not None]
                        + ids[r]))
    for r in ('eos', 'bos', 'pad')
  )  # fmt: skip
  return words, Tokenizer(
    vocab_size=words.vocab_size,
    eos=eos,
    pad=(*pad, *eos, 0)[0],
    bos=bos[0] if bos else None,
    unknown=words.ids.get('unk'),
    special=words.special,
    chat_template=template,
    adds_bos=bool(bos) and (words.adds_bos or adds_bos),
    files=dict(files),
    encode_fn=words.encode,
    decode_fn=words.decode,
  )
