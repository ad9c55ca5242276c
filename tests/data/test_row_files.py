"""Equal rows are equal problems in each format, and other files are refused."""

import csv
import decimal
import gzip
import io
import json
import pathlib
import random

import numpy as np
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from critic_jax.data import file_sets, problems, row_files, solutions, sources
from critic_jax.types import Problem

FORMATS = (
  '.jsonl', '.jsonl.gz', '.json', '.json.gz', '.csv', '.csv.gz', '.tsv',
  ';.csv', '.parquet', '.parquet.gz', '.arrow', '.feather', '.arrow.gz',
  'datasets',
)  # fmt: skip


def table_bytes(rows, delimiter=','):
  text = io.StringIO(newline='')
  writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue().encode()


def arrow_bytes(table, make=pyarrow.ipc.new_stream):
  buffer = io.BytesIO()
  with make(buffer, table.schema) as writer:
    writer.write_table(table)
  return buffer.getvalue()


def parquet_bytes(table):
  buffer = io.BytesIO()
  parquet.write_table(table, buffer)
  return buffer.getvalue()


def write_datasets(path, rows):
  """Writes rows as Hugging Face's `datasets` saves them; returns its files."""
  path.mkdir(exist_ok=True)
  table, name = pyarrow.Table.from_pylist(rows), 'data-00000-of-00001.arrow'
  (path / name).write_bytes(arrow_bytes(table))
  state = {'_data_files': [{'filename': name}], '_format_type': None}
  (path / 'state.json').write_text(json.dumps(state))
  features = {name: {'_type': 'Value'} for name in table.column_names}
  (path / 'dataset_info.json').write_text(json.dumps({'features': features}))
  return file_sets.by_split(str(path), None)['train']


def write(folder, ending, rows):
  """Writes rows in a format to 'set'; returns what reads them."""
  if ending == 'datasets':
    return write_datasets(pathlib.Path(folder, 'set'), rows)
  delimiter, ending = (';', ending[1:]) if ending[0] == ';' else (',', ending)
  kind, is_packed = ending.removesuffix('.gz'), ending.endswith('.gz')
  if kind == '.jsonl':
    content = b''.join(json.dumps(row).encode() + b'\n' for row in rows)
  elif kind == '.json':
    content = json.dumps(rows).encode()
  elif kind in ('.csv', '.tsv'):
    content = table_bytes(rows, '\t' if kind == '.tsv' else delimiter)
  else:
    table = pyarrow.Table.from_pylist(rows)
    content = {
      '.parquet': parquet_bytes,
      '.arrow': arrow_bytes,
      '.feather': lambda t: arrow_bytes(t, pyarrow.ipc.new_file),
    }[kind](table)
  path = pathlib.Path(folder, f'set{ending}')
  path.write_bytes(gzip.compress(content) if is_packed else content)
  return path


# Texts with all that formats write in a special way.
TEXT = st.text(st.sampled_from('aé7 ,;\t"\'\\\n{}[]$#%😀\u2028'), max_size=9)


@st.composite
def row_lists(draw):
  """Draws rows of problems whose answers are as people type them."""
  texts = TEXT.map(lambda text: f'q{text}?')
  answers = st.sampled_from(('007', '1e3', '1,200', '-0.50', 'x', '3/4', 'NA'))
  number = draw(st.integers(1, 4))
  return [
    {'question': f'{i} {draw(texts)}', 'answer': draw(answers),
     'solution': draw(TEXT)}
    for i in range(number)
  ]  # fmt: skip


@settings(max_examples=20)
@example([{'question': 'a,"b"\n;c', 'answer': '007', 'solution': '"'}])
@given(row_lists())
def test_equal_rows_are_equal_problems(tmp_path_factory, rows):
  folder = tmp_path_factory.mktemp('formats')
  expected = [
    Problem(
      f'set-{i}', row['question'].strip(), row['answer'],
      row['solution'].strip(),
    )
    for i, row in enumerate(rows)
  ]  # fmt: skip
  for ending in FORMATS:
    path = write(folder, ending, rows)
    # A solution that has spaces only is an error in all of them.
    if any(r['solution'] and not r['solution'].strip() for r in rows):
      with pytest.raises(ValueError, match='solution: got .*expected a text'):
        problems.read(path, layout='generic')
      continue
    read = problems.read(path, layout='generic', report=lambda _: None)
    assert read == expected, ending


