import json
import pathlib

import pytest

from critic_jax.answers import final_answers
from critic_jax.data import problems, row_files, splits
from critic_jax.types import Problem

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data/gsm8k_train.jsonl'

GSM8K = {
  'question': 'Ann has 2 boxes of 600 pens and sells none. How many pens?',
  'answer': 'She has 2*600 = <<2*600=1200>>1200 pens.\n#### 1,200',
}
MATH = {
  'problem': 'What is half of $1$?',
  'solution': r'Not $\boxed{2}$ but $\boxed{\frac{1}{2}}$.',
}
GENERIC = {'question': 'What is 3 + 4?', 'answer': '7'}


def write(path, *rows):
  """Writes rows, which are objects, or lines as bytes."""
  lines = [
    row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows
  ]
  path.write_bytes(b'\n'.join(lines) + b'\n')
  return path


def write_array(path, *rows):
  path.write_text('\ufeff' + json.dumps(rows, indent=2), encoding='utf-8')
  return path


@pytest.fixture
def file(tmp_path):
  return tmp_path / 'set.jsonl'


def test_gsm8k(file):
  assert problems.read(write(file, GSM8K)) == [
    Problem(
      id='set-0',
      question='Ann has 2 boxes of 600 pens and sells none. How many pens?',
      answer='1200',
      solution='She has 2*600 = 1200 pens.\nThe answer is \\boxed{1200}.',
    )
  ]


def test_math_answer_is_the_last_box_with_its_braces(file):
  (problem,) = problems.read(write(file, MATH))
  assert problem.answer == r'\frac{1}{2}'
  assert problem.solution == MATH['solution']


def test_math_answer_may_be_given(file):
  (problem,) = problems.read(write(file, MATH | {'answer': '0.5'}))
  assert problem.answer == '0.5'


@pytest.mark.parametrize('field', ['question', 'problem'])
@pytest.mark.parametrize(
  'answer, expected', [('7', '7'), (7, '7'), (2.5, '2.5'), (' x ', 'x')]
)
def test_generic(file, field, answer, expected):
  row = {field: ' What? ', 'answer': answer, 'id': 'a 1', 'level': [3]}
  (problem,) = problems.read(write(file, row))
  assert problem == Problem('a 1', 'What?', expected, '')
  row['solution'] = 'So it is.'
  (problem,) = problems.read(write(file, row))
  assert problem.solution == 'So it is.'


# A row of each benchmark in the fields that it is published with, and the
# problem that it holds; the contents are made up.
PUBLISHED = {
  'GSM8K': (GSM8K, 'gsm8k', '1200'),
  'MATH': (MATH | {'level': 'Level 1'}, 'math', r'\frac{1}{2}'),
  'MATH-500': (
    {
      'problem': 'What is half of $1$?',
      'solution': r'It is $\boxed{\frac{1}{2}}$.',
      'answer': '\\frac{1}\n{2}',  # boxes of MATH have line breaks
      'subject': 'Algebra',
      'level': 1,
      'unique_id': 'test/algebra/1.json',
    },
    'math',
    r'\frac{1} {2}',
  ),
  'AIME 2024': (
    {
      'ID': '2024-II-4',
      'Problem': 'How many?',
      'Solution': 'There are 33 of them.',
      'Answer': 33,
    },
    'math',
    '33',
  ),
  'AIME 1983-2024': (
    {'ID': '1983-1', 'Year': 1983, 'Problem Number': 1, 'Question': 'What?',
     'Answer': '060', 'Part': None},
    'generic',
    '060',
  ),
  'AIME 2025': ({'problem': 'Sum of $b$?', 'answer': '70'}, 'generic', '70'),
  'AMC, a number': (
    {'id': 0, 'problem': 'What?', 'answer': 142.0, 'url': 'https://a.b/c'},
    'generic',
    '142',
  ),
  'beyond floats': (
    {'question': 'So?', 'answer': 10**400},
    'generic',
    '1' + '0' * 400,
  ),
  'AMC, a text': ({'question': 'So?', 'answer': '27'}, 'generic', '27'),
  'Minerva': (
    {'problem': 'How bright?', 'solution': r'So $\boxed{1.6e-3}$ W.',
     'type': 'Astronomy', 'idx': 3},
    'math',
    '1.6e-3',
  ),
}  # fmt: skip
OLYMPIAD = {
  'id': 2231,
  'subfield': 'Algebra',
  'context': None,
  'question': 'Find all $x$ with $x^2 = 1$.',
  'solution': ['They are 1 and -1.', 'Or: by symmetry.'],
  'final_answer': ['$-1$', '1'],
  'is_multiple_answer': True,
  'unit': None,
  'answer_type': 'Numerical',
  'error': None,
}


