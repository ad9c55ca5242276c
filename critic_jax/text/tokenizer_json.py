"""A sentencepiece model as a `tokenizer.json` that gives the same ids.

transformers makes its own tokenizer of a folder that has a `tokenizer.model`
alone, and its ids are others. Its `tokenizer.json` says more: merges are ranked
by the scores of pieces, as transformers' `convert_slow_tokenizer.py` does it.
Other than there, a space is written as itself in the vocabulary, so that the
sign that sentencepiece writes for it, U+2581, falls back to bytes as any other
character that has no piece.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, processors

from critic_jax.text import tokenizer_files

_WORD_BOUNDARY = '\u2581'  # sentencepiece writes a space so
_Kind = sentencepiece_model_pb2.ModelProto.SentencePiece


def exported(
  files: Mapping[str, bytes], names: Mapping[str, str]
) -> dict[str, bytes]:
  """Returns a tokenizer's files as transformers should find them.

  Args:
    files: contents by name.
    names: the special tokens by role ('eos', 'bos', 'pad', 'unk').

  Returns:
    The files; beside a `tokenizer.model` that `convert` can express, also a
    `tokenizer.json`, and the settings by which transformers reads that one.
  """
  if 'tokenizer.json' in files:
    return dict(files)
  config = tokenizer_files.read_json(files, 'tokenizer_config.json')
  known = tokenizer_files.special_names(files, config)
  names = {**names, **known}
  data = convert(files['tokenizer.model'], _start(config, names))
  if data is None:
    return dict(files)
  config |= {
    f'{role}_token': text for role, text in names.items() if role not in known
  }
  config['tokenizer_class'] = 'PreTrainedTokenizerFast'
  config['clean_up_tokenization_spaces'] = False
  content = json.dumps(config, ensure_ascii=False, indent=2) + '\n'
  return {
    **files,
    'tokenizer.json': data,
    'tokenizer_config.json': content.encode(),
  }


def without_copy(files: Mapping[str, bytes]) -> dict[str, bytes]:
  """Returns files without a `tokenizer.json` that `exported` has made.

  A `tokenizer.json` of somebody else, or that transformers has changed since,
  says more than the model beside it, and is kept.
  """
  files = dict(files)
  if {'tokenizer.json', 'tokenizer.model'} <= set(files):
    config = tokenizer_files.read_json(files, 'tokenizer_config.json')
    start = _start(config, tokenizer_files.special_names(files, config))
    if convert(files['tokenizer.model'], start) == files['tokenizer.json']:
      del files['tokenizer.json']
  return files


def _start(config, names) -> str | None:
  """Returns the token that a text begins with, if the config wants one."""
  return names.get('bos') if config.get('add_bos_token') else None


def convert(model: bytes, start: str | None = None) -> bytes | None:
  """Makes the `tokenizer.json` of a sentencepiece model.

  Args:
    model: the file.
    start: the token that transformers begins a text with, None for none.

  Returns:
    The file, or None if there is none with the same ids: for models that are
    broken, that are not of byte pairs, that normalise their texts, or that put
    a space before texts and have pieces which texts are searched for.
  """
  proto = sentencepiece_model_pb2.ModelProto()
  try:
    proto.ParseFromString(model)
  except Exception:  # protobuf's errors derive from it alone
    return None
  if not _is_expressible(proto):
    return None
  texts = [_text(piece) for piece in proto.pieces]
  library = tokenizers.Tokenizer(
    models.BPE(
      {text: i for i, text in enumerate(texts)},
      _merges(proto),
      unk_token=next(_texts(proto, _Kind.UNKNOWN), None),
      fuse_unk=True,
      byte_fallback=proto.trainer_spec.byte_fallback,
    )
  )
  is_prefixed = proto.normalizer_spec.add_dummy_prefix
  steps, last_steps = [], []
  if is_prefixed or not proto.trainer_spec.byte_fallback:
    # Nothing can tell the sign from a space here (`vocabulary.py`).
    steps.append(normalizers.Replace(_WORD_BOUNDARY, ' '))
  if is_prefixed:
    steps.append(normalizers.Prepend(' '))
    last_steps.append(decoders.Strip(' ', 1, 0))
  library.normalizer = normalizers.Sequence(steps)
  library.decoder = decoders.Sequence(
    [decoders.ByteFallback(), decoders.Fuse(), *last_steps]
  )
  for is_special, kinds in (
    (True, (_Kind.UNKNOWN, _Kind.CONTROL)),
    (False, (_Kind.USER_DEFINED,)),
  ):
    library.add_tokens(
      [
        tokenizers.AddedToken(text, special=is_special, normalized=False)
        for text in _texts(proto, *kinds)
      ]
    )
  if start in texts:
    library.post_processor = processors.TemplateProcessing(
      single=[start, '$A'], special_tokens=[(start, texts.index(start))]
    )
  return (library.to_str(pretty=True) + '\n').encode()


def _is_expressible(proto) -> bool:
  """Whether the tokenizers library can give the ids of a model."""
  kinds = [piece.type for piece in proto.pieces]
  texts = [_text(piece) for piece in proto.pieces]
  scores = [p.score for p in proto.pieces if p.type == _Kind.NORMAL]
  trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
  if trainer.byte_fallback:
    # Without a piece of its own a space is other bytes than here.
    can_spell = ' ' in _texts(proto, _Kind.NORMAL, _Kind.USER_DEFINED)
    byte_pieces = {f'<0x{byte:02X}>' for byte in range(256)}
    can_spell &= byte_pieces == {*_texts(proto, _Kind.BYTE)}
  else:
    can_spell = _Kind.BYTE not in kinds
  return (
    trainer.model_type == trainer.BPE
    and not trainer.treat_whitespace_as_suffix
    and not normalizer.precompiled_charsmap
    and not normalizer.remove_extra_whitespaces
    and normalizer.escape_whitespaces
    and not proto.denormalizer_spec.precompiled_charsmap
    and kinds.count(_Kind.UNKNOWN) == 1
    and _Kind.UNUSED not in kinds
    and not (normalizer.add_dummy_prefix and _Kind.USER_DEFINED in kinds)
    and all(texts)
    and len(set(texts)) == len(texts)
    # Of pieces of one score the leftmost would be the first to be merged.
    and len(set(scores)) == len(scores)
    and all(map(math.isfinite, scores))
    and can_spell
  )


def _texts(proto, *kinds):
  """Yields the texts of the pieces of some kinds."""
  return (_text(piece) for piece in proto.pieces if piece.type in kinds)


def _text(piece) -> str:
  return piece.piece.replace(_WORD_BOUNDARY, ' ')


def _merges(proto) -> list[tuple[str, str]]:
  """Lists the pairs of pieces that make a piece, the best score first."""
  scores = {_text(p): p.score for p in proto.pieces if p.type == _Kind.NORMAL}
  merges = [
    (-score, i, text[:i], text[i:])
    for text, score in scores.items()
    for i in range(1, len(text))
    if text[:i] in scores and text[i:] in scores
  ]
  return [(left, right) for *_, left, right in sorted(merges)]
