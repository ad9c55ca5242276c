"""A page holds some of a run's records, in a form that is safe to embed."""

import json
import math

import numpy as np
import pytest
import synthetic_run

from critic_jax.inspection import reading
from critic_jax.report import page_data
from critic_jax.tasks import arithmetic_tokenizer
from critic_jax.types import Problem
from critic_jax.workdir import run_dir

message = synthetic_run.message


def rows_of(path):
  """Returns the data of the page of the run in `path`."""
  files = page_data.read([reading.load(path)])
  num_shown, data = page_data.to_json(['run'], files)
  data = json.loads(data)
  assert num_shown == sum(file['shown'] for file in data['files'])
  return data


def save(path, records, steps=(0,), **fields):
  run = run_dir.open_run(path, fields.pop('config', {}))
  for step in steps:
    run.write_records(step, records, 'records/rl', **fields)
  return path


def parents(rows):
  """Returns the row above each row, None above a solution."""
  return [
    rows[i - row['up']] if 'up' in row else None for i, row in enumerate(rows)
  ]


def test_trees_keep_their_shape(tmp_path):
  records = synthetic_run.trees(2)
  data = rows_of(save(tmp_path, records))
  problems = [problem['id'] for problem in data['problems']]
  assert sorted(problems) == ['sum-0', 'sum-1']
  rows = data['records']
  assert len(rows) == len(records)
  stages = ['solve', 'critique', 'critique', 'refine', 'refine']
  assert [row['stage'] for row in rows] == stages * 4
  assert [problems[row['problem']] for row in rows if 'problem' in row] == [
    'sum-0', 'sum-0', 'sum-1', 'sum-1'
  ]  # fmt: skip
  above = parents(rows)
  assert above[:5] == [None, rows[0], rows[0], rows[2], rows[2]]


def test_what_a_row_holds(tmp_path):
  data = rows_of(save(tmp_path, synthetic_run.trees(1)))
  solution, accepted, rejected, refined, _ = data['records'][5:10]
  assert solution == {
    'file': 0, 'problem': 0, 'stage': 'solve', 'number': 2, 'length': 2,
    'text': 'I count.\n\nSo it is six.', 'outcome': 'wrong', 'answer': 'six',
    'first_error': 2,
  }  # fmt: skip
  assert accepted['verdict'] == 'correct' and accepted['kind'] == 'bad'
  assert rejected == {
    'stage': 'critique', 'number': 2, 'length': 10, 'up': 2, 'step': 2,
    'text': 'Look at line 2. Verdict: incorrect', 'verdict': 'incorrect',
    'thinking': f'Let me think. {synthetic_run.SCRIPT}\n</think>',
    'kind': 'good', 'scores': {'judge': 1.0, 'refine': 0.5, 'reward': 1.5},
  }  # fmt: skip
  assert refined['outcome'] == 'right' and refined['answer'] == 'seven'


def test_what_is_not_known_is_absent(tmp_path):
  problem = Problem('p', 'q', '1')
  solution = message(problem, 'solve', text='x', parsed={'answer': None})
  late = message(
    problem, 'solve', None, 1, parsed={'correct': False, 'grade': 'timeout'}
  )
  silent = {
    'verdict': None,
    'status': 'missing',
    'conclusion': None,
    'step': -1,
  }
  silent = message(problem, 'critique', late, parsed=silent, num_tokens=0)
  rows = rows_of(save(tmp_path, [solution, silent]))['records']
  assert rows[0] == {
    'file': 0, 'problem': 0, 'stage': 'solve', 'number': 1, 'length': 2,
    'text': 'x',
  }  # fmt: skip
  assert 'outcome' not in rows[1] and rows[1]['grade'] == 'timeout'
  assert rows[2] == {
    'stage': 'critique', 'number': 1, 'up': 1, 'verdict': 'none',
    'status': 'missing',
  }  # fmt: skip


def solution_from_file(text, **parsed):
  return message(Problem('p', 'q', ''), 'solve', text=text, parsed=parsed)


def test_what_only_the_first_wrong_step_tells(tmp_path):
  records = [
    solution_from_file('a', first_error=1),
    solution_from_file('b', first_error=-1),
  ]
  records += [
    solution_from_file('c', first_error=0, grade='timeout', correct=False)
  ]
  records += [solution_from_file('d', correct=None)]
  rows = rows_of(save(tmp_path, records))['records']
  assert [row.get('outcome') for row in rows] == ['wrong', 'right', None, None]
  assert [row.get('first_error') for row in rows] == [2, None, 1, None]


