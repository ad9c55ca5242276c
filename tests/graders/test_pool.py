import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from critic_jax.answers import final_answers
from critic_jax.execution import code_host
from critic_jax.graders import pool, pool_child

PACKAGE = pathlib.Path(pool.__file__).parents[2]


def box(answer):
  return f'so \\boxed{{{answer}}}'


def is_alive(pid):
  return pathlib.Path(f'/proc/{pid}').exists()


@pytest.fixture(scope='module')
def graders():
  """Starts one pool for the tests that need nothing special."""
  with pool.Pool(2, deadline_s=10.0, memory_bytes=2**31) as graders:
    yield graders


def pids(graders):
  return [worker.process.pid for worker in graders._workers]


def test_grades_are_those_of_answers_in_order(graders):
  items = [
    (box(r'\sqrt{8}'), r'2\sqrt{2}'),
    (box('6'), '5'),
    ('no box', '5'),
    (box(r'\sqrt{8}'), r'\sqrt{3}'),
    (box('5'), '5'),
    (box('(1,2)'), '(1,2)'),
    (box('x^2-1'), '(x-1)(x+1)'),
    (box(r'\sqrt{8}'), r'2\sqrt{2}'),
    (box('\ud800\u200b^2'), r'\pi'),  # a lone surrogate crosses the pipe
    (box(r'\pi' + '+1' * 400), r'\pi'),
    ('', r'\pi'),
  ] + [(box(f'\\sqrt{{{k * k}}}'), str(k)) for k in range(2, 12)]  # fmt: skip
  grades = graders.grade(items)
  assert grades == [final_answers.grade(*item) for item in items]
  assert grades[:4] == ['right', 'wrong', 'unparsable', 'wrong']
  assert set(grades[11:]) == {'right'}
  assert graders.grade(items[::-1]) == grades[::-1]
  assert len(graders._workers) <= 2
  assert graders.grade([]) == []


def test_plain_answers_start_no_process():
  with pool.Pool(2) as graders:
    items = [(box('1,234'), '1234'), (box('6'), '5'), ('hm', '5')]
    assert graders.grade(items) == ['right', 'wrong', 'unparsable']
    assert not graders._workers


def test_hanging_expressions_time_out():
  others = [(box(r'\sqrt{4}'), '2'), (box(r'\sqrt{9}'), '3')]
  with pool.Pool(1, deadline_s=0.5) as graders:
    assert graders.grade(others) == ['right'] * 2  # started and warm
    for expression in '9^{9^{9^{9}}}', r'\sin(10^{10^{8}})', r'\cos(9^{9^{9}})':
      before = pids(graders)
      start = time.monotonic()
      # The same twice: graded once.
      items = [(box(expression), r'\sqrt{3}')] * 2
      assert graders.grade(items) == ['timeout', 'timeout']
      # A new child imports sympy first, 4 s on a slow machine with others.
      assert 0.5 <= time.monotonic() - start < 10
      assert before != pids(graders) and not is_alive(before[0])
    # The child is replaced, and what follows is graded.
    new = [(box(r'\sqrt{16}'), '4')]
    assert graders.grade(others + new) == ['right'] * 3
    assert len(graders._cache) == 3  # no timeout


def test_starting_does_not_count_against_the_deadline():
  # Importing sympy alone takes longer than this deadline.
  with pool.Pool(1, deadline_s=0.25) as graders:
    start = time.monotonic()
    assert graders.grade([(box(r'\sqrt{4}'), '2')]) == ['right']
    assert time.monotonic() - start > 0.25


def test_memory_is_limited():
  with pool.Pool(1, deadline_s=60.0, memory_bytes=2**28) as graders:
    # The base of the factorial is an integer of 150 MB.
    items = [(box(r'(9^{9^9})!'), r'\sqrt{3}'), (box(r'\sqrt{4}'), '2')]
    assert graders.grade(items) == ['timeout', 'right']
    (pid,) = pids(graders)
    limits = pathlib.Path(f'/proc/{pid}/limits').read_text()
  assert re.search(rf'Max address space +{2**28} +{2**28} ', limits)
  assert re.search(r'Max core file size +0 +0 ', limits)


