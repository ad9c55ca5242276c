"""The formal language: what its checker accepts, and what it says of others."""

import random
import subprocess
import sys

import pytest

from critic_jax.tasks import formal_checker, formal_language
from critic_jax.tasks.formal_language import Statement

START = 'theorem t (a b : Nat) (h1 : a = 5)'


@pytest.mark.parametrize(
  'text',
  [
    f'{START} (h2 : b = a + 3) : b = 8',
    f'{START} : 5 = a',
    'theorem t : 1 = 2',  # false, and a statement
    'theorem t (a : Nat) (b c : Nat) : a * b + c - 1 = (a + b) * c',
    'theorem t (p : Prop) (h : p) : p',
    'theorem t (a : Nat) : (a = 1) = (1 = a)',
    'theorem my_name2\n  (a:Nat)\t(h:a=5)\n:a=5',
    f'{START} : b = 8 := by sorry\n',
    f'{START} : b = 8 := sorry',
    f'set_option autoImplicit false\n{START} : b = 8',
    'theorem t (h1 h2 : 1 = 1) : 1 = 1',
    'theorem t : ((((1)))) = 1',
    'theorem t (a : Nat) : a = 123456789',
  ],
)
def test_statements(text):
  statement, error = formal_language.read(text)
  assert statement and error == '' == formal_language.check(text)


@pytest.mark.parametrize(
  ('text', 'error'),
  [
    # Names.
    (f'{START} : c = 8', "1:37: error: unknown identifier 'c'"),
    ('theorem t (h : a = 5) (a : Nat) : a = 5', "unknown identifier 'a'"),
    ('theorem t (a a : Nat) : a = 5', "1:13: error: 'a' is declared twice"),
    (f'{START} (a : Nat) : a = 5', "'a' is declared twice"),
    (f'{START} : A = 5', "unknown identifier 'A'"),
    # Types.
    (f'{START} (h2 : b + 3) : b = 8', 'type expected, got a Nat'),
    (f'{START} (h2 : b = h1) : b = 8', 'type mismatch: a Nat = a proof'),
    (f'{START} (h2 : b = h1 + 1) : b = 8', 'type mismatch: a proof + a Nat'),
    (f'{START} (h2 : b = (a = 5)) : b = 8', 'type mismatch: a Nat = a Prop'),
    (f'{START} (h2 : h1) : b = 8', 'type expected, got a proof'),
    (f'{START} : b', 'type mismatch: got a Nat; expected a proposition'),
    (f'{START} : Nat', 'got a Type; expected a proposition'),
    (f'{START} : h1', 'got a proof; expected a proposition'),
    ('theorem t (a : Nat) : a = Nat', 'type mismatch: a Nat = a Type'),
    ('theorem t (p : Prop) : p + 1 = 2', 'type mismatch: a Prop + a Nat'),
    # Syntax.
    ('', "1:0: error: unexpected the end; expected 'theorem'"),
    ('theorem', 'unexpected the end; expected a name'),
    ('theorem t', "unexpected the end; expected ':'"),
    (f'{START} b = 8', "1:35: error: unexpected 'b'; expected ':'"),
    (f'{START} : b = 8 = 8', "unexpected '='; expected the end"),
    (f'{START} : b = 8)', "unexpected ')'; expected the end"),
    (f'{START} : b = ', 'unexpected the end; expected an expression'),
    (f'{START} : (b = 8', "unexpected the end; expected ')'"),
    ('theorem t (a Nat) : a = 5', "unexpected 'Nat'; expected a name"),
    ('theorem t (: Nat) : 1 = 1', "unexpected ':'; expected a name"),
    ('theorem theorem : 1 = 1', "unexpected 'theorem'; expected a name"),
    (f'{START} : b = -8', "unexpected '-'; expected an expression"),
    (f'{START} : b ++ 1 = 8', "unexpected '+'; expected an expression"),
    (f'{START} : b = 8 {START} : b = 8', "unexpected 'theorem'; expected the"),
    (f'{START} : b = 8 := by rfl', "unexpected 'rfl'; expected 'sorry'"),
    (f'{START} : b = sorry', "unexpected 'sorry'; expected an expression"),
    # Letters of other alphabets, numbers without end, nesting, length.
    (f'{START} : b = 8.', "unexpected character '.'"),
    (f'{START} : \u0430 = 8', "unexpected character '\u0430'"),
    (f'{START} : b = \u0668', "unexpected character '\u0668'"),
    (f'{START} : b = {"9" * 10}', "unexpected character '9'"),
    (f'{START} : {"(" * 500}', 'too many parentheses'),
    (f'theorem t : {"1 + " * 600}1 = 1', 'more than 2000 characters'),
    # Lines and columns are those of the text.
    (f'{START}\n  : c = 8', "2:4: error: unknown identifier 'c'"),
    ('set_option x true\ntheorem t : c = 8', '2:12: error: unknown identifier'),
    (f'{START} : b = 8\nset_option x true\n', "unexpected 'set_option'"),
  ],
)
def test_errors(text, error):
  statement, message = formal_language.read(text)
  assert statement is None
  assert error in message and message[0].isdigit()


def test_operators_bind_as_they_should():
  statement, _ = formal_language.read('theorem t (a : Nat) : a - 1 + 2 * 3 = 4')
  sum_ = '+', ('-', 'a', 1), ('*', 2, 3)
  assert statement == Statement(('a',), (), ('=', sum_, 4))


def expression(rng, depth):
  """Draws an expression of type Nat."""
  if depth == 0 or rng.random() < 0.3:
    return rng.choice(['a', 'b', rng.randrange(100)])
  op = rng.choice('+-*')
  return op, expression(rng, depth - 1), expression(rng, depth - 1)


def test_what_is_written_is_read():
  rng = random.Random(0)
  for _ in range(300):
    sides = [expression(rng, 3) for _ in range(4)]
    statement = Statement(
      ('a', 'b'), (('h1', ('=', *sides[:2])),), ('=', *sides[2:])
    )
    text = formal_language.write(statement)
    assert formal_language.read(text) == (statement, '')


def test_the_command(tmp_path, capsys):
  path = tmp_path / 'x.lean'
  path.write_text(f'{START} : b = 8')
  assert formal_checker.main([str(path)]) == 0
  path.write_bytes(b'theorem \xff')
  assert formal_checker.main([str(path)]) == 1
  assert capsys.readouterr().out.startswith(f'{path}:1:8: error: unexpected ch')
  assert formal_checker.main([]) == 2
  done = subprocess.run(
    [sys.executable, '-m', 'critic_jax.tasks.formal_checker', str(path)],
    check=False,
  )
  assert done.returncode == 1