def test_steps_that_are_no_lines(tmp_path):
  """A label counts steps, so a page has to show what it counts."""
  steps = ['2 + 3 = 6.\n', 'So\nit is 6.']
  records = [
    solution_from_file(
      '2 + 3 = 6.\n\nSo\nit is 6.', steps=steps, first_error=1
    ),
    solution_from_file('One.\nTwo.', steps=['One.', 'Two.'], first_error=1),
    solution_from_file('Another\ntext.', steps=steps),
  ]
  rows = rows_of(save(tmp_path, records))['records']
  assert rows[0]['steps'] == ['2 + 3 = 6.', 'So\nit is 6.']
  assert 'text' not in rows[0]  # the page joins the steps
  for row, record in zip(rows[1:], records[1:], strict=True):
    assert 'steps' not in row and row['text'] == record.text


def test_a_reward_from_the_mean_of_its_group(tmp_path):
  problem = Problem('p', 'q', '1')
  solution = message(problem, 'solve')
  parsed = {'verdict': 'correct', 'conclusion': 'Yes.'}
  critiques = [
    message(problem, 'critique', solution, i, parsed=parsed, scores=scores)
    for i, scores in enumerate(
      ({'reward': 1.0}, {'reward': 0.0}, {'reward': 0.5}, {'judge': math.nan})
    )
  ]
  rows = rows_of(save(tmp_path, critiques))['records']
  assert [row.get('over_group') for row in rows[1:]] == [0.5, -0.5, None, None]
  assert 'scores' not in rows[4]  # JSON has no NaN


@pytest.mark.parametrize(
  'text', ['</script>', '<!--', ']]>', '&amp;', '\u2028']
)
def test_json_is_plain_text_to_html(text):
  dumped = page_data.dump({'a': text})
  assert not set(dumped) & set('<>&\u2028\u2029')
  assert json.loads(dumped) == {'a': text}


def test_lone_surrogates_are_escaped():
  dumped = page_data.dump('a\ud800b')
  assert dumped == '"a\\ud800b"' and json.loads(dumped) == 'a\ud800b'


def test_steps_are_some_of_those_saved(tmp_path):
  save(tmp_path, synthetic_run.trees(1), steps=range(0, 100, 2))
  data = rows_of(tmp_path)
  steps = [int(file['step']) for file in data['files']]
  assert len(steps) == page_data.MAX_STEPS
  assert steps[0] == 0 and steps[-1] == 98 and steps == sorted(steps)


def test_evaluations_come_first_and_whole(tmp_path):
  run = run_dir.RunDir(save(tmp_path, synthetic_run.trees(1)))
  names = [f'after_{i:02}' for i in range(page_data.MAX_STEPS + 3)]
  for name in names:
    run.write_records(name, synthetic_run.trees(1), 'eval/sums')
  files = rows_of(tmp_path)['files']
  assert [file['step'] for file in files] == [*names, '0']


def test_a_sample_holds_the_same_problems(tmp_path, monkeypatch):
  """Bounds keep 6 problems of each of two files with 10 records a problem."""
  monkeypatch.setattr(page_data, 'MAX_RECORDS', 125)
  records = synthetic_run.trees(100)
  save(tmp_path, records, steps=[0])
  last = [r for r in records if r.problem.id != 'sum-0'][::-1]  # another order
  save(tmp_path, last, steps=[1])
  data = rows_of(tmp_path)
  assert [(file['trees'], file['shown']) for file in data['files']] == [
    (100, 6), (99, 6)
  ]  # fmt: skip
  roots = [row for row in data['records'] if 'file' in row]
  first, second = (
    {row['problem'] for row in roots if row['file'] == i} for i in (0, 1)
  )
  assert len(first) == 6 and first == second
  assert len(data['records']) == 120
  assert data == rows_of(tmp_path)  # not drawn by chance


def test_a_tree_too_large_is_passed_over(tmp_path, monkeypatch):
  monkeypatch.setattr(page_data, 'MAX_BYTES', 5000)
  small = [
    message(Problem(f's-{i}', 'q', '1'), 'solve', text='x') for i in range(9)
  ]
  large = message(Problem('large', 'q', '1'), 'solve', text='x' * 6000)
  data = rows_of(save(tmp_path, [large, *small]))
  assert data['files'][0]['shown'] == 9
  assert 'large' not in {problem['id'] for problem in data['problems']}


