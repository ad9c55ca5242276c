"""Data sets from anybody: each row is a problem, or is named with a reason."""

import functools
import json
import math
import re

import pytest
from fuzzing import (
  altered,
  at_most,
  broken,
  deep,
  folder,
  refused,
  texts,
  values,
)
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.data import (
  preference_files,
  problems,
  row_files,
  solutions,
  sources,
  store,
)
from critic_jax.types import Comparison, Problem, Record

PROBLEMS = (
  {'question': 'What is 1 + 1?', 'answer': 'one and one\n#### 2'},
  {'problem': 'What is 2?', 'solution': '\\boxed{2}', 'level': 5},
  {'question': 'x?', 'final_answer': ['$1$', '2'], 'solution': ['s'],
   'context': 'c', 'answer_type': 'Numerical'},
  {'text': 'Add.', 'code': 'def f(a):\n  return a', 'test_list': [
    'assert f(1) == 1'], 'test_setup_code': '', 'challenge_test_list': []},
  {'prompt': 'def f(a):\n', 'entry_point': 'f', 'canonical_solution':
   '  return a\n', 'test': 'def check(f):\n  assert f(1) == 1'},
  {'question': 'x?', 'answer': 27.0, 'id': 7},
  {'question': 'x?', 'choices': ['a', 'b'], 'answer': 'B', 'context': 'c'},
  {'Question': 'x?', 'options': {'A': 'a', 'B': '2'}, 'answer': 1, 'Body': 'c'},
  {'question': 'x?', 'options': 'a ) 1 , b ) 2', 'correct': 'a'},
  {'question': 'x?', 'choices': {'text': ['a', 'b'], 'label': ['A', 'B']},
   'answerKey': 'A'},
)  # fmt: skip
SOLUTIONS = (
  {'id': 'gsm8k-0', 'generator': 'g', 'problem': 'x?', 'steps': ['a', 'b'],
   'final_answer_correct': True, 'label': -1},
  {'id': 'p-1', 'problem': 'x?', 'steps': ['a'], 'label': -1,
   'complete': True, 'answer': '1'},
  {'id': 't-g', 'problem': 'x?', 'solution': 'a\nA: 1', 'correct': False,
   'generator': 'g', 'reference': 'b\nA: 2'},
  {'id': 1, 'problem': 'x?', 'answer': '1', 'eval_solution': ['a'],
   'solution_type': 'chosen', 'solution_reference': 'g', 'problem_id': 'q'},
  {'question': 'x?', 'chosen': ['a', 'b'], 'rejected': 'c', 'answer': 4},
  {'uuid': 'u', 'question': 'x?', 'model_output_steps': ['a', 'b'],
   'ground_truth_answer': 3, 'model_output_answer_correctness': 'wrong',
   'model_output_solution_correctness': 'wrong',
   'model_output_solution_first_error_step': 2},
  {'question': {'problem': 'x?', 'ground_truth_answer': '3'}, 'label': {
    'steps': [{'completions': [{'text': 'a', 'rating': -1}],
               'human_completion': None, 'chosen_completion': 0}],
    'finish_reason': 'found_error'}},
)  # fmt: skip
PREFERENCES = (
  {'prompt': 'x?', 'chosen': 'a', 'rejected': ['b', 'c'], 'score_chosen': 3},
  {'chosen': [{'role': 'user', 'content': 'x?'},
              {'role': 'assistant', 'content': 'a'}],
   'rejected': [{'from': 'human', 'value': 'x?'},
                {'from': 'gpt', 'value': 'b'}], 'system': 's'},
  {'chosen': '\n\nHuman: x?\n\nAssistant: a',
   'rejected': '\n\nHuman: x?\n\nAssistant: b'},
  {'prompt': 'x?', 'response_a': 'a', 'response_b': 'b', 'winner': 'tie'},
  {'prompt': 'x?', 'response_1': 'a', 'response_2': 'b',
   'overall_preference': -1},
  {'prompt': 'x?', 'responses': ['a', 'b'], 'scores': [1, 2.5]},
  {'prompt': 'x?', 'answers': [{'answer': 'a', 'rank': 1},
                               {'answer': 'b', 'score': '2'}]},
  {'prompt': 'x?', 'response': 'a', 'helpfulness': 3, 'verbosity': 1.5},
  {'prompt': 'x?', 'completion': 'a', 'label': False},
)  # fmt: skip


def lines(rows):
  """Writes JSON lines, with NaN and infinity as Python writes them."""
  return b'\n'.join(json.dumps(row).encode() for row in rows)


def files(row_kinds):
  """Draws files of rows, altered and sound ones, and lines that are no rows."""
  sound = st.sampled_from(row_kinds)
  row = sound | sound.flatmap(altered)
  named = st.builds(
    lambda row, i: {**row, 'id': i} if isinstance(row, dict) else row,
    row,
    st.sampled_from(('a', 'b', '3', '/', '\0', 'x' * 300)) | values(),
  )
  line = st.one_of(
    (row | named).map(lambda r: json.dumps(r).encode()),
    st.binary(max_size=20),
    values().map(lambda v: json.dumps(v).encode()),
    st.sampled_from([
      b'', b'\xff\xfe', b'\xef\xbb\xbf{}', deep(10**5).encode(), b'NaN',
      b'9' * 5000, b'{"question": "\\ud800", "answer": "1"}', b'[{}',
      b'{"a": 1, "a": 2}',
    ]),
  )  # fmt: skip
  contents = st.lists(line, max_size=5)
  return contents.map(b'\n'.join) | contents.map(
    lambda lines: b'[' + b','.join(lines) + b']'
  )