@pytest.mark.parametrize('is_array', [False, True])
@pytest.mark.parametrize('benchmark', PUBLISHED)
def test_published_layouts(file, benchmark, is_array):
  row, layout, answer = PUBLISHED[benchmark]
  assert problems.detect(row) == layout
  file = write_array(file, row) if is_array else write(file, row)
  (problem,) = problems.read(file)
  assert problem.answer == answer
  by_name = {name.lower(): value for name, value in row.items()}
  assert problem.question == by_name.get('question', by_name.get('problem'))
  assert problem.id == str(by_name.get('id', 'set-0'))
  if layout == 'math':
    assert problem.solution == by_name['solution']


def test_olympiadbench(file):
  (problem,) = problems.read(write_array(file, OLYMPIAD))
  assert problem == Problem(
    id='2231',
    question='Find all $x$ with $x^2 = 1$.',
    answer='-1, 1',
    solution='They are 1 and -1.',
  )
  assert final_answers.equivalent('1, -1', problem.answer)
  assert not final_answers.equivalent('1', problem.answer)


@pytest.mark.parametrize(
  ('change', 'question', 'answer'),
  [
    ({'context': 'Let $x$ be real.'}, 'Let $x$ be real.\nFind all', '-1, 1'),
    ({'final_answer': ['$1$, $-1$']}, 'Find all', '$1$, $-1$'),
    ({'final_answer': [r'$\frac{1}{2}$']}, 'Find all', r'\frac{1}{2}'),
    ({'unit': 'cm', 'solution': None}, 'Find all', '-1, 1'),
    ({'error': '1e-2'}, 'Find all', '-1, 1 (within 1e-2)'),
    ({'error': '0.1, 0.1'}, 'Find all', '-1, 1 (within 0.1)'),
    ({'error': 0.5}, 'Find all', '-1, 1 (within 0.5)'),
  ],
)
def test_olympiadbench_variants(file, change, question, answer):
  (problem,) = problems.read(write(file, OLYMPIAD | change))
  assert problem.question.startswith(question)
  assert problem.answer == answer


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'error': 'small'}, "error: got the tolerance 'small'; expected one nu"),
    ({'error': '0'}, "error: got the tolerance '0'; expected one number"),
    ({'error': '1e-2,1e-3'}, "error: got the tolerance '1e-2,1e-3'; expected"),
    ({'error': [0.1]}, 'error: got the tolerance .*; expected one number'),
    ({'answer_type': 'Need_human_evaluate'}, 'answer_type: got .*; expected'),
    ({'question': 'See <image_1>.'}, "question: got '<image_1>'; expected"),
    ({'context': 'See <img_33>.'}, "question: got '<img_33>'; expected text"),
    ({'final_answer': None}, 'final_answer: got None; expected a list'),
    ({'final_answer': []}, r'final_answer: got \[\]; expected a list'),
    ({'final_answer': ['1', 2]}, r'final_answer\[1\]: got 2; expected a text'),
    (
      {'final_answer': ['x' * 999] * 2},
      'final_answer: got .*; expected a fina',
    ),
    ({'solution': 'It is 1.'}, 'solution: got .*; expected a list'),
  ],
)
def test_olympiadbench_refuses_what_no_rule_grades(file, change, reason):
  write(file, OLYMPIAD, OLYMPIAD | {'id': 2} | change)
  with pytest.raises(ValueError, match=rf'set\.jsonl:2: {reason}'):
    problems.read(file)


