import json
import time

import pytest

from critic_jax.rewards import code, code_host, sandbox


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
    b'\x00\xff', 1 + 2j, '{"object": 1}', {'object': 1}, {'int': '0x1'},
  ],
  ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_data_crosses_the_pipe(value):
  message = json.loads(json.dumps(code_host.encode(value, None)))
  decoded = code_host.decode(message, None)
  assert decoded == value and type(decoded) is type(value)


def test_subclasses_cross_as_what_they_extend():
  import collections

  point = collections.namedtuple('point', 'x y')(1, 2)
  for value, plain in [
    (collections.Counter('aa'), {'a': 2}),
    (collections.OrderedDict(a=1), {'a': 1}),
    (point, (1, 2)),
  ]:
    decoded = code_host.decode(code_host.encode(value, None), None)
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
  named = dict(prelude=prelude, entry_point='f')
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
  assert decide(program, ['f()'], walls, deadline_s=0.5) == 'right'
  assert decide(program, ['f()'] * 5, walls, deadline_s=0.5) == 'timeout'


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