def check_problem(problem):
  assert isinstance(problem, Problem)
  for text in (problem.id, problem.question, problem.answer, problem.solution):
    assert isinstance(text, str)
    text.encode()
  assert problem.question.strip() and problem.answer.strip()
  assert '/' not in problem.id and problem.id.isprintable()


def read_both_ways(content, read, name='d.jsonl'):
  """Reads a file strictly, if possible, and then without its bad rows."""
  with folder({name: content}) as path:
    path, messages = path / name, []
    with refused():
      strict = read(path, report=len)
    try:
      records = read(path, bad_rows='skip', report=messages.append)
    except ValueError as error:
      assert re.match(re.escape(str(path)), str(error)), error
      with pytest.raises(ValueError):
        read(path)
      return []
  # Repeated questions are reported, too.
  if any(' rows skipped; the first: ' in line for line in messages):
    assert 'strict' not in vars()
  else:
    assert len(strict) == len(records)
  return records


@given(files(PROBLEMS))
def test_any_file_of_problems(content):
  records = read_both_ways(content, problems.read)
  for problem in records:
    check_problem(problem)
  assert len({p.id for p in records}) == len(records)


CELLS = (
  b'question,answer\n', b'x?,1\n', b'y?;2\n', b'"z, or ""z""?",3\n', b'"', b',',
  b'\n', b'\r', b'a', b'7', b'\xff', b'\0', b'\t', b'\xef\xbb\xbf', b'{',
)  # fmt: skip


@given(
  st.lists(st.sampled_from(CELLS), max_size=12).map(b''.join), st.booleans()
)
def test_any_table(content, has_names):
  content = b'question,answer\n' * has_names + content
  records = read_both_ways(content, problems.read, 'd.csv')
  for problem in records:
    check_problem(problem)


@given(files(SOLUTIONS))
def test_any_file_of_solutions(content):
  records = read_both_ways(content, solutions.read)
  for record in records:
    assert isinstance(record, Record)
    assert record.problem.question.strip() and record.text.strip()
    for text in (record.id, record.text, record.problem.answer):
      text.encode()
    json.dumps(dict(record.parsed))
  # Solutions of a problem are told apart by their numbers.
  assert len({record.id for record in records}) == len(records)


@given(files(PREFERENCES))
def test_any_file_of_preferences(content):
  comparisons = read_both_ways(content, preference_files.read)
  for comparison in comparisons:
    assert isinstance(comparison, Comparison)
    assert comparison.messages[-1]['role'] == 'user' and comparison.responses
    texts = [m['content'] for m in comparison.messages]
    texts += [r.text for r in comparison.responses]
    for text in texts:
      assert text.strip()
      text.encode()
    assert len({r.text for r in comparison.responses}) == len(
      comparison.responses
    )
    for response in comparison.responses:
      assert response.scores and all(
        map(math.isfinite, response.scores.values())
      )
      json.dumps([dict(response.scores), dict(response.parsed)])
  ids = [r.id for c in comparisons for r in c.responses]
  assert len({*ids}) == len(ids)


@given(broken(lines(PROBLEMS)), broken(lines(SOLUTIONS)))
def test_broken_files(some, others):
  for problem in read_both_ways(some, problems.read):
    check_problem(problem)
  read_both_ways(others, solutions.read)


@given(texts(surrogates=False).filter(str.strip), st.integers(0, 3))
def test_texts_are_kept(text, number):
  row = {'question': text, 'answer': str(number), 'solution': text}
  with folder({'d.jsonl': lines([row])}) as path:
    (problem,) = problems.read(path / 'd.jsonl')
  assert (problem.question, problem.answer) == (text.strip(), str(number))
  assert problem.solution == text.strip()


@functools.cache
def long_line():
  return lines(
    [{'question': 'q' * (row_files.MAX_ROW - 40), 'answer': '1'}, PROBLEMS[0]]
  )


def test_a_row_of_ten_megabytes_is_a_row():
  with (
    folder({'d.jsonl': long_line()}) as path,
    at_most(10 * row_files.MAX_ROW),
  ):
    records = problems.read(path / 'd.jsonl', layout='generic', bad_rows='skip')
  assert len(records[0].question) == row_files.MAX_ROW - 40


@pytest.mark.parametrize(
  'text',
  ['q' * 10**8, '\\u0000' * 10**7, '[' * 10**7, '9' * 10**7, '{"a":' * 10**6],
)
def test_a_line_without_end_costs_no_memory(text):
  content = f'{{"question": "{text}", "answer": 1}}\n{text}\n'.encode()
  content += lines([PROBLEMS[0]])
  with folder({'d.jsonl': content}) as path, at_most(12 * row_files.MAX_ROW):
    records = problems.read(path / 'd.jsonl', bad_rows='skip', report=len)
  assert [p.answer for p in records][-1] == '2'


@given(files(PROBLEMS))
def test_prepared_sets_are_the_files(content):
  with folder({'d.jsonl': content}) as path, refused():
    expected = problems.read(path / 'd.jsonl', bad_rows='skip', report=len)
    prepared_set = store.prepare(
      path / 'd.jsonl', path / 'sets', bad_rows='skip', report=len
    )
    assert list(prepared_set) == expected
    assert [p.name for p in path.iterdir()].count('sets') == 1


@given(st.lists(texts(max_size=1), min_size=1, max_size=4))
def test_files_of_any_name_are_prepared_in_their_folder(parts):
  name = (
    re.sub('[\0/\ud800-\udfff]', '_', ''.join(parts))[:40].strip('.') or 'x'
  )
  with folder({name: lines([PROBLEMS[0]])}) as path:
    with refused():
      assert len(store.prepare(path / name, path / 'in' / 'sets')) == 1
    assert {p.name for p in path.iterdir()} <= {name, 'in'}
    paths = {'test': [str(path / name)]}
    assert sources.files(paths=paths, data_dir='')['test']
