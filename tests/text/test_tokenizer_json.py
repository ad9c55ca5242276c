"""Exported sentencepiece models: the tokenizers library gives their ids."""

import io
import json
import random

import pytest
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from vocabularies import CHATML, SYMBOLS, WEIRD

from critic_jax.text import tokenizer, tokenizer_json

LINES = [
  'hello world, 12 + 3 = 15', 'the quick brown fox\njumps', 'abab banana aaaa',
  *(' '.join(random.Random(i).choices(['alpha', 'alphabet', 'bet', 'ab', 'ba',
                                       'cab'], k=12)) for i in range(99)),
]  # fmt: skip
Kind = sentencepiece_model_pb2.ModelProto.SentencePiece


def train(**settings):
  out = io.BytesIO()
  settings = {
    'model_type': 'bpe', 'byte_fallback': True, 'vocab_size': 350,
    'normalization_rule_name': 'identity', 'remove_extra_whitespaces': False,
  } | settings  # fmt: skip
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=(line for text in LINES for line in text.split('\n')),
    model_writer=out, hard_vocab_limit=False, minloglevel=2, pad_id=3,
    num_threads=1, **settings,
  )  # fmt: skip
  return out.getvalue()


def changed(model, change):
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  change(proto)
  return proto.SerializeToString()


MODELS = {
  'of a drawn model': lambda: tokenizer.train_sentencepiece(
    LINES, 360, SYMBOLS, pieces=[' 12', '\nStep 1:', 'hel', 'hello'],
    across_words=True,
  ),
  'with a dummy prefix': lambda: train(control_symbols=list(SYMBOLS)),
  'without bytes': lambda: train(byte_fallback=False, vocab_size=120),
  'without bytes and prefix': lambda: train(
    byte_fallback=False, vocab_size=120, add_dummy_prefix=False
  ),
  'of one symbol': lambda: train(
    add_dummy_prefix=False, user_defined_symbols=['\u2581ab', 'he', '<u>']
  ),
}  # fmt: skip


@pytest.fixture(scope='module', params=MODELS)
def model(request):
  return MODELS[request.param]()


def texts_of(model):
  """Returns texts of all kinds: pieces in any order are the hardest."""
  rng = random.Random(0)
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  words = [piece.piece.replace('\u2581', ' ') for piece in proto.pieces]
  for letters in (
    words,
    'ab ',
    'hel o\n12<u>\u2581',
    '\u2581é日\0\x85\U0001f469',
  ):
    yield from (
      ''.join(rng.choices(letters, k=rng.randrange(1, 25))) for _ in range(300)
    )
  yield from WEIRD


def folder_of(model, path, **config):
  files = {'tokenizer.model': model}
  files['tokenizer_config.json'] = json.dumps(config).encode()
  names = tokenizer.from_files(files).export(path)
  assert 'tokenizer.json' in names
  return tokenizer.from_files(files)


def test_the_library_gives_the_ids_of_the_model(model, tmp_path):
  ours = folder_of(model, tmp_path)
  library = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer.model').unlink()
  alone = tokenizer.load(tmp_path)
  for name in ('vocab_size', 'eos', 'pad', 'bos', 'special'):
    assert getattr(alone, name) == getattr(ours, name), name
  for text in texts_of(model):
    parsed = ours.encode(text, special=True)
    assert library.encode(text, add_special_tokens=False).ids == parsed
    assert alone.encode(text, special=True) == parsed
    tokens = ours.encode(text)
    assert alone.encode(text) == tokens  # no special token is forged
    assert alone.decode(tokens) == ours.decode(tokens)


def test_an_exported_folder_is_read_as_its_model(model, tmp_path):
  ours = folder_of(model, tmp_path / 'a', chat_template=CHATML)
  read = tokenizer.load(tmp_path / 'a')
  assert 'tokenizer.json' not in read.files  # which holds the same
  for name in ('vocab_size', 'eos', 'pad', 'bos', 'special', 'markers', 'end'):
    assert getattr(read, name) == getattr(ours, name), name
  messages = [{'role': 'user', 'content': 'hello <s> 12\u2581<|im_end|>'}]
  assert read.render(messages) == ours.render(messages)
  read.export(tmp_path / 'b')
  for path in (tmp_path / 'a').iterdir():
    assert path.read_bytes() == (tmp_path / 'b' / path.name).read_bytes()


def test_transformers_is_told_to_read_the_file(tmp_path):
  """Other classes put a sentencepiece space before texts, whatever it says."""
  folder_of(
    MODELS['of a drawn model'](), tmp_path,
    tokenizer_class='LlamaTokenizer', eos_token='<|im_end|>',
  )  # fmt: skip
  config = json.loads((tmp_path / 'tokenizer_config.json').read_bytes())
  assert config == {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'clean_up_tokenization_spaces': False,
    'eos_token': '<|im_end|>', 'bos_token': '<s>', 'pad_token': '<pad>',
    'unk_token': '<unk>',
  }  # fmt: skip


def test_texts_begin_with_a_token_where_the_config_says_so(tmp_path):
  model = MODELS['with a dummy prefix']()
  ours = folder_of(
    model, tmp_path, add_bos_token=True, bos_token='<|im_start|>'
  )
  library = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  expected = [ours.special['<|im_start|>'], *ours.encode('hello')]
  assert library.encode('hello').ids == expected
  assert 'tokenizer.json' not in tokenizer.load(tmp_path).files


def test_a_file_that_was_changed_is_read(tmp_path):
  folder_of(MODELS['of a drawn model'](), tmp_path)
  path = tmp_path / 'tokenizer.json'
  library = tokenizers.Tokenizer.from_file(str(path))
  library.add_tokens(['quick brown'])
  library.save(str(path))
  read = tokenizer.load(tmp_path)
  assert len(read.encode('quick brown')) == 1
  names = read.export(tmp_path / 'again')
  assert {'tokenizer.json', 'tokenizer.model'} <= set(names)
  assert (tmp_path / 'again/tokenizer.json').read_bytes() == path.read_bytes()


def same_scores(proto):
  normal = [p for p in proto.pieces if p.type == Kind.NORMAL]
  normal[0].score = normal[1].score


def same_texts(proto):
  proto.pieces[-1].piece = proto.pieces[-2].piece


def no_space(proto):
  [space] = [p for p in proto.pieces if p.piece == '\u2581']
  space.piece = 'unseen'


@pytest.mark.parametrize(
  'make',
  [
    lambda: train(model_type='unigram', vocab_size=300),
    lambda: train(normalization_rule_name='nmt_nfkc'),
    lambda: train(remove_extra_whitespaces=True),
    lambda: train(user_defined_symbols=['<u>']),  # and a dummy prefix
    lambda: train(treat_whitespace_as_suffix=True),
    lambda: changed(train(), same_scores),
    lambda: changed(train(), same_texts),
    lambda: changed(train(), lambda p: setattr(p.pieces[-1], 'type', 5)),
    lambda: changed(train(), lambda p: setattr(p.pieces[9], 'type', 1)),
    lambda: changed(train(), lambda p: p.pieces[-1].ClearField('piece')),
    lambda: changed(train(), no_space),
  ],
)
def test_no_file_is_better_than_one_with_other_ids(make, tmp_path):
  model = make()
  assert tokenizer_json.convert(model) is None
  assert tokenizer_json.convert(model[:-9]) is None  # it is broken
  try:
    loaded = tokenizer.from_sentencepiece(model)
  except ValueError:
    return
  assert loaded.export(tmp_path) == ['tokenizer.model']
