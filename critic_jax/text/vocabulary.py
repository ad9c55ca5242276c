"""Vocabularies of tokenizer files, which map text to ids and back.

A function for each file format returns a `Vocabulary`; another one trains a new
vocabulary. `tokenizer.py` builds its `Tokenizer` on them.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import NamedTuple

import sentencepiece as sentencepiece_lib
import tokenizers
from sentencepiece import sentencepiece_model_pb2

MAX_SIZE = 10_000_000  # tokens of a vocabulary
_WORD_BOUNDARY = '\u2581'  # sentencepiece writes a space so
_RARE = '\U0010fffd'  # in no vocabulary as a whole


class Vocabulary(NamedTuple):
  """The contents that all kinds of tokenizer files have in common.

  Attributes:
    vocab_size: one more than the largest id.
    ids: ids of 'eos', 'bos', 'pad' and 'unk' (for text outside the vocabulary),
      as far as they exist.
    special: ids of the special tokens by their text.
    added: those of the other tokens that are found in any text as a whole.
    adds_bos: whether the file says that texts begin with 'bos'.
    encode: (text, whether to parse specials) -> ids.
    decode: ids -> text, specials included.
    blind: makes an encode of plain text that does not find some of `added`.
  """

  vocab_size: int
  ids: Mapping[str, int]
  special: Mapping[str, int]
  added: Mapping[str, int]
  adds_bos: bool
  encode: Callable[[str, bool], list[int]]
  decode: Callable[[list[int]], str]
  blind: Callable[[Collection[str]], Callable[[str], list[int]]]


def byte_pair(
  data: bytes, names: Mapping[str, str], ends: Collection[int] = ()
) -> Vocabulary:
  """Reads the vocabulary of a `tokenizer.json`.

  Args:
    data: the file.
    names: special tokens by role, even if the file calls them plain.
    ends: ids of added tokens that are special, too.

  Raises:
    ValueError: the file is malformed or lacks a named token.
  """

  def build():
    library = tokenizers.Tokenizer.from_str(data.decode())
    library.no_truncation()
    library.no_padding()
    for role, text in names.items():
      if library.token_to_id(text) is None:
        raise _unknown_token(role, text)
    library.add_special_tokens(list(names.values()))
    reserve(library, ends)
    return library

  def reserve(library, ids):
    tokens = library.get_added_tokens_decoder()
    for token in (tokens[i] for i in ids if i in tokens):
      token.special = True
      library.add_special_tokens([token])

  def blind(texts):
    library = build()
    reserve(library, [added[text] for text in texts])
    library.encode_special_tokens = True
    return _library()(
      lambda text: library.encode(text, add_special_tokens=False).ids
    )

  def encode(text, parse):
    library = parsing if parse else plain
    return library.encode(text, add_special_tokens=False).ids

  def decode(tokens):
    return parsing.decode(tokens, skip_special_tokens=False)

  with _library():
    parsing, plain = build(), build()
    plain.encode_special_tokens = True  # that is: as if they were not special
    tokens = parsing.get_added_tokens_decoder()
    special = {t.content: i for i, t in tokens.items() if t.special}
    added = {t.content: i for i, t in tokens.items() if not t.special}
    ids = {role: parsing.token_to_id(text) for role, text in names.items()}
    # A config may name a token 'unknown' that no text becomes.
    if ids.get('unk') not in encode(_RARE, False):
      ids.pop('unk', None)
    vocab_size = max(parsing.get_vocab().values(), default=-1) + 1
    adds_bos = ids.get('bos') in parsing.encode('').ids
  if vocab_size > MAX_SIZE:
    raise ValueError(
      f'tokenizer.json: got the id {vocab_size - 1}; expected ids below '
      f'{MAX_SIZE}'
    )
  return Vocabulary(
    vocab_size=vocab_size,
    ids=ids,
    special=special,
    added=added,
    adds_bos=adds_bos,
    encode=_library()(encode),
    decode=_library()(decode),
    blind=_library()(blind),
  )


@contextlib.contextmanager
def _library() -> Iterator[None]:
  """Turns any error of the tokenizers library into a ValueError.

  The library raises plain Exception and, if it fails on a file that it
  accepted, a panic, which is no Exception.
  """
  try:
    yield
  except BaseException as e:
    is_own = isinstance(e, ValueError) and '; expected ' in str(e)
    is_error = isinstance(e, Exception) or 'Panic' in type(e).__name__
    if is_own or not is_error:
      raise
    raise ValueError(
      f'tokenizer.json: got {e}; expected a file of the tokenizers library '
      'that reads any text'
    ) from None


def sentencepiece(
  data: bytes, names: Mapping[str, str], ends: Collection[int] = ()
) -> Vocabulary:
  """Reads the vocabulary of a `tokenizer.model`; control pieces are special.

  Args:
    data: the file.
    names: special tokens by role, where they are not the model's own.
    ends: ids of added tokens that are special, too.

  Raises:
    ValueError: the file is malformed, lacks a named token, or has a special
      token that plain text could forge.
  """
  library, pieces, added = _load(data)
  ids = {
    'eos': library.eos_id(),
    'bos': library.bos_id(),
    'pad': library.pad_id(),
    'unk': library.unk_id(),
  }
  ids = {role: i for role, i in ids.items() if i >= 0}
  for role, text in names.items():
    if text not in pieces:
      raise _unknown_token(role, text)
    ids[role] = pieces[text]
  reserved = {
    text: i for text, i in added.items() if i in ids.values() or i in ends
  }
  if reserved:
    library = _load(_controlled(data, reserved.values()))[0]
  special = {
    text: i
    for text, i in pieces.items()
    if library.is_control(i) or i in ids.values()
  }
  for text, i in special.items():
    if i in library.encode(text) and i != ids.get('unk'):
      raise ValueError(
        f'tokenizer.model: got the special token {text!r} as an ordinary '
        'piece, which any text can contain; expected a control piece'
      )

  def blind(texts):
    hidden = {text: i for text, i in added.items() if text in texts}
    ids = [*reserved.values(), *hidden.values()]
    library = _load(_controlled(data, ids))[0]
    encode = _sentencepiece_codec(library, pieces, special | hidden)[0]
    return lambda text: encode(text, False)

  encode, decode = _sentencepiece_codec(library, pieces, special)
  added = {text: i for text, i in added.items() if text not in reserved}
  return Vocabulary(
    library.vocab_size(), ids, special, added, False, encode, decode, blind
  )


def _load(data: bytes):
  """Returns a sentencepiece model, its pieces, and those in any text."""
  library = sentencepiece_lib.SentencePieceProcessor()
  proto = sentencepiece_model_pb2.ModelProto()
  try:
    library.LoadFromSerializedProto(data)
    pieces = {library.id_to_piece(i): i for i in range(library.vocab_size())}
    proto.ParseFromString(data)
  except Exception as e:  # protobuf's errors derive from it alone
    raise ValueError(
      f'tokenizer.model: got {e}; expected a sentencepiece model'
    ) from None
  kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
  added = {p.piece: i for i, p in enumerate(proto.pieces) if p.type == kind}
  return library, pieces, added


def _controlled(data: bytes, ids: Iterable[int]) -> bytes:
  """Returns a sentencepiece model with pieces that no text contains."""
  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(data)
  for i in ids:
    piece = proto.pieces[i]
    piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.CONTROL
  return proto.SerializeToString()


def _sentencepiece_codec(library, pieces, special):
  """Returns the encode and decode of a `Vocabulary`."""
  finder = re.compile(f'({special_finder(special).pattern})')
  texts = {i: text for text, i in special.items()}
  escape = _boundary_escape(library, pieces)

  def encode_plain(text):
    if not escape:
      return library.encode(text)
    first, *parts = text.split(_WORD_BOUNDARY)
    tokens = library.encode(first)
    for part in parts:
      tokens += escape + library.encode(part)
    return tokens

  def encode(text, parse):
    tokens = []
    for part in finder.split(text) if parse else [text]:
      if parse and part in special:
        tokens.append(special[part])
      else:
        tokens += encode_plain(part)
    return tokens

  def decode(tokens):
    out, run = [], []  # the library gives control pieces no text
    for token in [*tokens, None]:
      if token is not None and token not in texts:
        run.append(token)
        continue
      out += [library.decode(run), texts.get(token, '')]
      run = []
    return ''.join(out)

  return encode, decode


def _boundary_escape(library, pieces) -> list[int]:
  """Returns the byte pieces of U+2581, which else would decode to a space.

  They are empty if they would not help: in models without bytes, and in those
  that put a space before every text, thus also after the bytes.
  """
  data = [pieces.get(f'<0x{byte:02X}>') for byte in _WORD_BOUNDARY.encode()]
  proto = sentencepiece_model_pb2.ModelProto()
  proto.ParseFromString(library.serialized_model_proto())
  is_prefixed = proto.normalizer_spec.add_dummy_prefix
  return [] if is_prefixed or None in data else data


def _unknown_token(role, text):
  return ValueError(
    f'{role}_token: got {text!r}; expected a token of the vocabulary'
  )


def special_finder(special: Mapping[str, int]) -> re.Pattern:
  """Makes a pattern of special tokens, the longest first; no groups."""
  longest_first = sorted(filter(None, special), key=len, reverse=True)
  return re.compile('|'.join(map(re.escape, longest_first)) or r'(?!)')


def train_sentencepiece(
  texts: Iterable[str],
  vocab_size: int,
  user_symbols: Sequence[str] = (),
  *,
  pieces: Sequence[str] = (),
  across_words: bool = False,
) -> bytes:
  """Trains a byte-pair model in which any text round-trips.

  Args:
    texts: the training texts.
    vocab_size: the greatest number of pieces; the least is 4 specials, 256
      bytes, the symbols, and the characters of the texts.
    user_symbols: special tokens to reserve; plain text never parses into them.
    pieces: texts that are always one token, the longest first.
    across_words: whether a learned piece may span several words.

  Returns:
    The model's bytes, the same for the same arguments.

  Raises:
    ValueError: the texts and the size do not fit.
  """
  out = io.BytesIO()
  lines = (line for text in texts for line in text.split('\n') if line)
  try:
    sentencepiece_lib.SentencePieceTrainer.train(
      sentence_iterator=lines,
      model_writer=out,
      vocab_size=vocab_size,
      hard_vocab_limit=False,
      model_type='bpe',
      byte_fallback=True,
      character_coverage=1.0,
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      split_digits=True,
      split_by_whitespace=not across_words,
      user_defined_symbols=[p.replace(' ', '\u2581') for p in pieces],
      control_symbols=list(user_symbols),
      pad_id=3,
      num_threads=1,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as e:
    raise ValueError(
      f'vocab_size: got {vocab_size}; expected one that fits the texts; '
      f'sentencepiece says {e}'
    ) from None
  return out.getvalue()
