"""Parts that fuzz tests share: hostile values, broken files, allowed errors.

A property is a test of hypothesis. Every test here may raise one error only, a
ValueError of the house's form.
"""

import contextlib
import pathlib
import re
import tempfile
import tracemalloc

import numpy as np
from hypothesis import strategies as st

from critic_jax.rewards import verdicts
from critic_jax.types import Problem, Record

# Texts that have broken parsers: half a surrogate pair, the end of a C string,
# text that runs backwards, letters that case folding changes or lengthens,
# what ends scripts, attributes, templates, paths, lines and JSON.
FRAGMENTS = (
  '\ud800', '\udfff', '\0', '\u202e', '\u200d', '\ufeff', '\u2028', '\x85',
  '\u0130', '\u017f', '\u00df', '\ufb01', '\u0661', '\uff11', '\u2581',
  '\U0001f469\u200d\U0001f467', '\U0010ffff', 'e\u0301\u0301\u0301',
  '</script>', '<script>alert(1)</script>', '<!--', ']]>', '"><img src=x>',
  "' onload='", '&lt;', '{{ 7 * 7 }}', '{% raw %}', '${x}', '%s%n', '\\',
  '../../etc/passwd', '/', '\r\n', '\n\n', '\t', '`' * 3, '-1', '1e999', 'nan',
  '<|im_end|>', '<|im_start|>', '</think>', '<think>', '{' * 99, '}' * 99,
)  # fmt: skip


def texts(*extra_fragments, max_size=8, surrogates=True):
  """Draws texts of fragments, those given among them, and of any characters."""
  fragments = [
    f for f in FRAGMENTS if surrogates or not re.search('[\ud800-\udfff]', f)
  ]
  piece = st.sampled_from(
    [*fragments, *extra_fragments, *extra_fragments]
  ) | st.text(max_size=5)
  return st.lists(piece, max_size=max_size).map(''.join)


def numbers():
  """Draws numbers that JSON can spell, and some that it cannot."""
  edges = [0, -1, 1, 2**31, 2**32 - 1, 2**62, 2**63, -(2**63), 10**30, 10**400]
  return (
    st.sampled_from([*edges, 1e308, 1e-320, float('inf'), float('nan')])
    | st.integers()
    | st.floats()
  )


def values(**more):
  """Draws values that JSON can hold, nested a little."""
  return st.recursive(
    st.none() | st.booleans() | numbers() | texts(max_size=3),
    lambda inner: (
      st.lists(inner, max_size=3)
      | st.dictionaries(texts(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
  )


def deep(levels):
  """Returns JSON so many levels deep."""
  return '[' * levels + ']' * levels


def broken(data):
  """Draws broken copies of a file: bytes changed, cut, inserted, doubled."""
  size = len(data)

  def apply(edits):
    content = bytearray(data)
    for kind, at, length, new in edits:
      at = at % (len(content) + 1)
      if kind == 'set':
        content[at : at + len(new)] = new
      elif kind == 'insert':
        content[at:at] = new
      elif kind == 'delete':
        del content[at : at + length]
      elif kind == 'cut':
        del content[at:]
      elif kind == 'double':
        content[at:at] = content[at : at + length]
    return bytes(content)

  edges = [
    (n % 2**bits).to_bytes(bits // 8, 'little')
    for bits in (8, 16, 32, 64)
    for n in (0, 1, 255, 2 ** (bits - 1), -1)
  ]
  edit = st.tuples(
    st.sampled_from(('set', 'set', 'set', 'insert', 'delete', 'cut', 'double')),
    st.integers(0, min(size, 400)) | st.integers(0, size),
    st.integers(1, 16),
    st.sampled_from(edges) | st.binary(min_size=1, max_size=4),
  )
  return st.lists(edit, min_size=1, max_size=3).map(apply)


@st.composite
def altered(draw, value):
  """Draws a JSON value with up to three parts replaced, dropped or added."""
  for _ in range(draw(st.integers(1, 3))):
    value = _alter(draw, value)
  return value


def _alter(draw, value):
  if isinstance(value, dict) and value and draw(st.integers(0, 9)):
    key = draw(st.sampled_from(sorted(value)))
    kind = draw(st.sampled_from(('in', 'in', 'in', 'drop', 'add')))
    if kind == 'drop':
      return {k: v for k, v in value.items() if k != key}
    if kind == 'add':
      return value | {draw(texts(max_size=2)): draw(values())}
    return value | {key: _alter(draw, value[key])}
  if isinstance(value, list) and value and draw(st.integers(0, 9)):
    at = draw(st.integers(0, len(value) - 1))
    kind = draw(st.sampled_from(('in', 'in', 'drop', 'double')))
    if kind == 'in':
      return [*value[:at], _alter(draw, value[at]), *value[at + 1 :]]
    return value[:at] + value[at:][: 2 * (kind == 'double')] + value[at + 1 :]
  return draw(values())


def record(stage, text, answer='12', parent=None, question='What is it?'):
  """Makes a record by hand, parsed by its stage's parser."""
  parsed = verdicts.parse(text) if stage == 'critique' else {}
  return Record(
    problem=Problem('p', question, answer),
    stage=stage,
    parent=parent,
    index=0,
    prompt_tokens=np.zeros(2, np.int32),
    tokens=np.zeros(3, np.int32),
    logprobs=np.zeros(3, np.float32),
    text=text,
    parsed=parsed,
  )


@contextlib.contextmanager
def refused():
  """Lets a ValueError of the house's form pass, and nothing else."""
  try:
    yield
  except ValueError as error:
    assert type(error) is ValueError, repr(error)
    assert re.search(r'got .*; expected ', str(error), re.S), repr(error)


@contextlib.contextmanager
def at_most(num_bytes):
  """Fails if Python and numpy ask for more memory than that."""
  tracemalloc.start()
  try:
    yield
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak <= num_bytes, f'{peak:,} bytes'


@contextlib.contextmanager
def folder(files):
  """Makes a folder with these files, {name: bytes}; deletes it afterwards."""
  with tempfile.TemporaryDirectory() as path:
    path = pathlib.Path(path)
    for name, content in files.items():
      (path / name).parent.mkdir(parents=True, exist_ok=True)
      (path / name).write_bytes(content)
    yield path
