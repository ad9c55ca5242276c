import json
import pathlib

import numpy as np
import pytest

from critic_jax.data import solutions
from critic_jax.types import Problem

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data'

# The fields as they are published; the contents are made up.
PROCESSBENCH = {
  'id': 'gsm8k-0',
  'generator': 'A-7B',
  'problem': 'What is 2 + 3 + 4?',
  'steps': ['2 + 3 = 6.', 'So it is\n6 + 4 = \\boxed{10}.'],
  'final_answer_correct': False,
  'label': 0,
}
PRM800K = {
  'id': 'prm-1',
  'problem': 'What is 2 + 3 + 4?',
  'steps': ['2 + 3 = 5. ', '5 + 4 = 9.'],
  'label': -1,
  'complete': True,
  'error_reason': None,
  'answer': '9',
}
TRIPLE = {
  'id': 'test-7-6b',
  'problem': 'What is 600 + 600?',
  'solution': '600 + 600 = <<600+600=1200>>1200\n\nA: 1,200',
  'correct': True,
  'generator': '6b',
  'reference': '600 * 2 = <<600*2=1200>>1200\nA: 1,200',
}
REWARDMATH = {
  'problem': 'What is 2 + 3?',
  'answer': '5',
  'eval_solution': ['2 + 3 = 5.', 'So \\boxed{5}.'],
  'solution_reference': 'a-model',
  'solution_type': 'chosen',
  'subject': 'Algebra',
  'level': 1,
  'problem_id': 399,
  'id': 3990,
}
RANKING = {
  'question': 'What is 2 + 3?',
  'chosen': 'It is \\boxed{5}.',
  'rejected': ['It is 6.\nOr \\boxed{7}.', ' \\boxed{8} '],
}
MR_GSM8K = {
  'uuid': 'a1-b2',
  'question': 'What is 2 + 3 + 4?',
  'ground_truth_solution': '2 + 3 + 4 = 9',
  'ground_truth_answer': 9,
  'model_output_steps': ['Step 1: 2 + 3 = 6', 'Step 2: 6 + 4 = 10'],
  'model_output_answer_correctness': 'wrong',
  'model_output_solution_correctness': 'wrong',
  'model_output_solution_first_error_step': 1,
  'model_output_solution_first_error_reason': '2 + 3 is 5.',
  'question_type': 'original',
}


def rated(*ratings, chosen=0, **step):
  texts = [
    {'text': f'Choice {i}.', 'rating': r, 'flagged': False}
    for i, r in enumerate(ratings)
  ]
  return {
    'completions': texts, 'human_completion': None, 'chosen_completion': chosen
  } | step  # fmt: skip


PRM800K_RAW = {
  'labeler': 'e', 'timestamp': '2022-07-17', 'generation': None,
  'is_quality_control_question': False,
  'question': {
    'problem': 'What is 2 + 3?', 'ground_truth_answer': '5',
    'pre_generated_steps': ['a'],
  },
  'label': {
    'steps': [
      rated(-1, 1, chosen=1),
      rated(
        1,
        completions=[{'text': 'So 5.\n\n# Answer\n\n5', 'rating': 1}],
      ),
    ],
    'total_time': 3,
    'finish_reason': 'solution',
  },
}  # fmt: skip
ROWS = {
  'mr_gsm8k': MR_GSM8K,
  'prm800k_raw': PRM800K_RAW,
  'processbench': PROCESSBENCH,
  'prm800k': PRM800K,
  'triples': TRIPLE,
  'rewardmath': REWARDMATH,
  'ranking': RANKING,
}
LAYOUTS = pytest.mark.parametrize('layout', ROWS)


@pytest.fixture
def file(tmp_path):
  return tmp_path / 'dev.jsonl'


