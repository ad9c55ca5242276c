import json
import os
import pathlib

import pytest

from critic_jax.data import code_rows, problems
from critic_jax.execution import code, sandbox

MBPP = {
  'task_id': 1,
  'text': 'Write a function to add one to each item.',
  'code': 'def plus(xs):\r\n  return [x + 1 for x in xs]\r\n',
  'test_list': ['assert plus([1, 2]) == [2, 3]', 'assert plus([]) == []'],
  'test_setup_code': '',
  'challenge_test_list': ['assert plus([-1]) == [0]'],
}
SANITISED = {
  'task_id': 2,
  'prompt': 'Write a function to find the area of a circle.',
  'code': 'import math\ndef area(r):\n  return math.pi * r ** 2',
  'test_list': ['assert math.isclose(area(2), 12.56637, rel_tol=1e-3)'],
  'test_imports': ['import math'],
}
HUMANEVAL = {
  'task_id': 'HumanEval/999',
  'prompt': (
    'from typing import List\n\n\n'
    'def helper(x: int) -> int:\n    return x + 1\n\n\n'
    'def plus(xs: List[int]) -> List[int]:\n'
    '    """Adds one to each.\n    >>> plus([1])\n    [2]\n    """\n'
  ),
  'entry_point': 'plus',
  'canonical_solution': '    return [helper(x) for x in xs]\n',
  'test': (
    '\n\nMETADATA = {}\n\n\ndef check(candidate):\n'
    '    assert candidate([1, 2]) == [2, 3]\n'
    '    assert candidate([]) == []\n'
  ),
}


def parse(row, layout):
  return problems.parse(row, layout, default_id='c-0')


@pytest.mark.parametrize(
  ('row', 'layout'),
  [(MBPP, 'mbpp'), (SANITISED, 'mbpp'), (HUMANEVAL, 'humaneval')],
)
def test_rows_are_found_and_their_solutions_pass(row, layout, tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps(row) + '\n')
  [problem] = problems.read(path)
  assert problem.id == 'rows-0'
  assert problems.detect(row) == layout
  assert code.is_reference(problem.answer)
  try:
    walls = sandbox.find_walls()
  except ValueError as error:
    pytest.skip(str(error))
  for text, grade in [
    (problem.solution, 'right'),
    ('```python\ndef plus(xs): return xs\ndef area(r): return r\n```', 'wrong'),
  ]:
    program = code.extract(text)
    verdict = code.decide(program, problem.answer, deadline_s=5.0, walls=walls)
    assert verdict == grade


def test_the_question_tells_the_call_and_no_result():
  assert parse(MBPP, 'mbpp').question == (
    'Write a function to add one to each item.\n\n'
    'It is called like this: `plus([1, 2])`'
  )
  # The outermost call of what is not python's own.
  row = SANITISED | dict(test_list=['assert set(f(g(1))) == {2}'])
  assert parse(row, 'mbpp').question.endswith('`f(g(1))`')
  row = SANITISED | dict(test_list=['assert x == 2'])
  assert parse(row, 'mbpp').question == SANITISED['prompt']


def test_a_function_may_be_named_like_python_s_own(tmp_path):
  row = MBPP | {
    'code': 'def sum(a, b):\n  return a * b\nlen = 3\nclass Pair: pass',
    'test_list': ['assert sum(3, 4) == 12', 'assert max(sum(1, 2), 1) == 2'],
    'challenge_test_list': [],
  }
  problem = parse(row, 'mbpp')
  assert json.loads(problem.answer)['entry_points'] == ['sum']
  assert problem.question.endswith('`sum(3, 4)`')
  grade = run(problem.solution, problem.answer)
  assert grade == 'right'
  wrong = '```python\ndef sum(a, b):\n  return a + b\n```'
  assert run(wrong, problem.answer) == 'wrong'
  # Python's own in a program that does not define it.
  assert run('```python\ndef f(): pass\n```', problem.answer) == 'wrong'
  # Programs that are no python of ours define nothing.
  assert parse(row | {'code': 'print 3'}, 'mbpp').answer


def run(text, answer):
  try:
    walls = sandbox.find_walls()
  except ValueError as error:
    pytest.skip(str(error))
  program = code.extract(text)
  return code.decide(program, answer, deadline_s=20.0, walls=walls)