def test_exact_names_of_fields_go_before_capitals(file):
  row = {'Question': 'Not this?', 'question': 'This?', 'ANSWER': 1}
  (problem,) = problems.read(write(file, row))
  assert (problem.question, problem.answer) == ('This?', '1')


def test_an_empty_solution_is_none(file):
  (problem,) = problems.read(write(file, GENERIC | {'solution': ''}))
  assert problem.solution == ''


def test_ids_are_of_the_row_or_its_line(file):
  rows = [GENERIC, GENERIC | {'id': 'mine'}, b'', GENERIC | {'id': 5}, GENERIC]
  read = problems.read(write(file, *rows))
  assert [p.id for p in read] == ['set-0', 'mine', '5', 'set-4']


def test_a_byte_order_mark_and_windows_line_ends(file):
  text = '\r\n'.join([json.dumps(GENERIC)] * 2)
  file.write_bytes(b'\xef\xbb\xbf' + text.encode())
  assert len(problems.read(file)) == 2


# Rows whose question is in several fields: the question, the answer.
LETTER = 'Answer with the letter of the right option.'
CITIES = f'Which?\nA. Paris\nB. New York\nC. Rome\n{LETTER}'
PARTS = {
  'SVAMP': (
    {'ID': 'chal-1', 'Body': 'Ann has 8 pens. She sells 3.', 'Question':
     'How many are left?', 'Equation': '( 8.0 - 3.0 )', 'Answer': 5.0},
    'Ann has 8 pens. She sells 3.\nHow many are left?', '5'),
  'DROP': ({'passage': 'A text.', 'question': 'Why?', 'answer': '3'},
           'A text.\nWhy?', '3'),
  'context of GSM8K': (GSM8K | {'context': 'A text.'},
                       'A text.\n' + GSM8K['question'], '1200'),
  'context of MATH': (MATH | {'context': 'A text.'},
                      'A text.\n' + MATH['problem'], r'\frac{1}{2}'),
  'no context': (GENERIC | {'context': None, 'options': [], 'passage': ''},
                 GENERIC['question'], '7'),
  'a letter': ({'question': 'Which?', 'choices': ['Paris', 'New York', 'Rome'],
                'answer': 'B'}, CITIES, 'B'),
  'a letter in brackets': (
    {'question': 'Which?', 'options': ['Paris', 'New York', 'Rome'],
     'answer': '(b)'}, CITIES, 'B'),
  'a text': ({'question': 'Which?', 'choices': ['Paris', 'New York', 'Rome'],
              'answer': 'New York'}, CITIES, 'B'),
  'MMLU': ({'question': 'Which?', 'choices': ['Paris', 'New York', 'Rome'],
            'answer': 1, 'subject': 's'}, CITIES, 'B'),
  'ARC': (
    {'id': 'M1', 'question': 'Which?', 'choices': {
      'text': ['Paris', 'New York', 'Rome'], 'label': ['A', 'B', 'C']},
     'answerKey': 'B'}, CITIES, 'B'),
  'ARC with digits': (
    {'question': 'Which?', 'choices': {
      'text': ['Paris', 'New York', 'Rome'], 'label': ['1', '2', '3']},
     'answerKey': '2'}, CITIES, 'B'),
  'labels and texts': (
    {'question': 'Which?', 'choices': [
      {'label': 'A', 'text': 'Paris'}, {'label': 'B', 'text': 'New York'},
      {'label': 'C', 'text': 'Rome'}], 'answerKey': 'B'}, CITIES, 'B'),
  'by letter': ({'question': 'Which?', 'options': {
    'A': 'Paris', 'B': 'New York', 'C': 'Rome'}, 'answer': 'B'}, CITIES, 'B'),
  'AQuA': (
    {'question': 'How many?', 'options': ['A)21', 'B)21.5', 'C)22'],
     'rationale': 'So C.', 'correct': 'C'},
    f'How many?\nA. 21\nB. 21.5\nC. 22\n{LETTER}', 'C'),
  'MathQA': (
    {'Problem': 'How many?', 'options': 'a ) 38 , b ) 1,200 , c ) none',
     'Rationale': 'So.', 'correct': 'b'},
    f'How many?\nA. 38\nB. 1,200\nC. none\n{LETTER}', 'B'),
  'a number among numbers': (
    {'question': 'How many?', 'choices': [3, 4, 5.5], 'answer': '4'},
    f'How many?\nA. 3\nB. 4\nC. 5.5\n{LETTER}', 'B'),
  'GSM8K with options': (
    {'question': 'How many?', 'options': ['7', '8'], 'answer': 'So.\n#### 8'},
    f'How many?\nA. 7\nB. 8\n{LETTER}', 'B'),
  'MATH with options': (
    MATH | {'options': ['$1$', '$0.5$'], 'answer': 'B'},
    f'What is half of $1$?\nA. $1$\nB. $0.5$\n{LETTER}', 'B'),
}  # fmt: skip


