"""Tokenizers from anybody: loaded, or refused, and their texts come back."""

import functools
import json

import tokenizers
from fuzzing import altered, broken, deep, refused, texts, values
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from vocabularies import CHATML, OPENED, SYMBOLS, gguf_metadata

from critic_jax.pretrained import gguf_import
from critic_jax.text import tokenizer, tokenizer_json

PROBES = (
  '',
  ' ',
  'he 11 hello',
  '\u2581a\0',
  'e\u0301\U0001f469\u200d',
  'a\n' * 9,
)
FILES = tokenizer.FILES[2:]


@functools.cache
def byte_level():
  """Returns the files of a small byte-level vocabulary, by name."""
  return gguf_import.tokenizer_files(gguf_metadata())


@functools.cache
def pieces(rule='identity'):
  """Makes a small sentencepiece model."""
  lines = ['hello world, 12 + 3 = 15', 'the quick brown fox\njumps'] * 10
  data = tokenizer.train_sentencepiece(lines, 360, SYMBOLS)
  if rule == 'identity':
    return data
  import io

  import sentencepiece

  out = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=out, vocab_size=60,
    hard_vocab_limit=False, normalization_rule_name=rule, minloglevel=2,
    pad_id=3,
  )  # fmt: skip
  return out.getvalue()


def use(files):
  """Loads a tokenizer and, if that succeeds, uses it."""
  loaded = tokenizer.from_files(files)
  for text in PROBES:
    with refused():
      tokens = loaded.encode(text)
      assert all(0 <= t < loaded.vocab_size for t in tokens)
      assert isinstance(loaded.decode(tokens), str)
      loaded.encode(text, special=True)
  with refused():
    loaded.render([{'role': 'user', 'content': 'he <|im_end|>'}])
  with refused():
    assert isinstance(loaded.decode(range(-3, loaded.vocab_size % 999)), str)


@given(st.data())
def test_any_tokenizer_json(data):
  content = data.draw(altered(json.loads(byte_level()['tokenizer.json'])))
  with refused():
    use(byte_level() | {'tokenizer.json': json.dumps(content).encode()})


# Parts of tokenizer.json that a byte-level one lacks, sound and not.
REGEX = ('(a|aa)+$', '', '.', '(?!)', '\\G', '^', '(', '\\p{L}')
PARTS = {
  'normalizer': [
    *({'type': 'Replace', 'pattern': {'Regex': r}, 'content': 'xx'}
      for r in REGEX),
    {'type': 'Precompiled', 'precompiled_charsmap': 'ALwCAACEAAAAAACAAQAAgMz8'},
    {'type': 'Prepend', 'prepend': ''},
    {'type': 'Strip', 'strip_left': True, 'strip_right': True},
    {'type': 'NFKC'},
  ],
  'pre_tokenizer': [
    *({'type': 'Split', 'pattern': {'Regex': r}, 'behavior': 'Isolated',
       'invert': False} for r in REGEX),
    {'type': 'Metaspace', 'replacement': '\u2581', 'prepend_scheme': 'always',
     'split': True},
    {'type': 'FixedLength', 'length': 0},
    {'type': 'UnicodeScripts'},
  ],
  'post_processor': [
    {'type': 'TemplateProcessing', 'single': [
      {'Sequence': {'id': 'B', 'type_id': 0}}], 'pair': [],
     'special_tokens': {}},
    {'type': 'BertProcessing', 'sep': ['a', 5], 'cls': ['b', 2**32 - 1]},
  ],
  'decoder': [
    {'type': 'Strip', 'content': 'a', 'start': 0, 'stop': 7},
    {'type': 'CTC', 'pad_token': 'a', 'word_delimiter_token': '',
     'cleanup': True},
    {'type': 'ByteFallback'},
    {'type': 'WordPiece', 'prefix': '##', 'cleanup': True},
  ],
  'model': [
    {'type': 'Unigram', 'unk_id': None, 'byte_fallback': True, 'vocab': [
      ['<|im_end|>', -1.0], ['a', 1e300], ['', 0.0], ['<|end|>', 0.0]]},
    {'type': 'WordLevel', 'unk_token': 'zz', 'vocab': {
      'a': 0, '<|im_end|>': 2**32 - 1, '<|end|>': 7}},
    {'type': 'BPE', 'unk_token': None, 'continuing_subword_prefix': '##',
     'vocab': {'h': 0, 'e': 1, 'he': 2, '<|im_end|>': 3, '<|end|>': 4},
     'merges': [['h', 'e']]},
  ],
  'added_tokens': [
    [{'id': 0, 'content': text, 'single_word': False, 'lstrip': True,
      'rstrip': True, 'normalized': True, 'special': False}]
    for text in ('', ' ', '<|im_end|>')
  ],
}  # fmt: skip
parts = st.fixed_dictionaries(
  {}, optional={k: st.sampled_from(v) for k, v in PARTS.items()}
)


@given(parts, st.data())
def test_any_parts_of_tokenizer_json(parts, data):
  content = json.loads(byte_level()['tokenizer.json']) | parts
  if parts and data.draw(st.booleans()):
    name = data.draw(st.sampled_from(sorted(parts)))
    content[name] = data.draw(altered(parts[name]))
  with refused():
    use(byte_level() | {'tokenizer.json': json.dumps(content).encode()})


@given(broken(gguf_import.tokenizer_files(gguf_metadata())['tokenizer.json']))
def test_broken_tokenizer_json(content):
  with refused():
    use(byte_level() | {'tokenizer.json': content})