SOLUTIONS = [
  {'question': 'What is 1 + 1?', 'solution': 'It is 2.', 'correct': True},
  {'question': 'What is 1 + 1?', 'solution': 'It is 3.', 'correct': False},
]


@pytest.mark.parametrize('ending', FORMATS)
def test_equal_rows_are_equal_solutions(tmp_path, ending):
  first, second = solutions.read(write(tmp_path, ending, SOLUTIONS))
  assert (first.text, first.parsed['correct']) == ('It is 2.', True)
  assert (second.text, second.parsed['correct']) == ('It is 3.', False)
  assert first.problem is second.problem
  assert second.parsed['part'] == 'set'
  assert second.parsed['row_id'] == 'set-1'


@pytest.mark.parametrize(
  ('answer', 'grade'),
  [('007', '007'), ('1e3', '1e3'), ('2.50', '2.50'), ('+1', '+1')],
)
def test_numbers_of_a_table_stay_as_they_are_written(tmp_path, answer, grade):
  path = tmp_path / 'a.csv'
  path.write_text(f'id,question,answer\n007,What?,{answer}\n')
  [problem] = problems.read(path)
  assert (problem.id, problem.answer) == ('007', grade)


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    (pyarrow.array([7, -1], 'int8'), ['7', '-1']),
    (pyarrow.array([2**63], 'uint64'), ['9223372036854775808']),
    (pyarrow.array([27.0, 0.1, -0.0, 1e-7]), ['27', '0.1', '0', '0.0000001']),
    (pyarrow.array([1e300, 2.5e-300, 1e16]),
     ['1e300', '2.5e-300', '10000000000000000']),
    (pyarrow.array([0.1, 2.5], 'float32'), ['0.1', '2.5']),
    (pyarrow.array(np.float16([0.1])), ['0.1']),
    (pyarrow.array([decimal.Decimal('7.50'), decimal.Decimal('1200')],
                   pyarrow.decimal128(9, 2)), ['7.5', '1200']),
    (pyarrow.array([18262], 'int32').cast('date32'), ['2020-01-01']),
    (pyarrow.array(['a', 'b']).dictionary_encode(), ['a', 'b']),
    (pyarrow.array([b'007'], 'binary'), ['007']),
    (pyarrow.array(['x'], 'large_string'), ['x']),
  ],
)  # fmt: skip
def test_numbers_of_parquet_are_what_a_person_writes(
  tmp_path, values, expected
):
  questions = [f'What is {i}?' for i in range(len(values))]
  table = pyarrow.table({'question': questions, 'answer': values})
  for name, content in (
    ('a.parquet', parquet_bytes(table)),
    ('a.arrow', arrow_bytes(table)),
  ):
    path = tmp_path / name
    path.write_bytes(content)
    assert [p.answer for p in problems.read(path)] == expected


