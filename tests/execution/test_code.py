import collections
import datetime
import decimal
import fractions
import json
import time

import pytest

from critic_jax.execution import code, plain_data, sandbox


@pytest.fixture(scope='module')
def walls():
  try:
    return sandbox.find_walls()
  except ValueError as error:
    pytest.skip(str(error))


def decide(program, tests, walls, deadline_s=5.0, **settings):
  return code.decide(
    program,
    code.reference(tests, **settings),
    deadline_s=deadline_s,
    walls=walls,
  )


SOLUTION = '```python\ndef f(x): return x\n```\n'


@pytest.mark.parametrize(
  ('text', 'program'),
  [
    ('```python\nx = 1\n```', 'x = 1\n'),
    ('First\n```python\nx = 1\n```\nno:\n```py\nx = 2\n```\nok', 'x = 2\n'),
    ('```Python3\r\nx = 1\r\n```\r\n', 'x = 1\r\n'),
    ('  ``` python \nif x:\n\n  y\n  ```', 'if x:\n\n  y\n'),
    ('```python\nx = "\u2028\x0c"\n```', 'x = "\u2028\x0c"\n'),
    ('```python\nx = "```"\n```', 'x = "```"\n'),
    ('```\nx = 1\n```', None),
    ('```json\n1\n```', None),
    ('```pythonic\nx = 1\n```', None),
    ('so ```python x = 1```', None),
    ('x = 1', None),
    ('', None),
    ('```python\n\n```', None),
    # Indented, as in a list; longer fences; a fence in a docstring.
    (
      '1. So:\n     ```python\n     def f():\n       x\n     ```',
      'def f():\n  x\n',
    ),
    ('\t```py\n\tdef f():\n\t\tx = "\t"\n\t```', 'def f():\n    x = "\t"\n'),
    ('      ```python\nx = 1\n      ```', 'x = 1\n'),
    ('```python\nx = 1\n   ```', 'x = 1\n'),
    ('````python\nx = """\n```\n"""\n````', 'x = """\n```\n"""\n'),
    (
      '```python\ndef f():\n    """\n    ```\n    """\n```',
      'def f():\n    """\n    ```\n    """\n',
    ),
    # Example usage is no answer, but a block that defines something is.
    (f'{SOLUTION}Use:\n```python\nprint(f(1))\n```', 'def f(x): return x\n'),
    (
      f'{SOLUTION}\n```python\ny = f(1)\nassert y\n```\n```py\n>>> f(2)\n```',
      'def f(x): return x\n',
    ),
    (
      f'{SOLUTION}\n```python\ndef main():\n  f(1)\nmain()\n```',
      'def f(x): return x\n',
    ),
    (
      f'{SOLUTION}\n```python\ndef test_f():\n  assert f(1)\n```',
      'def f(x): return x\n',
    ),
    (
      f'{SOLUTION}Better:\n```python\ndef f(x): return 2\n```',
      'def f(x): return 2\n',
    ),
    (
      f'{SOLUTION}Better:\n```python\nf = lambda x: 2\n```',
      'f = lambda x: 2\n',
    ),
    (f'{SOLUTION}Better:\n```python\nclass f: pass\n```', 'class f: pass\n'),
    ('```python\nx = 1\n```\n```python\nprint(x)\n```', 'print(x)\n'),
    (f'{SOLUTION}Use:\n```python\nprint(f(', None),
    # Cut inside its last block: the first is not its answer.
    ('```python\nx = 1\n```\nBetter:\n```python\nx =', None),
    ('```python\n' + 'x' * code.MAX_PROGRAM + '\n```', None),
  ],
)
def test_the_last_closed_block_is_the_program(text, program):
  assert code.extract(text) == program


def test_extraction_is_linear():
  start = time.monotonic()
  for text in ('```python\n' * 10**5, '`' * 10**6, '```python\n```\n' * 10**5):
    assert code.extract(text) is None
  assert time.monotonic() - start < 2.0