@pytest.mark.parametrize('name', PARTS)
def test_the_question_has_all_its_parts(file, name):
  row, question, answer = PARTS[name]
  (problem,) = problems.read(write(file, row), report=lambda _: None)
  assert (problem.question, problem.answer) == (question, answer)
  # The question alone is another one, so that nothing of it was dropped.
  if name != 'no context':
    assert len(question) > len(row.get('question', row.get('Question', '')))


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({'choices': ['a', 'b'], 'answer': 'C'}, "answer: got 'C'; expected one"),
    ({'choices': ['a', 'b'], 'answer': 7}, "answer: got '7'; expected one of"),
    # A text of digits counts from 0, or from 1.
    (
      {'choices': ['a', 'b'], 'answer': '1'},
      "answer: got '1'; expected one of",
    ),
    ({'choices': ['a', 'a'], 'answer': 'x'}, 'answer: got .*; expected one of'),
    ({'choices': ['a', 'b'], 'answer': None}, 'answer: got nothing; expected'),
    ({'choices': ['a'], 'answer': 'A'}, 'choices: got .*; expected 2 to 26'),
    ({'choices': ['a', ['b']], 'answer': 'A'}, 'choices: got .*; expected 2'),
    ({'options': 7, 'answer': 'A'}, 'options: got .*; expected 2 to 26 texts'),
    ({'options': {'X': 'a', 'Y': 'b'}, 'answer': 'A'}, 'options: got the labe'),
    ({'context': ['a', ['b']]}, 'context: got .*; expected a text'),
    ({'passage': 3}, 'passage: got 3; expected a text'),
  ],
)
def test_parts_that_cannot_be_read_are_refused(file, change, reason):
  write(file, GENERIC, GENERIC | {'id': 2} | change)
  with pytest.raises(ValueError, match=rf'set\.jsonl:2: {reason}'):
    problems.read(file, layout='generic')


LONG = 'Mind that all of the pens are red, and that one of them is lost.'


@pytest.mark.parametrize('value', [LONG, ['a', LONG], {'x': LONG}])
@pytest.mark.parametrize('row', [GSM8K, MATH, GENERIC, OLYMPIAD])
def test_fields_with_long_texts_are_not_dropped_in_silence(file, row, value):
  reports = []
  rows = [row | {'id': i, 'Hint': value} for i in range(2)]
  problems.read(write(file, *rows), report=reports.append)
  report = next(r for r in reports if 'not read' in r)
  assert f'{file}: long texts or options of 2 rows' in report
  assert "'Hint' (2 rows)" in report
  # Short texts, numbers and fields that are read are not named.
  known = row | {'level': 'Level 5', 'url': 'http://a.b/' + 'c' * 80, 'n': 3}
  reports.clear()
  problems.read(write(file, known), report=reports.append)
  assert not any('not read' in report for report in reports)


