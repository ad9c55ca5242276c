import json

import pytest

from critic_jax.data import problems
from critic_jax.rewards import code, sandbox

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
  [problem] = problems.read_jsonl(path)
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


def test_all_tests_are_in_the_answer():
  tests = json.loads(parse(MBPP, 'mbpp').answer)['tests']
  assert tests == MBPP['test_list'] + MBPP['challenge_test_list']
  answer = json.loads(parse(SANITISED, 'mbpp').answer)
  assert answer['setup'] == 'import math\n'
  answer = json.loads(parse(HUMANEVAL, 'humaneval').answer)
  assert answer['tests'] == [HUMANEVAL['test'], 'check(plus)']
  assert answer['prelude'] == HUMANEVAL['prompt']
  assert answer['entry_point'] == 'plus'


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