@pytest.mark.parametrize(
  ('setup', 'test', 'values'),
  [
    ('import numpy as np', 'assert f(np.array([1])) == 1', ['np.array([1])']),
    ('import numpy as np', 'assert (g(np.ones(2)) == f(1)).all()',
     ['np.ones(2)']),
    ('from torch import tensor', 'assert f(1) == [tensor(1)]', ['tensor(1)']),
    ('class P: pass', 'assert f(x=P()) == 2', ['P()']),
    ('', 'def check(candidate):\n  import numpy as np\n'
     '  assert candidate(1) == np.float64(2)\ncheck(f)', ['np.float64(2)']),
    ('import re', 'assert f(1) == re.match("a", "a")', ["re.match('a', 'a')"]),
    ('', 'assert f(object()) == 1', ['object()']),
    # These are compared, or come from the program.
    ('from fractions import Fraction as F', 'assert f(F(1)) == F(2)', []),
    ('import datetime', 'assert f(datetime.date(1, 2, 3)) == 1', []),
    ('', 'assert f(lambda x: x, int, [len]) == (1, range(2))', []),
    ('import math', 'assert math.isclose(f(2), 3.5)', []),
    ('', 'assert depth(Node(1)) == 2', []),
    ('import numpy as np', 'assert np.allclose(f(2), 3)', []),
    ('import re', 'assert re.match("a", f(1))', []),
  ],
)  # fmt: skip
def test_values_that_no_grader_compares_are_told(setup, test, values, tmp_path):
  assert code_rows.uncomparable(code.reference([test], setup=setup)) == values
  row = MBPP | {'test_list': [test], 'test_setup_code': setup}
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps(row) + '\n')
  reports = []
  problems.read(path, report=reports.append)
  assert len(reports) == bool(values)
  for report in reports:
    assert '1 of 1 problems' in report and f"'rows-0' ({values[0]})" in report


SHARED = pathlib.Path(__file__).parents[3] / 'shared/data/mbpp_train.jsonl'


@pytest.mark.slow
def test_the_solutions_of_a_file_of_programs_pass_their_own_tests():
  """MBPP=FILE names the file, e.g. all 974 rows of MBPP's mbpp.jsonl."""
  path = pathlib.Path(os.environ.get('MBPP', SHARED))
  if not path.exists():
    pytest.skip(f'no {path}')
  grades = {
    problem.id: run(problem.solution, problem.answer)
    for problem in problems.read(path)
  }
  assert {key: g for key, g in grades.items() if g != 'right'} == {}


def test_all_tests_are_in_the_answer():
  tests = json.loads(parse(MBPP, 'mbpp').answer)['tests']
  assert tests == MBPP['test_list'] + MBPP['challenge_test_list']
  answer = json.loads(parse(SANITISED, 'mbpp').answer)
  assert answer['setup'] == 'import math\n'
  answer = json.loads(parse(HUMANEVAL, 'humaneval').answer)
  assert answer['tests'] == [HUMANEVAL['test'], 'check(plus)']
  assert answer['prelude'] == HUMANEVAL['prompt']
  assert answer['entry_points'] == ['plus']


def test_solutions_keep_their_indentation():
  assert '    return [helper' in parse(HUMANEVAL, 'humaneval').solution
  assert '\r' not in parse(MBPP, 'mbpp').solution


@pytest.mark.parametrize(
  ('row', 'layout', 'message'),
  [
    (MBPP | dict(test_list=[]), 'mbpp', 'test_list: got '),
    (MBPP | dict(test_list=['assert (']), 'mbpp', r'tests: got .assert \('),
    (MBPP | dict(test_setup_code='1 +'), 'mbpp', 'tests: got '),
    (MBPP | dict(code=3), 'mbpp', 'code: got 3'),
    (MBPP | dict(text=None), 'mbpp', 'prompt: got no such field'),
    (HUMANEVAL | dict(entry_point='a b'), 'humaneval', 'entry_point: got'),
    (HUMANEVAL | dict(test='def'), 'humaneval', 'tests: got'),
    (HUMANEVAL | dict(prompt='\ud800'), 'humaneval', 'lone surrogate'),
  ],
)
def test_bad_rows_are_refused(row, layout, message):
  with pytest.raises(ValueError, match=message):
    parse(row, layout)