@pytest.mark.parametrize(
  'fields',
  [
    {'opa': 'red', 'opb': 'blue', 'opc': 'green', 'cop': 1},
    {'A': 'red', 'B': 'blue'},
    {'distractor1': 'red', 'distractor2': 'blue'},
    {'option1': 'red', 'option2': 'blue'},
    {'endings': ['red', 'blue']},
    {'mc1_targets': {'choices': ['red', 'blue'], 'labels': [1, 0]}},
  ],
)
def test_options_under_other_names_are_not_dropped_in_silence(file, fields):
  reports = []
  problems.read(write(file, GENERIC | fields), report=reports.append)
  report = next(r for r in reports if 'not read' in r)
  assert all(repr(name) in report for name in fields if name != 'cop')
  reports.clear()
  write(file, GENERIC | {'A': 'red', 'level': 3})
  problems.read(file, report=reports.append)
  assert not any('not read' in report for report in reports)


@pytest.mark.parametrize(
  ('answer', 'expected'),
  [
    ('(1,2)', '(1,2)'),
    ('3, 4', '3, 4'),
    ('3,4', '3,4'),
    ('1,200, 1,300', '1,200, 1,300'),
    ('(1,200)', '(1,200)'),
    ('1,200', '1200'),
    ('$1,234,567.50', '$1234567.50'),
    ('-1,200 pens', '-1200 pens'),
    ('12,34', '12,34'),
  ],
)
def test_commas_of_gsm8k(file, answer, expected):
  row = GSM8K | {'answer': f'So.\n#### {answer}'}
  (problem,) = problems.read(write(file, row))
  assert problem.answer == expected
  assert problem.solution.endswith(f'\\boxed{{{expected}}}.')


BAD = {
  'broken JSON': b'{"question": "What?", "ans',
  'infinitely deep': b'[' * 200_000,
  'a huge integer': b'{"question": "q", "answer": ' + b'9' * 5000 + b'}',
  'not an object': b'["question", "answer"]',
  'invalid UTF-8': b'{"question": "\xff\xfe", "answer": "1"}',
  'lone surrogate': b'{"question": "\\ud800", "answer": "1"}',
  'no question': {'answer': '1'},
  'empty question': {'question': ' ', 'answer': '1'},
  'question of a wrong type': {'question': ['What?'], 'answer': '1'},
  'no answer': {'question': 'What?'},
  'empty answer': {'question': 'What?', 'answer': ''},
  'null answer': {'question': 'What?', 'answer': None},
  'truth as an answer': {'question': 'What?', 'answer': True},
  'not a number': b'{"question": "What?", "answer": NaN}',
  'infinite answer': b'{"question": "What?", "answer": 1e999}',
  'a worked answer': {'question': 'What?', 'answer': 'It is\n7'},
  'an endless answer': {'question': 'What?', 'answer': '7' * 2000},
  'solution of a wrong type': GENERIC | {'solution': 3},
  'an id with a slash': GENERIC | {'id': 'a/b'},
  'an id with a control character': GENERIC | {'id': 'a\nb'},
  'an endless id': GENERIC | {'id': 'a' * 300},
  'an id of a wrong type': GENERIC | {'id': ['a']},
  'an id of 400 digits': GENERIC | {'id': 10**400},
  'the id of an earlier row': GENERIC | {'id': 'set-0'},
}