def test_a_table_of_excel_and_one_of_pandas(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_bytes(
    b'\xef\xbb\xbf,question,answer\r\n0,"What, ""now""\r\nthen?",7\r\n'
    b'\r\n1,Why?,"1,200"\r\n'
  )
  first, second = problems.read(path)
  assert first == Problem('a-0', 'What, "now"\r\nthen?', '7')
  assert second == Problem('a-1', 'Why?', '1,200')


def test_an_empty_cell_is_nothing(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('id,question,answer,solution\n,Why?,7,\n5,How?,,\n')
  with pytest.raises(ValueError, match='a.csv:3: answer: got nothing; expect'):
    problems.read(path)
  [problem] = problems.read(path, bad_rows='skip', report=len)
  assert problem == Problem('a-0', 'Why?', '7')


def test_bad_rows_of_a_table_cost_no_neighbour(tmp_path, monkeypatch):
  monkeypatch.setattr(row_files, 'MAX_ROW', 200)
  rows = [
    b'What is 1?,1', b'one,two,three', b'"a"b,2', b'\xff,3', b'q' * 300 + b',4',
    b'"' + b'q\n' * 150 + b'q', b'What is 6?,6', b'What is 7?,"7',
  ]  # fmt: skip
  path = tmp_path / 'a.csv'
  path.write_bytes(b'question,answer\n' + b'\n'.join(rows))
  reports = []
  read = problems.read(path, bad_rows='skip', report=reports.append)
  answers = [p.answer for p in read]
  assert answers[0] == '1' and '6' in answers and '7' not in answers
  assert not {'2', '3', '4'} & {*answers}
  assert 'a.csv:3: row: got 3 cells' in reports[0]


def test_a_large_file_is_read_a_part_at_a_time(tmp_path, monkeypatch):
  """2,500 rows, of which only a thousand are converted at once."""
  monkeypatch.setattr(row_files, 'MAX_ROW', 100)
  rows = [
    {'question': f'What is {i}?', 'answer': i, 'note': 'x' * (i == 7) * 200}
    for i in range(2500)
  ]
  path = write(tmp_path, '.parquet', rows)
  read = problems.read(path, bad_rows='skip', report=lambda _: None)
  assert [p.answer for p in read] == [str(i) for i in range(2500) if i != 7]
  with pytest.raises(ValueError, match=r'set.parquet\[7\]: row: got more than'):
    problems.read(path)


GOOD = {'question': 'What is 3 + 4?', 'answer': '7'}
LINE = json.dumps(GOOD).encode() + b'\n'
# A file's name and content, other settings; the error after the folder.
BROKEN = {
  'another name of a column': (
    'a.csv', b'prompt,label\nWhy?,7\n', {},
    r"a\.csv:2: fields: got \['label', 'prompt'\]; expected a known layout; "
    r"write --config\.data\.columns='question=prompt,answer=label' \(.*; or "
    r'leave such rows out: --config\.data\.bad_rows=skip',
  ),
  'a column that is not there': (
    'a.csv', b'prompt,label\nWhy?,7\n', {'columns': 'question=promt'},
    r"a\.csv:2: columns: got no 'promt' among \['label', 'prompt'\]; expected "
    r"a column of the file; write --config\.data\.columns='question=prompt'",
  ),
  'columns of another form': (
    'a.csv', b'', {'columns': 'prompt'},
    r"columns: got 'prompt' in 'prompt'; expected NAME=COLUMN, several .*; "
    r"write --config\.data\.columns='question=prompt",
  ),
  'a name that is not ours': (
    'a.csv', b'', {'columns': 'qestion=prompt'},
    r"columns: name: got 'qestion'; expected one of .*mean 'question'\?",
  ),
  'a cell too much': (
    'a.csv', b'question,answer\nWhy, then?,7\n', {},
    r"a\.csv:2: row: got 3 cells, \['Why', ' then\?', '7'\]; expected 2, as "
    r'the first line has; put a text that holds a comma.*in double quotes',
  ),
  'a quote that is not closed': (
    'a.csv', b'question,answer\n"Why?,7\n', {},
    r'a\.csv:2: row: got a quote that is not closed.*expected a quote within a '
    r'cell to be doubled',
  ),
  'a column twice': (
    'a.csv', b'question,answer,answer\nWhy?,7,8\n', {},
    r"a\.csv:1: got the column 'answer' twice; expected a first line of diff",
  ),
  'an empty cell': (
    'a.csv', b'question,answer\nWhy?,\n', {'layout': 'generic'},
    r'a\.csv:2: answer: got nothing; expected a text',
  ),
  'Latin-1': (
    'a.csv', 'question,answer\nÜber?,7\n'.encode('latin1'), {},
    r'a\.csv:2: row: got invalid UTF-8 .*; expected UTF-8; iconv -f LATIN1',
  ),
  'JSON that is called a table': (
    'a.csv', LINE, {},
    r'a\.csv: got JSON lines.*; expected a table of .*, as its name says; '
    r'rename it: mv \S+a\.csv \S+a\.jsonl',
  ),
  'a table that is called JSON': (
    'a.jsonl.gz', gzip.compress(b'question,answer\nWhy?,7\n'), {},
    r'a\.jsonl\.gz: got a table .*; expected JSON lines.*; rename it: mv '
    r'\S+a\.jsonl\.gz \S+a\.csv\.gz',
  ),
  'Parquet that is called JSON': (
    'a.json', parquet_bytes(pyarrow.table({'question': ['x']})), {},
    r'a\.json: got a Parquet file; expected JSON lines.*; rename it: mv '
    r'\S+a\.json \S+a\.parquet',
  ),
  'half of a Parquet file': (
    'a.parquet', parquet_bytes(pyarrow.table({'question': ['x']}))[:-40], {},
    r'a\.parquet: got a broken Parquet file \(.*\); expected a whole one; copy',
  ),
  'half of an Arrow file': (
    'a.arrow', arrow_bytes(pyarrow.table({'question': ['x' * 99]}))[:-60], {},
    r'a\.arrow: got a broken Arrow file \(.*\); expected a whole one; copy it',
  ),
  'text that is called Parquet': (
    'a.parquet', b'question\n', {},
    r"a\.parquet: got a file that begins with b'question\\n'; expected a Parq",
  ),
  'half of a gzip file': (
    'a.csv.gz', gzip.compress(b'question,answer\nWhy?,7\n')[:-9], {},
    r'a\.csv\.gz: got a broken gzip file .*; expected a whole one; copy it ag',
  ),
  'broken JSON in a line': (
    'a.jsonl', LINE + b'{"question": "Why?"\n', {},
    r'a\.jsonl:2: row: got broken JSON; expected JSON .*; or leave such rows '
    r'out: --config\.data\.bad_rows=skip',
  ),
  'an object of a file': (
    'a.json', b'{"train": [\n' + LINE + b']}', {},
    r'a\.json: got an object over several lines; expected an object on each '
    r"line.*; write: jq -c '\.ROWS\[\]' \S+a\.json > \S+a\.jsonl",
  ),
  'an id twice': (
    'a.jsonl', (json.dumps(GOOD | {'id': 'x'}) + '\n').encode() * 2, {},
    r"a\.jsonl:2: id: got 'x' again; expected a new one; to number the rows "
    r"instead write --config\.data\.columns='id='",
  ),
  'a number that is none': (
    'a.parquet',
    parquet_bytes(pyarrow.table({'question': ['Why?'], 'answer': [np.nan]})),
    {'layout': 'generic'},
    r'a\.parquet\[0\]: answer: got nan; expected a text',
  ),
  'an empty file': (
    'a.csv', b'', {}, r'a\.csv: got no good row; expected one; it is empty',
  ),
  'a layout that is none': (
    'a.csv', b'question,answer\nWhy?,7\n', {'layout': 'gsm'},
    r"layout: got 'gsm'; expected one of \['auto', 'gsm8k'",
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_input_is_one_line_that_says_what_to_type(tmp_path, name):
  file, content, others, reason = BROKEN[name]
  path = tmp_path / file
  path.write_bytes(content)
  with pytest.raises(ValueError, match=reason) as error:
    sources.files(paths={'train': str(path)}, data_dir='', **others)
  assert '\n' not in str(error.value)
  assert len(str(error.value)) < 1500


def test_any_change_of_a_binary_file_is_read_or_refused(tmp_path):
  """300 files with a few other bytes; none crashes pyarrow."""
  random_bytes = random.Random(0)
  rows = [{'question': f'What is {i}?', 'answer': str(i)} for i in range(20)]
  for ending in ('.parquet', '.arrow', '.feather'):
    path = write(tmp_path, ending, rows)
    content = path.read_bytes()
    num_read = 0
    for _ in range(100):
      changed = bytearray(content)
      for _ in range(random_bytes.randint(1, 3)):
        changed[random_bytes.randrange(len(changed))] = random_bytes.randrange(
          256
        )
      path.write_bytes(changed)
      try:
        num_read += len(problems.read(path, report=len)) > 0
      except ValueError as error:
        assert str(error).startswith(str(path))
    assert num_read < 100