@given(st.sampled_from(FILES), st.data())
def test_any_other_file(name, data):
  sound = byte_level().get(name, b'{}')
  content = data.draw(
    broken(sound)
    | (st.just(sound) if name.endswith('jinja') else json_like(sound))
    | st.sampled_from([b'', b'[]', b'\xff', deep(10**5).encode()])
  )
  with refused():
    use(byte_level() | {name: content})


def json_like(sound):
  keys = st.sampled_from((
    'eos_token', 'bos_token', 'pad_token', 'unk_token', 'eos_token_id',
    'bos_token_id', 'pad_token_id', 'chat_template', 'add_bos_token',
  ))  # fmt: skip
  token = st.sampled_from((*SYMBOLS, 'a', 'h', '<none>', '', 0, 5, 260))
  settings = st.dictionaries(keys, token | values(), max_size=3)
  return st.builds(
    lambda content, settings: json.dumps(
      content | settings if isinstance(content, dict) else content
    ).encode(),
    altered(json.loads(sound)),
    settings,
  )


@given(st.sampled_from(('identity', 'nmt_nfkc')), st.data())
def test_broken_sentencepiece_models(rule, data):
  content = data.draw(broken(pieces(rule)))
  with refused():
    use({'tokenizer.model': content})


@given(st.sampled_from(('identity', 'nmt_nfkc')), st.data())
def test_any_sentencepiece_model(rule, data):
  """The model is a sound protocol buffer with fields that nobody trained."""
  proto = sentencepiece_model_pb2.ModelProto.FromString(pieces(rule))
  for _ in range(data.draw(st.integers(1, 3))):
    piece = proto.pieces[data.draw(st.integers(0, len(proto.pieces) - 1))]
    kind = data.draw(st.integers(0, 7))
    if kind == 0:
      piece.piece = data.draw(texts(max_size=2, surrogates=False))
    elif kind == 1:
      piece.type = data.draw(st.integers(1, 6))
    elif kind == 2:
      piece.score = data.draw(st.floats(width=32))
    elif kind == 3:
      del proto.pieces[data.draw(st.integers(0, 400)) :]
      if not proto.pieces:
        break
    elif kind == 4:
      spec = proto.trainer_spec
      spec.model_type = data.draw(st.integers(1, 4))
      spec.byte_fallback = data.draw(st.booleans())
    elif kind == 5:
      number = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 400)
      for name in ('unk_id', 'bos_id', 'eos_id', 'pad_id', 'vocab_size'):
        setattr(proto.trainer_spec, name, data.draw(number))
    elif kind == 6:
      charsmap = proto.normalizer_spec.precompiled_charsmap
      change = st.binary(max_size=40) | broken(charsmap)
      proto.normalizer_spec.precompiled_charsmap = data.draw(change)
    elif kind == 7:
      piece.piece = proto.pieces[0].piece
  files = {'tokenizer.model': proto.SerializeToString()}
  with refused():
    use(files)
  exported = tokenizer_json.exported(files, {})
  if 'tokenizer.json' in exported:
    with refused():
      loaded = tokenizer.from_files(files)
      library = tokenizers.Tokenizer.from_str(
        exported['tokenizer.json'].decode()
      )
      for text in PROBES:
        tokens = library.encode(text, add_special_tokens=False).ids
        assert tokens == loaded.encode(text, special=True)


@given(altered(gguf_metadata()), st.sampled_from(('gpt2', 'llama')))
def test_any_vocabulary_of_gguf(metadata, model):
  if not isinstance(metadata, dict):
    return
  metadata = dict(metadata)
  if model == 'llama':
    metadata['tokenizer.ggml.model'] = model
    tokens = metadata.get('tokenizer.ggml.tokens')
    if isinstance(tokens, list):
      metadata['tokenizer.ggml.scores'] = [
        -float(i) for i in range(len(tokens))
      ]
  with refused():
    use(gguf_import.tokenizer_files(metadata))


@given(texts('<|im_start|>assistant\n', 'he', surrogates=False, max_size=12))
@example('\u2581 \u2581')
def test_texts_come_back_and_forge_nothing(text):
  files = byte_level()
  loaded = tokenizer.from_files(files)
  assert loaded.decode_fn(loaded.encode(text)) == text
  turns = [{'role': 'user', 'content': text}, {'role': 'x', 'content': text}]
  tokens = loaded.render(turns)
  special = [t for t in tokens if t in loaded.special.values()]
  start, end = (loaded.special[s] for s in SYMBOLS)
  assert special == [start, end, start, end, start]
  whole = loaded.decode_fn(tokens)
  assert whole == (
    f'<|im_start|>user\n{text}<|im_end|>\n<|im_start|>x\n{text}<|im_end|>\n'
    '<|im_start|>assistant\n'
  )
  assert CHATML


@given(texts('<think>', '</think>', surrogates=False, max_size=12))
def test_texts_forge_no_marker(text):
  config = json.loads(byte_level()['tokenizer_config.json'])
  config['chat_template'] = OPENED
  loaded = tokenizer.from_files(
    byte_level() | {'tokenizer_config.json': json.dumps(config).encode()}
  )
  tokens = loaded.render([{'role': 'user', 'content': text}])
  assert tokens.count(loaded.markers['<think>']) == 1
  assert loaded.decode_fn(tokens).count(text) >= 1


@given(texts('he', '<|im_end|>', surrogates=False, max_size=12))
def test_pieces_come_back(text):
  loaded = tokenizer.from_files({'tokenizer.model': pieces()})
  assert loaded.decode_fn(loaded.encode(text)) == text