def write(path, *rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def read(path, *rows, **settings):
  return solutions.read(write(path, *rows), **settings)


def test_processbench(file):
  (record,) = read(file, PROCESSBENCH)
  assert record.problem == Problem('gsm8k-0', 'What is 2 + 3 + 4?', '', '')
  assert record.id == 'gsm8k-0/solve.0'
  # A step has lines, so that steps are paragraphs.
  assert record.text == '2 + 3 = 6.\n\nSo it is\n6 + 4 = \\boxed{10}.'
  assert record.parsed == {
    'row_id': 'gsm8k-0',
    'part': 'dev',
    'generator': 'A-7B',
    'steps': PROCESSBENCH['steps'],
    'num_steps': 2,
    'first_error': 0,
    'answer': '10',
    'correct': False,
    'grade': 'wrong',
  }


def test_mr_gsm8k_as_it_is_published(file):
  (record,) = read(file, MR_GSM8K)
  assert record.problem == Problem(
    'a1-b2', 'What is 2 + 3 + 4?', '9', '2 + 3 + 4 = 9'
  )
  assert record.parsed['first_error'] == 0
  assert record.parsed['correct'] is False
  assert record.parsed['steps'] == MR_GSM8K['model_output_steps']
  right = MR_GSM8K | {
    'model_output_answer_correctness': 'correct',
    'model_output_solution_correctness': 'correct',
    'model_output_solution_first_error_step': 'N/A',
  }
  (record,) = read(file, right)
  assert record.parsed['first_error'] == -1 and record.parsed['correct']
  # A right answer by a wrong step.
  (record,) = read(file, MR_GSM8K | {'model_output_answer_correctness': 'corr'
                                     'ect'})  # fmt: skip
  assert record.parsed['first_error'] == 0 and record.parsed['correct']


def raw(steps, finish):
  label = {'steps': steps, 'finish_reason': finish}
  return PRM800K_RAW | {'label': label}


def test_prm800k_as_it_is_published(file):
  (record,) = read(file, PRM800K_RAW)
  assert record.problem == Problem('dev-0', 'What is 2 + 3?', '5', '')
  assert record.parsed['steps'] == ['Choice 1.', 'So 5.\n\n# Answer\n\n5']
  assert record.parsed['first_error'] == -1
  assert record.parsed['answer'] == '5' and record.parsed['correct']
  # No choice was right: the first is the error, and the end.
  (record,) = read(file, raw([rated(1), rated(-1, -1, chosen=None)],
                             'found_error'))  # fmt: skip
  assert record.parsed['first_error'] == 1 == record.parsed['num_steps'] - 1
  assert 'correct' not in record.parsed
  human = {'text': 'Mine.', 'rating': None}
  (record,) = read(
    file, raw([rated(-1, chosen=None, human_completion=human)], 'solution')
  )
  assert record.text == 'Mine.' and record.parsed['first_error'] == -1


@pytest.mark.parametrize(
  ('row', 'reason'),
  [
    (raw([rated(1)], 'bad_problem'), "finish_reason: got 'bad_problem'"),
    (raw([rated(1)], 'give_up'), "finish_reason: got 'give_up'; expected"),
    (raw([rated(1)], 'found_error'), "finish_reason: got 'found_error', with"),
    (raw([rated(1, chosen=3)], 'solution'), 'chosen_completion: got 3; expe'),
    (raw([], 'solution'), r'steps: got \[\]; expected a list of objects'),
    (raw([{'completions': 3}], 'solution'), 'completions: got 3; expected a'),
    (PRM800K_RAW | {'label': 3}, 'label: got 3; expected an object'),
    (MR_GSM8K | {'model_output_solution_first_error_step': 3},
     "first_error_step: got '3'; expected N/A or a step, 1 to 2"),
    (MR_GSM8K | {'model_output_solution_first_error_step': 'N/A'},
     'first_error_step: got N/A of a wrong solution'),
    (MR_GSM8K | {'model_output_answer_correctness': 'maybe'},
     "model_output_answer_correctness: got 'maybe'; expected one of"),
  ],
)  # fmt: skip
def test_annotations_that_cannot_be_read_are_refused(file, row, reason):
  layout = 'mr_gsm8k' if 'uuid' in row else 'prm800k_raw'
  with pytest.raises(ValueError, match=reason):
    read(file, row, layout=layout)


def test_a_given_solution_was_sampled_by_nobody(file):
  (record,) = read(file, PROCESSBENCH)
  assert (record.stage, record.parent, record.finish) == ('solve', None, 'stop')
  assert not record.scores
  for tokens, dtype in [
    (record.prompt_tokens, np.int32),
    (record.tokens, np.int32),
    (record.logprobs, np.float32),
  ]:
    assert tokens.shape == (0,) and tokens.dtype == dtype


def test_a_wrong_step_may_lead_to_the_right_answer(file):
  (record,) = read(file, PROCESSBENCH | {'final_answer_correct': True})
  assert record.parsed['first_error'] == 0
  assert record.parsed['correct'] and record.parsed['grade'] == 'right'


def test_the_part_is_the_stem_or_given_and_names_numbers(file):
  row = PROCESSBENCH | {'id': 3, 'generator': ''}
  (record,) = read(file, row)
  assert record.parsed['part'] == 'dev'
  assert record.problem.id == record.parsed['row_id'] == 'dev-3'
  assert 'generator' not in record.parsed
  (record,) = read(file, row, part='omnimath')
  assert record.parsed['part'] == 'omnimath'
  assert record.problem.id == 'omnimath-3'
  with pytest.raises(ValueError, match="part: got 'a/b'; expected"):
    read(file, row, part='a/b')


def test_prm800k(file):
  wrong = PRM800K | {
    'id': 'prm-0',
    'steps': ['2 + 3 = 6.'],
    'label': 0,
    'complete': False,
    'error_reason': 'addition',
    'answer': None,
  }
  answered = wrong | {'id': 'prm-2', 'answer': '10'}
  records = read(file, wrong, PRM800K, answered)
  # The first row's id; the right solution's answer.
  problem = Problem('prm-0', 'What is 2 + 3 + 4?', '9')
  assert all(r.problem == problem for r in records)
  right, unknown = records[1].parsed, records[0].parsed
  assert records[1].text == '2 + 3 = 5.\n5 + 4 = 9.'
  assert right['steps'] == ['2 + 3 = 5. ', '5 + 4 = 9.']
  assert (right['correct'], right['grade'], right['answer']) == (
    True, 'right', '9'
  )  # fmt: skip
  assert unknown['first_error'] == 0 and unknown['answer'] is None
  assert records[2].parsed['answer'] == '10'
  # A wrong step need not give a wrong answer: nobody knows.
  for record in (records[0], records[2]):
    assert 'correct' not in record.parsed and 'grade' not in record.parsed


def test_prm800k_without_an_end_is_not_known_to_be_right(file):
  (record,) = read(file, PRM800K | {'complete': False})
  assert record.parsed['first_error'] == -1
  assert 'correct' not in record.parsed
  assert record.problem.answer == ''


def test_triples(file):
  other = TRIPLE | {
    'id': 'test-7-175b',
    'generator': '175b',
    'solution': '600 + 600 = 1100\nA: 1100\nno more',
    'correct': False,
  }
  first, second = read(file, TRIPLE, other)
  assert first.problem == Problem(
    id='test-7',
    question='What is 600 + 600?',
    answer='1200',
    solution='600 * 2 = 1200\nThe answer is \\boxed{1200}.',
  )
  assert [first.id, second.id] == ['test-7/solve.0', 'test-7/solve.1']
  assert first.text == TRIPLE['solution']
  assert first.parsed == {
    'row_id': 'test-7-6b',
    'part': 'dev',
    'generator': '6b',
    'num_steps': 2,
    'answer': '1200',
    'correct': True,
    'grade': 'right',
  }
  assert second.parsed['answer'] is None  # its `A:` is not the end
  assert second.parsed['num_steps'] == 3
  assert second.parsed['grade'] == 'wrong'


def test_rewardmath(file):
  wrong = REWARDMATH | {
    'id': 3991,
    'solution_type': 'rejected',
    'eval_solution': ['So 6.'],
  }
  right, wrong = read(file, REWARDMATH, wrong)
  assert right.problem is wrong.problem
  assert right.problem == Problem('dev-399', 'What is 2 + 3?', '5')
  assert [right.id, wrong.id] == ['dev-399/solve.0', 'dev-399/solve.1']
  assert right.parsed == {
    'row_id': 'dev-3990',
    'part': 'dev',
    'generator': 'a-model',
    'steps': ['2 + 3 = 5.', 'So \\boxed{5}.'],
    'num_steps': 2,
    'answer': '5',
    'correct': True,
    'grade': 'right',
  }
  assert wrong.parsed['correct'] is False
  assert 'first_error' not in wrong.parsed


def test_ranking(file):
  whole_number = RANKING | {
    'problem': 'Not this.',
    'answer': 5,
    'rejected': 'It is 6.',
  }
  other = {**RANKING, 'problem': 'What is 1?', 'chosen': ['1', 'one']}
  del other['question']
  records = read(file, RANKING, whole_number, other)
  assert [r.id for r in records] == [
    'dev-0/solve.0',
    'dev-0/solve.1',
    'dev-0/solve.2',
    'dev-0/solve.3',
    'dev-0/solve.4',
    'dev-2/solve.0',
    'dev-2/solve.1',
    'dev-2/solve.2',
    'dev-2/solve.3',
  ]
  assert [r.parsed['correct'] for r in records] == [
    True, False, False, True, False, True, True, False, False
  ]  # fmt: skip
  assert records[0].problem == Problem('dev-0', 'What is 2 + 3?', '5')
  assert records[1].text == 'It is 6.\nOr \\boxed{7}.'
  assert records[1].parsed['num_steps'] == 2
  assert [r.parsed['answer'] for r in records[:3]] == ['5', '7', '8']
  assert records[-1].problem == Problem('dev-2', 'What is 1?', '')


@LAYOUTS
def test_the_layout_is_found_or_named(file, layout):
  records = read(file, ROWS[layout])
  named = solutions.read(file, layout=layout)
  assert [r.parsed for r in named] == [r.parsed for r in records]
  for other in ROWS.keys() - {layout}:
    with pytest.raises(ValueError, match=r'dev\.jsonl:1: .*: got .*; expected'):
      solutions.read(file, layout=other)


@LAYOUTS
def test_an_array_is_read_as_lines_are(file, layout):
  from_lines = read(file, ROWS[layout])
  file.write_text(json.dumps([ROWS[layout]], indent=4))
  from_array = solutions.read(file)
  assert [(r.id, r.text, r.parsed) for r in from_array] == [
    (r.id, r.text, r.parsed) for r in from_lines
  ]


def test_an_unknown_layout_lists_the_choices(file):
  with pytest.raises(ValueError, match="layout: got 'math'.*'processbench'"):
    read(file, PROCESSBENCH, layout='math')
  with pytest.raises(ValueError, match='not processbench .*, not ranking'):
    read(file, {'question': 'What?', 'answer': '5'})


def test_siblings_share_a_problem_wherever_they_stand(file):
  rows = [
    PROCESSBENCH | {'id': f'p-{i}', 'problem': question}
    for i, question in enumerate(['What?', 'Why?', ' What?\n', 'Why?', 'What?'])
  ]
  records = read(file, *rows)
  assert [r.id for r in records] == [
    'p-0/solve.0', 'p-1/solve.0', 'p-0/solve.1', 'p-1/solve.1', 'p-0/solve.2'
  ]  # fmt: skip
  assert [r.parsed['row_id'] for r in records] == [f'p-{i}' for i in range(5)]
  assert records[0].problem is records[2].problem is records[4].problem


CHANGES = {
  'processbench': [
    {'steps': []},
    {'steps': 'one'},
    {'steps': ['one', ' ']},
    {'steps': ['one', None]},
    {'steps': ['\ud800', 'two']},
    {'label': 2},
    {'label': -2},
    {'label': 0.0},
    {'label': False},
    {'label': None},
    {'final_answer_correct': 1},
    {'final_answer_correct': None},
    {'problem': ''},
    {'generator': 7},
    {'id': 'a/b'},
    {'id': 'new\nline'},
    {'id': ''},
  ],
  'prm800k': [{'complete': None}, {'answer': ['9']}, {'answer': '9' * 2000}],
  'triples': [
    {'solution': ' '},
    {'correct': 'true'},
    {'generator': None},
    {'reference': 'It is 1200.'},
    {'reference': 'A: 1200\nno more'},
    {'reference': 'It is\nA: '},
  ],
  'rewardmath': [
    {'solution_type': 'right'},
    {'eval_solution': 'So 6.'},
    {'solution_reference': ''},
    {'answer': None},
    {'answer': 'Work:\n5'},
    {'problem_id': 'a/b'},
  ],
  'ranking': [{'chosen': []}, {'rejected': None}, {'rejected': [['6']]}],
}


@pytest.mark.parametrize(
  ('layout', 'change'),
  [(layout, change) for layout, all_ in CHANGES.items() for change in all_],
)
def test_a_bad_row_is_an_error_or_skipped(file, layout, change):
  good = ROWS[layout]
  write(file, good, good | {'id': 'other'} | change, good | {'id': 'last'})
  where = r'dev\.jsonl:2: .*: got .*; expected '
  with pytest.raises(ValueError, match=where):
    solutions.read(file)
  reports = []
  records = solutions.read(file, bad_rows='skip', report=reports.append)
  row_ids = list(dict.fromkeys(r.parsed['row_id'] for r in records))
  assert row_ids[1:] == ['last']
  assert '1 of 3 rows skipped' in reports[0] and len(reports[0]) < 1000


def test_an_id_belongs_to_one_row_and_one_question(file):
  with pytest.raises(ValueError, match=":2: id: got 'gsm8k-0' again; expected"):
    read(file, PROCESSBENCH, PROCESSBENCH)
  other = REWARDMATH | {'id': 1, 'problem': 'What else?'}
  with pytest.raises(ValueError, match=":2: problem: got another .*'dev-399'"):
    read(file, REWARDMATH, other)


def read_six(file):
  """Reads six solutions; 0 and 3, 1 and 4, 2 and 5 are siblings."""
  rows = [
    PROCESSBENCH | {'id': f'p-{i}', 'problem': f'What is {i % 3}?'}
    for i in range(6)
  ]
  return read(file, *rows)


def test_a_sample_keeps_order_and_ids(file):
  records = read_six(file)
  assert solutions.sample(records, 4) == records[:4]
  subset = solutions.sample(records, 4, seed=0)
  assert len(subset) == 4
  assert subset == [r for r in records if r in subset]
  assert subset == solutions.sample(records, 4, seed=0)
  seeds = [solutions.sample(records, 4, seed=seed) for seed in range(5)]
  assert any(sample != subset for sample in seeds)
  assert solutions.sample(records, 6, seed=1) == records


def test_a_sample_of_problems_keeps_their_solutions(file):
  records = read_six(file)
  assert solutions.sample(records, 1, by='problem') == [records[0], records[3]]
  assert {
    tuple(r.id for r in solutions.sample(records, 1, seed=seed, by='problem'))
    for seed in range(20)
  } == {(f'p-{i}/solve.0', f'p-{i}/solve.1') for i in range(3)}


def test_a_sample_draws_all_solutions_alike(file):
  records = read_six(file)
  counts = np.zeros(6)
  for seed in range(600):
    for record in solutions.sample(records, 2, seed=seed):
      counts[records.index(record)] += 1
  # Each is drawn with chance 1/3: mean 200, deviation sqrt(600 * 2/9) = 11.5.
  assert np.all(np.abs(counts - 200) < 5 * 11.5)


@pytest.mark.parametrize('number', [0, -1, 7])
def test_a_sample_of_more_than_there_are_is_an_error(file, number):
  records = read_six(file)
  with pytest.raises(
    ValueError, match=f'number: got {number}; expected 1 to 6'
  ):
    solutions.sample(records, number, seed=0)
  with pytest.raises(ValueError, match='expected 1 to 3 with by=.problem'):
    solutions.sample(records, 4, by='problem')
  with pytest.raises(ValueError, match="by: got 'row'; expected one of"):
    solutions.sample(records, 1, by='row')


@pytest.mark.skipif(not SHARED.exists(), reason='no shared data')
@pytest.mark.parametrize(
  ('name', 'rows', 'problems', 'right', 'erroneous'),
  [
    ('dev_mr_gsm8k', 912, 860, 452, 460),
    ('dev_gsm8k_triples', 3388, 847, 1404, 0),
    ('train_prm800k_cases', 4932, 871, 801, 4131),
  ],
)
def test_the_published_files(name, rows, problems, right, erroneous):
  records = solutions.read(SHARED / f'{name}.jsonl')
  assert len(records) == len({r.id for r in records}) == rows
  assert len({id(r.problem) for r in records}) == problems
  assert sum(r.parsed.get('correct', False) for r in records) == right
  labels = [r.parsed.get('first_error', -1) for r in records]
  assert sum(label >= 0 for label in labels) == erroneous


OUTPUT = {'question': 'What is 2 + 3?', 'solution': 'It is \\boxed{6}.'}


@pytest.mark.parametrize(
  ('facts', 'expected'),
  [
    ({'correct': False}, {'correct': False, 'grade': 'wrong'}),
    ({'correct': 'Yes'}, {'correct': True, 'grade': 'right'}),
    ({'correct': 1, 'answer': 5}, {'correct': True, 'grade': 'right'}),
    ({'answer': '5', 'generator': 'm'}, {'grade': 'open', 'generator': 'm'}),
    ({'answer': '5', 'correct': None}, {'grade': 'open'}),
  ],
)
def test_outputs_of_a_model(file, facts, expected):
  [record] = solutions.read(write(file, OUTPUT | facts), layout='outputs')
  assert record.text == 'It is \\boxed{6}.'
  assert record.problem.answer == str(facts.get('answer', ''))
  known = {n: v for n, v in record.parsed.items() if n in (
    'correct', 'grade', 'generator')}  # fmt: skip
  assert known == expected
  assert record.parsed['answer'] == '6'


@pytest.mark.parametrize(
  ('change', 'reason'),
  [
    ({}, 'correct: got neither it nor an answer; .*columns=.correct=COLUMN'),
    ({'correct': 'maybe'}, "correct: got 'maybe'; expected one of true, fal"),
    ({'correct': 2}, 'correct: got 2; expected one of true, false'),
    ({'correct': True, 'solution': ' '}, "solution: got ' '; expected a te"),
    ({'correct': True, 'question': None}, 'problem: got no such field'),
    ({'correct': True, 'reference': 'x'}, 'reference: got one; expected no'),
  ],
)
def test_outputs_that_nobody_can_judge(file, change, reason):
  write(file, OUTPUT | {'correct': True}, OUTPUT | {'id': 'b'} | change)
  with pytest.raises(ValueError, match=rf':2: {reason}'):
    solutions.read(file, layout='outputs')