def test_the_size_is_bounded_by_bytes(tmp_path, monkeypatch):
  monkeypatch.setattr(page_data, 'MAX_BYTES', 10_000)
  long = 'é' * 300  # 600 bytes each, in the problem and in the solution
  records = [
    message(Problem(f'p-{i}\ud800', long, '1'), 'solve', text=long)
    for i in range(50)
  ]
  files = page_data.read([reading.load(save(tmp_path, records))])
  num_shown, data = page_data.to_json(['run'], files)
  assert num_shown == 7 and len(data.encode()) < 10_500


def test_many_children_and_long_texts(tmp_path):
  problem = Problem('p', 'q', '1')
  many = page_data.MAX_CHILDREN + 3
  text = 'x' * (page_data.MAX_TEXT + 5)
  solutions = [message(problem, 'solve', None, i, text) for i in range(many)]
  critiques = [
    message(problem, 'critique', solutions[0], i) for i in range(many)
  ]
  for critique in critiques:
    critique.parsed['verdict'] = 'correct'
  rows = rows_of(save(tmp_path, solutions + critiques))['records']
  assert len(rows) == 2 * page_data.MAX_CHILDREN
  assert rows[0]['hidden'] == 3 and rows[0]['siblings_hidden'] == 3
  assert rows[0]['text'].endswith('x\n[cut here: 5 characters more]')
  assert rows[-1]['number'] == page_data.MAX_CHILDREN  # in the order of index
  assert rows[-1]['stage'] == 'solve'


TEXT = 'Step 1: 3 + 4 = 7\nSo é 漢字 🙂 it is \\boxed{7}.'


def tokens_of(path, text, tokens, logprobs, tokenizer=None):
  """Returns the row of one solution whose tokens were saved."""
  tokenizer = tokenizer or {
    'module': 'arithmetic_tokenizer',
    'name': 'tokenizer',
  }
  models = {'critic': {'source': '', 'tokenizer': tokenizer}}
  record = message(Problem('p', 'q', '1'), 'solve', text=text)
  record = type(record)(
    **vars(record)
    | {'tokens': np.array(tokens), 'logprobs': np.array(logprobs, np.float32)}
  )
  save(path, [record], tokens=True, config={'models': models})
  (row,) = rows_of(path)['records']
  return row


def test_tokens_have_their_texts(tmp_path):
  tokenizer = arithmetic_tokenizer.tokenizer()
  tokens = [*tokenizer.encode(TEXT), tokenizer.eos[0]]
  logprobs = np.linspace(-1, 0, len(tokens))
  row = tokens_of(tmp_path, TEXT, tokens, logprobs)
  assert ''.join(row['tokens']) == TEXT and len(row['tokens']) == len(tokens)
  assert row['tokens'][:3] == ['Step 1:', ' 3', ' +']
  # A character of several tokens belongs to the one that completes it.
  assert row['tokens'][row['tokens'].index('é') - 1] == ''
  assert row['tokens'][-1] == ''  # the end of the sequence
  np.testing.assert_allclose(row['logprobs'], logprobs, atol=6e-4)


def test_tokens_without_their_law_or_tokenizer_are_absent(tmp_path):
  tokenizer = arithmetic_tokenizer.tokenizer()
  tokens = tokenizer.encode(TEXT)
  nans = [math.nan] * len(tokens)
  zeros = [0.0] * len(tokens)
  assert 'tokens' not in tokens_of(tmp_path / 'a', TEXT, tokens, nans)
  assert 'tokens' not in tokens_of(tmp_path / 'b', TEXT, tokens, zeros, '/none')
  # A tokenizer that does not make the text is another one.
  assert 'tokens' not in tokens_of(tmp_path / 'c', 'No.', tokens, zeros)


def test_many_tokens_are_cut(tmp_path):
  tokenizer = arithmetic_tokenizer.tokenizer()
  tokens = tokenizer.encode('Step 1: 3 + 4 = 7\n' * 500)
  text = tokenizer.decode(tokens)
  row = tokens_of(tmp_path, text, tokens, [-0.5] * len(tokens))
  assert len(row['tokens']) == len(row['logprobs']) == page_data.MAX_TOKENS
  assert row['tokens_left_out'] == len(tokens) - page_data.MAX_TOKENS