@pytest.mark.parametrize(
  ('value'),
  [
    None, True, 0, -1, 2**63, -(10**6000), 1.5, float('inf'), 'text', '\ud800',
    [1, [2]], (1, (2,)), {1, 2}, frozenset({1}), {'a': 1, (1, 2): [3]}, {},
    b'\x00\xff', 1 + 2j, range(1, 9, 2), fractions.Fraction(1, 3),
    decimal.Decimal('1.50'), datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.timedelta(1, 2, 3),
    collections.deque([1, (2,)], maxlen=3),
    '{"object": 1}', {'object': 1}, {'int': '0x1'},
  ],
  ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_data_crosses_the_pipe(value):
  message = json.loads(json.dumps(plain_data.encode(value, None)))
  decoded = plain_data.decode(message, None)
  assert decoded == value and type(decoded) is type(value)


def test_subclasses_cross_as_what_they_extend():
  point = collections.namedtuple('point', 'x y')(1, 2)
  for value, plain in [
    (collections.Counter('aa'), {'a': 2}),
    (collections.OrderedDict(a=1), {'a': 1}),
    (point, (1, 2)),
  ]:
    decoded = plain_data.decode(plain_data.encode(value, None), None)
    assert decoded == plain and type(decoded) is type(plain)


NODES = """
class Node:
  def __init__(self, value):
    self.value, self.left = value, None
def depth(node):
  return 1 + depth(node.left) if node else 0
def squares(n):
  for i in range(n):
    yield i * i
def risky(x):
  raise KeyError(x)
def match(x):
  import re
  return re.match('a', x)
LIMIT = 10
"""


@pytest.mark.parametrize(
  'test',
  [
    'a = Node(1); a.left = Node(2); assert depth(a) == 2',
    'assert Node(7).value == 7',
    'assert list(squares(4)) == [0, 1, 4, 9]',
    'assert next(squares(4)) == 0',
    'assert [x for x in squares(3)] == [0, 1, 4]',
    'assert match("abc") and not match("b")',
    'assert match("abc")[0] == "a"',
    'assert LIMIT == 10',
    'assert max(map(LIMIT.__add__, [1, 2])) == 12',
    'try: risky(1)\nexcept KeyError: caught = True\nassert caught',
    'import math\nassert math.isclose(depth(None), 0)',
    'assert depth(node=None) == 0',
    'def check(f):\n  assert f(None) == 0\ncheck(depth)',
  ],
)
def test_tests_may_use_what_a_program_makes(test, walls):
  assert decide(NODES, [test], walls) == 'right'
  if 'assert' in test:  # and the opposite fails
    assert decide(
      NODES, [test.replace('assert ', 'assert not ', 1)], walls
    ) == ('wrong')


GIVEN = """
def sum(a, b): return a * b
def each(f, items): return [f(item) for item in items]
def kinds(items, kind): return [x for x in items if isinstance(x, kind)]
def add(f, g): return lambda x: f(x) + g(x)
def same(f): return f
def kind_of(x): return type(x)
def ordered(items, key): return sorted(items, key=key)
def guarded(f):
  try: return f()
  except ValueError: return 'caught'
def drain(items): return list(items)
def half(x):
  from fractions import Fraction
  return Fraction(x, 2)
"""


@pytest.mark.parametrize(
  'test',
  [
    'assert sum(3, 4) == 12',  # not python's own
    'assert each(lambda x: x + 1, [1, 2]) == [2, 3]',
    'assert each(str, [1, 2]) == ["1", "2"]',
    'assert each(str.upper, ["a"]) == ["A"]',
    'assert each(len, ["ab", []]) == [2, 0]',
    'import math\nassert each(math.sqrt, [4]) == [2]',
    'def inner(x):\n  return sum(x, 2)\nassert each(inner, [1, 5]) == [2, 10]',
    'assert each(lambda x: each(lambda y: x * y, [1, x]), [3]) == [[3, 9]]',
    'assert add(lambda x: x, lambda x: x * x)(3) == 12',
    'assert each(lambda x: sum(*x), [(2, 3)]) == [6]',
    'f = lambda x: x\nassert same(f) is f',
    'assert kinds([1, "a", 2.0], int) == [1]',
    'assert kinds([1, "a", 2.0], (int, float)) == [1, 2.0]',
    'assert kind_of(3) is int and kind_of([]) == list',
    'assert ordered([(1, 3), (2, 1)], key=lambda x: x[1]) == [(2, 1), (1, 3)]',
    'def fail(): raise ValueError\nassert guarded(fail) == "caught"',
    'assert drain(iter([1, 2])) == [1, 2]',
    'assert drain(x * x for x in range(3)) == [0, 1, 4]',
    'assert drain(range(3)) == [0, 1, 2]',
    'from fractions import Fraction\nassert half(3) == Fraction(3, 2)',
    'from fractions import Fraction as F\nassert half(F(1)) == F(1, 2)',
  ],
)
def test_functions_and_types_are_given_to_programs(test, walls):
  named = dict(entry_points=['sum'])
  assert decide(GIVEN, [test], walls, **named) == 'right'
  wrong = test.replace('assert ', 'assert not ', 1)
  assert decide(GIVEN, [wrong], walls, **named) == 'wrong'


@pytest.mark.parametrize(
  'program',
  [
    # Python's own may be called, and are not replaced in the tests.
    'def f(g): return exec',
    'def f(g): return eval',
    'import builtins\nbuiltins.all = builtins.int = lambda *x: True\n'
    'def all(x): return True\ndef f(g): return 1',
    'def f(g): return g(g)',
    'def f(g):\n  while True: g(1)',
    'def f(g): raise SystemExit',
    # Messages that no program sends.
    'import os\ndef f(g): os.write(1, b"x")',
    'def f(g):\n  g.number = 99\n  return g(1)',
    'def f(g):\n  g.number = "x"\n  return g',
    'def f(g): return g(*range(10**5))',
  ],
)
def test_what_programs_do_with_functions_is_no_harm(program, walls):
  test = 'assert all([f(lambda x: x + 1) == 2, f(int) == 2])'
  assert decide(program, [test], walls, deadline_s=0.4) in ('wrong', 'timeout')


@pytest.mark.parametrize(
  'test',
  [
    'assert missing(1)',
    'assert Node(1) == Node(1)',
    'assert squares(3) == [0, 1, 4]',  # a generator is no list
    'assert Node(1).right is None',
    'risky(1)',
    'assert depth(object()) == 0',  # cannot be given to the program
  ],
)
def test_tests_that_fail(test, walls):
  assert decide(NODES, [test], walls) == 'wrong'


def test_every_test_counts(walls):
  tests = ['assert f(1) == 1', 'assert f(2) == 4', 'assert f(3) == 9']
  assert decide('def f(x): return x * x', tests, walls) == 'right'
  assert decide('def f(x): return 3 * x - 2', tests, walls) == 'wrong'


def test_a_prelude_is_for_both_and_the_tests_keep_theirs(walls):
  prelude = (
    'import math\n'
    'def helper(x):\n  return x + 1\n'
    'def f(x):\n  """What to write."""\n'
  )
  test = 'def check(g):\n  assert g(4) == 2 and helper(1) == 2\n'
  tests = [test, 'check(f)']
  named = dict(prelude=prelude, entry_points=['f'])
  honest = 'def f(x): return int(math.sqrt(x))'
  assert decide(honest, tests, walls, **named) == 'right'
  # The stub of the prelude is no answer, and its helpers can not be replaced.
  assert decide('x = 1', tests, walls, **named) == 'wrong'
  cheat = honest + '\nhelper = None'
  assert decide(cheat, tests, walls, **named) == 'right'
  cheat = 'def f(x): return 3\ndef helper(x): return 2\nmath = None'
  assert decide(cheat, tests, walls, **named) == 'wrong'
  assert decide('del f', tests, walls, **named) == 'wrong'


def test_setup_is_seen_by_the_tests_alone(walls):
  setup = 'secret = 42'
  program = 'def f(): return globals().get("secret")'
  assert decide(program, ['assert f() is None'], walls, setup=setup) == 'right'


def test_programs_are_as_equal_as_can_be(walls):
  # Hashes and the default random stream are the same in each process.
  program = 'import random\ndef f(): return [hash("a"), random.random()]'
  seed = 'import random\nrandom.seed(0)\nassert f()[1] == random.random()'
  assert decide(program, [seed], walls) == 'right'
  same = 'assert f()[0] == hash("a")'  # of the tests' process
  assert decide(program, [same], walls) == 'right'


def test_the_deadline_is_for_all_tests_together(walls):
  program = 'import time\ndef f(): time.sleep(0.2)'
  assert decide(program, ['f()'], walls, deadline_s=0.2) == 'right'
  assert decide(program, ['f()'] * 5, walls, deadline_s=0.2) == 'timeout'


def test_a_program_is_wrong_that_computes_too_long_and_a_late_one_is_not(walls):
  """On a busy machine a program waits; that is as if it slept."""
  loop = 'def f():\n  while True: pass'
  assert decide(loop, ['f()'], walls, deadline_s=1.0) == 'wrong'
  late = 'import time\ndef f(): time.sleep(0.3)'
  assert decide(late, ['f()'], walls, deadline_s=0.2) == 'right'
  # Tests that loop are nobody's fault.
  tests = ['f()\nwhile True: pass']
  assert decide('def f(): pass', tests, walls, deadline_s=0.2) == 'timeout'


@pytest.mark.parametrize(
  ('tests', 'settings', 'message'),
  [
    ([], {}, 'tests: got none'),
    (['assert ('], {}, r"tests: got 'assert \('; expected python"),
    (['x = "\x00"'], {}, 'expected python'),
    (['assert True'], dict(setup='1 +'), r"got '1 \+'"),
    (['assert True'], dict(prelude='def'), "got 'def'"),
    (['(' * 1000], {}, 'expected python'),
  ],
)
def test_references_are_python(tests, settings, message):
  with pytest.raises(ValueError, match=message):
    code.reference(tests, **settings)


def test_canaries_are_graded_as_known(walls):
  for text, reference, expected in code.CANARIES:
    program = code.extract(text)
    verdicts = (
      code.decide(program, reference, deadline_s=5.0, walls=walls)
      if program
      else 'unparsable'
    )
    assert verdicts == expected


def test_single_tests_are_graded_alone(walls):
  """A program that fails in one test passes the others."""
  whole = code.reference(
    ['assert f(1) == bound', 'assert f(2) == 2', 'assert f(3) == 4'],
    setup='bound = 1', entry_points=['f'],
  )  # fmt: skip
  tests = code.single_tests(whole)
  assert [json.loads(test)['tests'] for test in tests] == [
    ['assert f(1) == bound'], ['assert f(2) == 2'], ['assert f(3) == 4']
  ]  # fmt: skip
  assert all(code.is_reference(test) for test in tests)
  program = 'def f(x):\n  assert x != 2\n  return x'
  for reference, grade in ((whole, 'wrong'), *zip(tests, (
    'right', 'wrong', 'wrong'
  ), strict=True)):  # fmt: skip
    assert code.decide(program, reference, deadline_s=30, walls=walls) == grade
  with pytest.raises(ValueError, match="answer: got '14'; expected unit tests"):
    code.single_tests('14')