@pytest.mark.parametrize('row', BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_an_error_or_skipped(file, row):
  other = GENERIC | {'question': 'What is 4 + 3?'}
  write(file, GENERIC, row, other)
  with pytest.raises(ValueError, match=r'set\.jsonl:2: .*: got .*; expected '):
    problems.read(file)
  reports = []
  read = problems.read(file, bad_rows='skip', report=reports.append)
  assert [p.id for p in read] == ['set-0', 'set-2']
  (text,) = reports
  assert '1 of 3 rows skipped' in text
  assert 'set.jsonl:2' in text
  assert len(text) < 1000


@pytest.mark.parametrize(
  'row',
  [
    GSM8K | {'answer': 'It is 5.'},
    GSM8K | {'answer': 'It is 5.\n####'},
    GSM8K | {'answer': 'It is 5.\n#### ,'},
  ],
)
def test_gsm8k_without_a_final_answer(file, row):
  with pytest.raises(ValueError, match=':2: answer: got .*; expected'):
    problems.read(write(file, GSM8K, row))


@pytest.mark.parametrize('solution', ['It is 5.', r'\boxed{}', r'\boxed{5'])
def test_math_without_a_final_answer(file, solution):
  row = MATH | {'solution': solution}
  with pytest.raises(ValueError, match=':2: solution: got .*; expected'):
    problems.read(write(file, MATH, row))


def test_a_row_too_long_costs_no_memory_and_no_neighbour(file, monkeypatch):
  monkeypatch.setattr(row_files, 'MAX_ROW', 100)
  for length in (90, 99, 100, 101, 102, 103, 205, 400):
    row = b'{"question": "What?", "answer": "1"}'.ljust(length)
    write(file, GENERIC, row, GENERIC)
    read = problems.read(file, bad_rows='skip', report=lambda _: None)
    expected = (
      ['set-0', 'set-1', 'set-2'] if length <= 100 else ['set-0', 'set-2']
    )
    assert [p.id for p in read] == expected, length


def test_bad_rows_of_an_array_are_named_by_their_index(file):
  write_array(file, GENERIC, ['no object'], {'answer': '1'}, GENERIC)
  with pytest.raises(ValueError, match=r'set\.jsonl\[1\]: row: got .*; expec'):
    problems.read(file)
  reports = []
  read = problems.read(file, bad_rows='skip', report=reports.append)
  assert [p.id for p in read] == ['set-0', 'set-3']
  assert '2 of 4 rows skipped' in reports[0]


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (b'[{"question": "What?", "answer": 1},', 'broken JSON'),
    (b'[{"question": "What?", "answer": 1}] {}', 'broken JSON'),
    (b'[{"question": "\xff", "answer": 1}]', 'invalid UTF-8'),
    (b'[{"a":' * 100_000, 'broken JSON'),
    (b'[]', 'no good row'),
  ],
)
@pytest.mark.parametrize('bad_rows', ['error', 'skip'])
def test_a_broken_array_is_one_error(file, content, reason, bad_rows):
  file.write_bytes(content)
  with pytest.raises(ValueError, match=rf'set\.jsonl: .*got {reason}'):
    problems.read(file, bad_rows=bad_rows)


def test_an_array_is_read_up_to_a_size(file, monkeypatch):
  write_array(file, GENERIC)
  size = len(file.read_bytes())
  monkeypatch.setattr(row_files, 'MAX_ARRAY', size)
  assert len(problems.read(file)) == 1
  monkeypatch.setattr(row_files, 'MAX_ARRAY', size - 1)
  with pytest.raises(ValueError, match='got an array of more than .* a line'):
    problems.read(file)


def test_a_line_that_is_an_array_is_a_bad_line(file):
  write(file, b'["question", "answer"]', GENERIC)
  read = problems.read(file, bad_rows='skip', report=lambda _: None)
  assert [p.id for p in read] == ['set-1']