def test_answers_that_fill_the_memory_do_not_end_the_run():
  # Sympy remembers each power, 1 MB a piece, until no canary can be graded.
  form = r'\lceil \frac{{2^{{{}}}}}{{3}} \rceil'
  items = [(box(form.format(10**7 + k)), r'\sqrt{3}') for k in range(24)]
  with pool.Pool(1, deadline_s=60.0, memory_bytes=112 * 2**20) as graders:
    assert graders.grade(items) == ['wrong'] * 24
    assert graders._workers[0].num_items < 24


def test_too_little_memory_to_start_is_an_error():
  with pool.Pool(1, memory_bytes=2**24) as graders:
    with pytest.raises(RuntimeError, match='raise memory_bytes'):
      graders.grade([(box(r'\sqrt{4}'), '2')])
    assert not graders._workers


def test_cache_is_bounded_and_keyed_by_content(monkeypatch, graders):
  monkeypatch.setattr(pool, '_MAX_CACHED', 2)
  items = [(box(rf'\sqrt{{{k}}}'), r'\sqrt{7}') for k in range(4, 10)]
  expected = ['wrong', 'wrong', 'wrong', 'right', 'wrong', 'wrong']
  assert graders.grade(items) == expected
  assert len(graders._cache) == 2
  num_items = [worker.num_items for worker in graders._workers]
  # Another text with the same answer needs no child.
  text = 'another text, ' + items[-1][0]
  assert graders.grade([(text, r'\sqrt{7}')]) == ['wrong']
  assert [worker.num_items for worker in graders._workers] == num_items


def test_nothing_here_imports_jax_nor_children_the_main_module(tmp_path):
  # main.py prints once; jax would bring its library into the child's memory.
  (tmp_path / 'main.py').write_text(
    'import json, os, sys\n'
    'print("main")\n'
    'from critic_jax.answers import final_answers\n'
    'from critic_jax.graders import pool\n'
    'from critic_jax.rewards import leaks, refinement, shaping, verdicts\n'
    r'assert final_answers.equivalent(r"\sqrt{4}", "2")' + '\n'
    'assert "jax" not in sys.modules\n'
    'import jax\n'
    'graders = pool.Pool(1)\n'
    r'print(graders.grade([(r"\boxed{\sqrt{4}}", "2")]))' + '\n'
    'worker = graders._workers[0]\n'
    'maps = open(f"/proc/{worker.process.pid}/maps").read()\n'
    'print("jaxlib" in maps, "jaxlib" in open("/proc/self/maps").read())\n'
  )
  output = subprocess.run(
    [sys.executable, 'main.py'],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(PACKAGE), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=100,
    check=True,
  ).stdout
  assert output.splitlines() == ['main', "['right']", 'False True']


def test_orphan_ends_by_itself():
  # A parent that dies while its child grades cannot kill it.
  settings = dict(
    grader='critic_jax.answers.final_answers',
    memory_bytes=2**31,
    deadline_s=-2.4,
  )
  child = subprocess.Popen(
    [sys.executable, '-m', pool_child.__name__, json.dumps(settings)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  assert code_host.read(child.stdout) == 'ready'
  code_host.write(child.stdin, ('9^{9^{9^{9}}}', r'\sqrt{3}'))
  # The alarm rings after 2 * -2.4 + 5 = 0.2 s.
  assert child.wait(timeout=10) == -signal.SIGALRM
  child.stdin.close()
  child.stdout.close()


@pytest.mark.parametrize(
  'limits', [dict(num_workers=0), dict(deadline_s=0), dict(memory_bytes=-1)]
)
def test_limits_are_positive(limits):
  with pytest.raises(ValueError, match=f'{next(iter(limits))}: got'):
    pool.Pool(**{'num_workers': 1, **limits})
