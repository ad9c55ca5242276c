"""Layouts of published preferences, good rows and hostile ones."""

import json
import re

import pytest

from critic_jax import lookup
from critic_jax.data import preference_files, preference_rows, sources

ASKED = 'What is 2 + 3?'
USER = {'role': 'user', 'content': ASKED}
SYSTEM = {'role': 'system', 'content': 'Be short.'}


def said(text):
  return {'role': 'assistant', 'content': text}


FIRST = [{'role': 'user', 'content': 'Hi'}, said('Hello'), USER]
HH = '\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: What is 2 + 3?'
PAIR = {'prompt': ASKED, 'chosen': '5', 'rejected': '6'}
LABELLED = {
  'prompt': ASKED, 'response_a': '5', 'response_b': '6', 'winner': 'a'
}  # fmt: skip
LISTED = {
  'prompt': ASKED,
  'responses': ['5', '6', '7'],
  'scores': [9, 2.5, 2.5],
}
RATED = {
  'prompt': ASKED, 'response': '5', 'helpfulness': 4, 'correctness': 3,
  'coherence': 4, 'complexity': 0, 'verbosity': 1,
}  # fmt: skip
UNPAIRED = {'prompt': ASKED, 'completion': '5', 'label': True}
ROWS = {
  'pairs': PAIR, 'labels': LABELLED, 'responses': LISTED, 'attributes': RATED,
  'unpaired': UNPAIRED,
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
  return tmp_path / 'p.jsonl'


def read(path, *rows, report=print, **settings):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return preference_files.read(path, report=report, **settings)


def liked(comparison):
  """Returns the texts of a comparison and their 'preference'."""
  return {r.text: r.scores.get('preference') for r in comparison.responses}


def without(row, *names):
  return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize(
  ('row', 'messages'),
  [
    (PAIR, [USER]),
    # As TRL has it: messages on all sides.
    ({'prompt': [USER], 'chosen': [said('5')], 'rejected': [said('6')]},
     [USER]),
    # Prompts within both sides, beside the prompt or alone.
    ({'prompt': ASKED, 'chosen': [USER, said('5')],
      'rejected': [USER, said(' 6 ')]}, [USER]),
    ({'chosen': [*FIRST, said('5')], 'rejected': [*FIRST, said('6')]}, FIRST),
    ({'chosen': f'{HH}\n\nAssistant: 5', 'rejected': f'{HH}\n\nAssistant: 6'},
     FIRST),
    ({'prompt': f'{HH}\n\nAssistant:', 'chosen': ' 5', 'rejected': '6'}, FIRST),
    ({'prompt': ASKED, 'chosen': f'{ASKED}\n5', 'rejected': f'{ASKED} 6'},
     [USER]),
    ({'system': 'Be short.', 'question': ASKED, 'chosen': '5', 'rejected': '6'},
     [SYSTEM, USER]),
    ({'system': 'Be short.', 'chosen': [USER, said('5')],
      'rejected': [USER, said('6')]}, [SYSTEM, USER]),
    # As others call roles.
    ({'chosen': [{'from': 'human', 'value': ASKED},
                 {'from': 'gpt', 'value': '5'}],
      'rejected': [USER, said('6')]}, [USER]),
    ({'Instruction': ASKED, 'Chosen': '5', 'Rejected': '6'}, [USER]),
    (LABELLED, [USER]),
    ({'prompt': ASKED, 'response_0': '6', 'response_1': '5',
      'better_response_id': 1}, [USER]),
    ({'context': FIRST, 'response1': '5', 'response2': '6',
      'overall_preference': -2}, FIRST),
    ({'conversation_a': [USER, said('6')], 'conversation_b': [USER, said('5')],
      'winner': 'model_b'}, [USER]),
    ({'prompt': ASKED, 'output_1': '5', 'output_2': '6', 'preference': 1},
     [USER]),
  ],
)  # fmt: skip
def test_a_pair_in_all_its_forms(file, row, messages):
  (comparison,) = read(file, row)
  assert liked(comparison) == {'5': 1.0, '6': 0.0}
  assert list(comparison.messages) == messages
  assert comparison.problem.id == 'p-0' and not comparison.problem.answer
  # A split knows a prompt by all its texts.
  texts = [message['content'] for message in messages]
  assert comparison.problem.question == '\n\n'.join(texts)
  for index, record in enumerate(comparison.responses):
    assert record.id == f'p-0/solve.{index}' and not record.tokens.size
    assert record.problem is comparison.problem and not record.parsed


def test_a_side_may_be_a_list_and_have_a_score(file):
  row = PAIR | {'rejected': ['6', ' 7 '], 'score_chosen': 8.5,
                'score_rejected': '2'}  # fmt: skip
  (comparison,) = read(file, row)
  assert liked(comparison) == {'5': 1.0, '6': 0.0, '7': 0.0}
  assert [r.scores['score'] for r in comparison.responses] == [8.5, 2.0, 2.0]


@pytest.mark.parametrize(
  'row',
  [
    LABELLED | {'winner': 'tie'},
    LABELLED | {'winner': 'Tie (bothbad)'},
    {'context': [USER], 'response1': '5', 'response2': '6',
     'overall_preference': 0},
  ],
)  # fmt: skip
def test_a_tie_prefers_neither(file, row):
  lines = []
  comparisons = read(file, row, LABELLED, report=lines.append,
                     layout='labels') if 'winner' in row else read(
    file, row, report=lines.append)  # fmt: skip
  assert liked(comparisons[0]) == {'5': 1.0, '6': 1.0}
  assert re.search('1 of . prompts have ties only', lines[0])


@pytest.mark.parametrize(
  ('row', 'expected'),
  [
    (LISTED, {'5': 9.0, '6': 2.5, '7': 2.5}),
    ({'instruction': ASKED, 'completions': [
      {'response': '5', 'overall_score': 7.5, 'model': 'a'},
      {'response': '6', 'overall_score': '3'}]}, {'5': 7.5, '6': 3.0}),
    # The first rank is the best.
    ({'prompt': HH, 'answers': [{'answer': '6', 'rank': 2},
                                {'answer': '5', 'rank': 1}]},
     {'6': -2.0, '5': -1.0}),
  ],
)  # fmt: skip
def test_lists_of_scored_responses(file, row, expected):
  (comparison,) = read(file, row)
  assert liked(comparison) == expected


def test_columns_have_names_of_ours(file):
  row = {'q': ASKED, 'all_responses': ['5', '6'], 'rm': [1, 0]}
  columns = 'prompt=q,responses=all_responses,scores=rm'
  (comparison,) = read(file, row, columns=columns)
  assert liked(comparison) == {'5': 1.0, '6': 0.0}


def test_rows_of_one_response_are_joined_by_their_prompt(file):
  other = RATED | {'response': '6', 'helpfulness': 1.5}
  comparisons = read(
    file, RATED, RATED | {'prompt': 'Else?'}, other, without(RATED, 'coherence')
    | {'response': '7'},
  )  # fmt: skip
  assert [len(c.responses) for c in comparisons] == [3, 1]
  first, second, third = comparisons[0].responses
  assert first.scores == dict(
    helpfulness=4, correctness=3, coherence=4, complexity=0, verbosity=1
  )
  assert second.scores['helpfulness'] == 1.5
  assert 'coherence' not in third.scores and second.index == 1


def test_unpaired_responses_have_labels(file):
  rows = [
    UNPAIRED,
    UNPAIRED | {'completion': [said('6')], 'label': 'no'},
    UNPAIRED,
    UNPAIRED | {'prompt': [USER | {'content': 'Else?'}]},
  ]
  comparisons = read(file, *rows)
  assert [len(c.responses) for c in comparisons] == [2, 1]
  assert liked(comparisons[0]) == {'5': 1.0, '6': 0.0}
  labels = [r.parsed['label'] for r in comparisons[0].responses]
  assert labels == [True, False]


@pytest.mark.parametrize('layout', ROWS)
def test_a_row_has_one_layout(layout, file):
  lookup.check_name('layout', layout, preference_rows.LAYOUTS)
  assert read(file, ROWS[layout]) and read(file, ROWS[layout], layout=layout)
  for other in set(ROWS) - {layout}:
    with pytest.raises(ValueError, match='p.jsonl:1: '):
      read(file, ROWS[layout], layout=other)


@pytest.mark.parametrize(
  ('layout', 'row', 'reason'),
  [
    ('pairs', PAIR | {'chosen': ''}, "chosen: got ''; expected a text"),
    ('pairs', PAIR | {'chosen': None}, 'chosen: got nothing; expected a text'),
    ('pairs', without(PAIR, 'rejected'), 'rejected: got no such field'),
    ('pairs', PAIR | {'rejected': ' 5'},
     "rejected: got '5' twice, and not liked alike; expected texts that"),
    ('pairs', PAIR | {'rejected': ['6', '5']}, "rejected: got '5' twice"),
    ('pairs', PAIR | {'rejected': []}, 'rejected: got no message; expected'),
    ('pairs', PAIR | {'rejected': ['6', '']}, r'rejected\[1\]: got .*; exp'),
    ('pairs', PAIR | {'rejected': 7}, 'rejected: got 7; expected a text'),
    ('pairs', PAIR | {'chosen': [[]]}, r'chosen\[0\]: got \[\]; expected a m'),
    ('pairs', without(PAIR, 'prompt'),
     "prompt: got none; .*--config.data.columns='prompt=COLUMN'"),
    ('pairs', PAIR | {'prompt': '\ud800'}, 'expected no lone surrogate'),
    ('pairs', PAIR | {'prompt': [said('Hi')]},
     'prompt: got a last message of the assistant; expected the user'),
    ('pairs', PAIR | {'chosen': [USER]},
     'chosen: got a last message of the user; expected the assistant'),
    ('pairs', PAIR | {'chosen': [FIRST[0], said('5')]},
     "chosen: got messages after another prompt than 'What is 2"),
    ('pairs', {'chosen': [USER, said('5')], 'rejected': [*FIRST, said('6')]},
     'rejected: got another prompt before it; expected one'),
    ('pairs', PAIR | {'chosen': [USER, {'role': 'tool', 'content': '5'}]},
     r"chosen\[1\]: got the role 'tool'; expected one of"),
    ('pairs', PAIR | {'chosen': [USER, {'role': 'assistant', 'content': [1]}]},
     'content: got .*; expected a text'),
    ('pairs', PAIR | {'score_chosen': 'high'},
     "score_chosen: got 'high'; expected a number"),
    ('labels', LABELLED | {'winner': 'c'},
     "winner: got 'c'; expected 'a', 'b' or 'tie'"),
    ('labels', LABELLED | {'winner': True}, 'winner: got True; expected'),
    ('labels', without(LABELLED, 'winner'), 'winner: got no such field'),
    ('labels', LABELLED | {'response_b': '5'}, "response_b: got '5' twice"),
    ('labels', without(LABELLED, 'response_b'), 'got no two responses; expec'),
    ('responses', LISTED | {'scores': [1, 2]},
     r'scores: got \[1, 2\]; expected 3 numbers, one for each of responses'),
    ('responses', LISTED | {'scores': [1, 2, True]}, 'scores: got True; expe'),
    ('responses', LISTED | {'scores': [1, 2, '1e999']}, "scores: got '1e999'"),
    ('responses', LISTED | {'responses': ['5'], 'scores': [1]},
     'responses: got 1; expected two or more'),
    ('responses', LISTED | {'responses': ['5', '6', '5']}, "got '5' twice"),
    ('responses', {'prompt': ASKED, 'answers': [{'answer': '6', 'rank': 'a'},
                                                {'answer': '5', 'rank': 1}]},
     "rank: got 'a'; expected a number"),
    ('attributes', RATED | {'verbosity': 'much'}, "verbosity: got 'much'"),
    ('unpaired', UNPAIRED | {'label': 'maybe'}, "label: got 'maybe'; expected"),
    ('unpaired', UNPAIRED | {'completion': ' '}, "completion: got ' '; expe"),
  ],
)  # fmt: skip
def test_hostile_rows_are_refused_in_a_line(file, layout, row, reason):
  with pytest.raises(ValueError) as refused:
    read(file, ROWS[layout], row, layout=layout)
  text = str(refused.value)
  assert re.search(reason, text), text
  assert text.startswith(f'{file}:2: ') and '\n' not in text
  lines = []
  rows = read(
    file, ROWS[layout], row, layout=layout, bad_rows='skip',
    report=lines.append,
  )  # fmt: skip
  assert len(rows) == 1 and '1 of 2 rows skipped' in lines[0]


def test_a_response_is_rated_once(file):
  with pytest.raises(ValueError, match=r"p.jsonl:2: row: got '5' again, rated"):
    read(file, RATED, RATED | {'verbosity': 4})
  with pytest.raises(ValueError, match="row: got '5' again, rated otherwise"):
    read(file, UNPAIRED, UNPAIRED | {'label': False})


def test_a_file_without_a_layout_says_which_columns_to_name(file):
  with pytest.raises(ValueError) as refused:
    read(file, {'instruction': ASKED, 'win': '5', 'lose': '6'})
  assert (
    "--config.data.columns='prompt=instruction,chosen=win,rejected=lose'"
    in str(refused.value)
  )


# ------------------------------------------------------------------ sources


def test_splits_share_no_prompt_and_files_may_differ_in_layout(tmp_path):
  rows = [PAIR | {'prompt': f'What is {i} + 3?'} for i in range(60)]
  kept = [UNPAIRED | {'prompt': f'What is {i} + 3?'} for i in range(40, 80)]
  for name, its_rows in (('a', rows), ('b', kept)):
    (tmp_path / f'{name}.jsonl').write_text(
      '\n'.join(map(json.dumps, its_rows))
    )
  section = dict(
    name='preferences',
    paths=dict(train=f'{tmp_path}/a.jsonl,{tmp_path}/b.jsonl', dev='', test=''),
    fractions=dict(train=0.5, dev=0.0, test=0.5),
  )
  splits = lookup.bind(sources, section)()
  prompts = {
    name: {c.problem.question for c in split} for name, split in splits.items()
  }
  assert len(splits['train']) + len(splits['test']) == 100
  assert prompts['train'] and not prompts['train'] & prompts['test']
  ids = [c.problem.id for split in splits.values() for c in split]
  assert len({*ids}) == 100 and {i[0] for i in ids} == {'a', 'b'}


# -------------------------------------------------------------- what is left

SETTINGS = dict(
  score=dict(preference=1.0, helpfulness=0.0), margin={}, max_responses=3,
  objective='dpo',
)  # fmt: skip


def check(file, *rows, **changes):
  preference_files.check(read(file, *rows), **SETTINGS | changes)


def test_what_teaches_something_passes(file):
  check(file, PAIR)
  check(file, LABELLED, LABELLED | {'winner': 'tie'})
  check(file, LISTED, margin=dict(preference=1.0))
  rated = dict(score=dict(helpfulness=1.0), margin=dict(verbosity=-1.0))
  check(file, RATED, RATED | {'response': '6', 'helpfulness': 1}, **rated)
  other = UNPAIRED | {'completion': '6', 'label': False}
  check(file, UNPAIRED, other)
  check(file, UNPAIRED, other | {'prompt': 'Else?'}, objective='kto')


@pytest.mark.parametrize(
  ('rows', 'changes', 'reason'),
  [
    ([LABELLED | {'winner': 'tie'}], {},
     'data: got 1 prompts, at none of which a response is preferred to'),
    ([RATED], dict(score=dict(helpfulness=1.0)), 'got 1 prompts, at none'),
    ([UNPAIRED, UNPAIRED | {'completion': '6'}], {}, "objective.name='kto'"),
    ([UNPAIRED, UNPAIRED | {'completion': '6'}], dict(objective='kto'),
     r'data: got responses with the labels \[True\] only; expected true and f'),
    ([LISTED], dict(max_responses=2),
     'max_responses: got 2, but p-0 has 3 responses; expected at least as'),
    ([RATED], {}, "score: got a weight of 'preference', but p-0/solve.0 has .*"
     'helpfulness.*; set score.preference=0'),
    ([PAIR], dict(margin=dict(score=1.0)), "margin: got a weight of 'score'"),
  ],
)  # fmt: skip
def test_what_teaches_nothing_is_refused_at_once(file, rows, changes, reason):
  with pytest.raises(ValueError) as refused:
    check(file, *rows, **changes)
  text = str(refused.value)
  assert re.search(reason, text), text
  assert '\n' not in text