def test_repeated_questions_are_kept_and_told_with_their_ids(file):
  rows = [
    {'question': 'What is 1 + 1?', 'answer': '2', 'id': 'a'},
    {'question': 'What is 2?', 'answer': '2'},
    {'question': ' what  is 1 + 1 ?', 'answer': '2', 'id': 'b'},
    {'question': 'What is 2?', 'answer': '3'},
  ]
  reports = []
  read = problems.read(write(file, *rows), report=reports.append)
  assert [p.id for p in read] == ['a', 'set-1', 'b', 'set-3']
  assert splits.repeats(read) == {'b': 'a', 'set-3': 'set-1'}
  (report,) = reports
  assert report.endswith(
    '2 of 4 rows ask what an earlier one asks, 1 of them with another answer: '
    "'b' as 'a', 'set-3' as 'set-1'"
  )
  # The same id again is an error, that names it and its place.
  rows[2]['id'] = 'a'
  with pytest.raises(ValueError, match=":3: id: got 'a' again; expected a new"):
    problems.read(write(file, *rows))
  repeated_rows = [{'question': 'x?', 'answer': '1'}] * 9
  problems.read(write(file, *repeated_rows), report=reports.append)
  assert '8 of 9 rows' in reports[-1] and reports[-1].endswith(', ...')


def test_nothing_is_reported_about_good_rows(file):
  reports = []
  problems.read(write(file, GENERIC), bad_rows='skip', report=reports.append)
  assert not reports


def test_solutions_that_are_not_graded_right_are_told(file):
  rows = [
    MATH | {'id': 'right', 'answer': '0.5'},
    MATH | {'id': 'wrong', 'problem': 'b', 'answer': '2'},
    MATH | {'id': 'unmarked', 'problem': 'c', 'answer': '2', 'solution': 'So.'},
    MATH | {'id': 'equal', 'problem': 'd', 'answer': r'\sqrt{1/4}'},
  ]
  reports = []
  problems.read(write(file, *rows), report=reports.append)
  (report,) = reports
  assert report == (
    f'{file}: 2 of 4 reference solutions are not graded right by their own '
    "answer: 'wrong' ('\\\\frac{1}{2}', not '2'), 'unmarked' (no marked answer)"
  )


def test_the_first_good_row_decides_the_layout(file):
  rows = [b'no json', GSM8K, GENERIC, GSM8K]
  read = problems.read(
    write(file, *rows), bad_rows='skip', report=lambda _: None
  )
  assert [p.id for p in read] == ['set-1', 'set-3']


@pytest.mark.parametrize(
  'row, layout', [(GSM8K, 'gsm8k'), (MATH, 'math'), (GENERIC, 'generic')]
)
def test_detect(row, layout):
  assert problems.detect(row) == layout


def test_a_worked_answer_without_its_mark_is_not_generic():
  row = GSM8K | {'answer': 'She has 2.\nThen 4.'}
  with pytest.raises(
    ValueError, match='not gsm8k .*, not math .*, not generic'
  ):
    problems.detect(row)


def test_a_layout_by_name_is_obeyed(file):
  write(file, GENERIC)
  with pytest.raises(ValueError, match='problem: got no such field'):
    problems.read(file, layout='math')


def test_wrong_settings_name_the_choices(file):
  write(file, GENERIC)
  with pytest.raises(ValueError, match="layout: got 'gms8k'.*'gsm8k', 'math'"):
    problems.read(file, layout='gms8k')
  with pytest.raises(ValueError, match="bad_rows: got 'drop'.*'error', 'skip'"):
    problems.read(file, bad_rows='drop')


@pytest.mark.parametrize('content', [b'', b'\n\n', b'no json\n'])
@pytest.mark.parametrize('bad_rows', ['error', 'skip'])
def test_a_file_without_problems_is_an_error(file, content, bad_rows):
  file.write_bytes(content)
  with pytest.raises(ValueError, match='set.jsonl'):
    problems.read(file, bad_rows=bad_rows)


@pytest.mark.skipif(not SHARED.exists(), reason='no shared data')
def test_the_published_gsm8k():
  read = problems.read(SHARED)
  assert len(read) == 7473
  assert read[0].answer == '72'
  assert not any('<<' in p.solution or ',' in p.answer for p in read)
  assert all(p.solution.endswith(f'\\boxed{{{p.answer}}}.') for p in read)
