import inspect
import json

import pytest

from critic_jax import lookup
from critic_jax.data import sources
from critic_jax.rewards import ratings
from critic_jax.tasks import arithmetic


def sizes(splits):
  return {name: len(split) for name, split in splits.items()}


def test_the_embedded_world_by_a_config():
  splits = lookup.bind(
    sources,
    dict(name='arithmetic', num_train=30, num_dev=4, num_test=5, max_steps=3),
  )()
  assert sizes(splits) == {'train': 30, 'dev': 4, 'test': 5}
  programs = [
    arithmetic.read_program(p) for split in splits.values() for p in split
  ]
  train, other_programs = set(programs[:30]), set(programs[30:])
  assert not train & other_programs
  assert splits == sources.arithmetic(
    num_train=30, num_dev=4, num_test=5, max_steps=3
  )


def test_slates_of_the_test_come_in_several_orders():
  settings = dict(num_train=20, num_test=3, num_responses=4, num_orders=5)
  splits = lookup.bind(sources, dict(name='slates', **settings))()
  assert sizes(splits) == {'train': 20, 'test': 15}
  assert len({record.id for s in splits.values() for record in s}) == 35
  for start in range(0, 15, 5):
    group = splits['test'][start : start + 5]
    assert len({record.problem.id for record in group}) == 1
    slates = [ratings.read(record) for record in group]
    assert len({tuple(slate.responses) for slate in slates}) == 1
    assert len({tuple(slate.order) for slate in slates}) > 1
  again = sources.slates(**settings)
  for split, records in splits.items():
    pairs = zip(records, again[split], strict=True)
    assert all(a.parsed == b.parsed for a, b in pairs)
  assert sizes(sources.slates(num_test=2, num_orders=1)) == {'test': 2}


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(num_responses=1), 'num_responses: got 1 and num_orders=8'),
    (dict(num_responses=0), 'num_responses: got 0'),
    (dict(num_right=3), 'num_right: got 3 of num_responses=3'),
    (dict(num_orders=0), 'num_orders: got 0'),
    (dict(num_test=0), 'num_test: got 0'),
    (dict(low=10, high=1), 'low, high: got 10 and 1'),
    (dict(tolerance=9), 'tolerance: got 9'),
  ],
)
def test_slates_that_nobody_can_score(settings, message):
  with pytest.raises(ValueError, match=message):
    sources.slates(**settings)


def test_given_actions_are_half_wrong_and_seeded():
  settings = dict(num_train=20, num_test=6, seed=3)
  splits = lookup.bind(sources, dict(name='screens', **settings))()
  assert sizes(splits) == {'train': 20, 'test': 6}
  for records in splits.values():
    assert [r.parsed['correct'] for r in records[:4]] == [True, False] * 2
  again = sources.screens(**settings)
  assert [r.text for r in splits['train']] == [r.text for r in again['train']]
  others = sources.screens(**settings | dict(seed=4))
  assert [r.text for r in splits['test']] != [r.text for r in others['test']]
  assert sizes(sources.screens(num_test=2)) == {'test': 2}


def test_episodes_begin_with_an_empty_form():
  splits = lookup.bind(
    sources, dict(name='screen_episodes', num_test=5, slack=3)
  )()
  assert sizes(splits) == {'test': 5}
  for record in splits['test']:
    assert record.parsed['episode']['turn'] == 1
    num_actions = len(record.problem.solution.splitlines())
    assert record.parsed['episode']['left'] == num_actions + 3


def test_given_statements_are_half_wrong_and_seeded():
  settings = dict(num_train=20, num_test=6, seed=3, refused_share=0.5)
  splits = lookup.bind(sources, dict(name='statements', **settings))()
  assert sizes(splits) == {'train': 20, 'test': 6}
  for records in splits.values():
    assert [r.parsed['correct'] for r in records[:4]] == [True, False] * 2
  again = sources.statements(**settings)
  assert [r.text for r in splits['train']] == [r.text for r in again['train']]
  others = sources.statements(**settings | dict(seed=4))
  assert [r.text for r in splits['test']] != [r.text for r in others['test']]
  assert sizes(sources.statements(num_test=2)) == {'test': 2}
  questions = [{r.problem.question for r in part} for part in splits.values()]
  assert not set.intersection(*questions)


@pytest.mark.parametrize(
  'source', [sources.statements, sources.statement_trials]
)
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(refused_share=1.5), 'refused_share: got .* 1.5; expected numbers'),
    (dict(num_test=0), 'num_test: got 0'),
    (
      dict(checker=dict(command=['lake-of-nobody'])),
      "checker: got 'lake-of-nobody', which is not there",
    ),
  ],
)
def test_statements_that_nobody_drafts_or_checks(source, settings, message):
  with pytest.raises(ValueError, match=message):
    source(**settings)
  with pytest.raises(ValueError, match='max_tries: got 0'):
    sources.statement_trials(max_tries=0)


def test_trials_begin_with_what_passes():
  splits = lookup.bind(
    sources, dict(name='statement_trials', num_test=5, max_tries=9)
  )()
  assert sizes(splits) == {'test': 5}
  for record in splits['test']:
    episode = record.parsed['episode']
    assert record.parsed['checked']
    assert episode['turn'] + episode['left'] == 10


@pytest.mark.parametrize('source', [sources.screens, sources.screen_episodes])
@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(error_share=1.0), 'error_share: got 1.0; expected a number of 0'),
    (dict(error_share=-0.1), 'error_share: got -0.1'),
    (dict(error_share=float('nan')), 'error_share: got nan'),
    (dict(num_test=0), 'num_test: got 0'),
    (dict(num_test=True), 'num_test: got True'),
  ],
)
def test_agents_that_reach_nothing(source, settings, message):
  with pytest.raises(ValueError, match=message):
    source(**settings)


def test_turns_are_not_fewer_than_a_goal_takes():
  with pytest.raises(ValueError, match='slack: got -1'):
    sources.screen_episodes(slack=-1)
  with pytest.raises(ValueError, match='num_train: got -1'):
    sources.screens(num_train=-1)


def test_a_file_is_split_once_and_for_all(tmp_path):
  rows = [
    dict(question=f'What is {i} + 1?', answer=f'It is {i + 1}.\n#### {i + 1}')
    for i in range(200)
  ]
  path = tmp_path / 'sums.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  config = dict(name='files', paths=str(path), data_dir=str(tmp_path / 'data'))
  splits = lookup.bind(sources, config)()
  assert sum(sizes(splits).values()) == 200
  # 90, 5 and 5 of 100 by the hash of the question: 180, 10, 10, roughly.
  assert len(splits['train']) > 160
  questions = {
    name: {p.question for p in split} for name, split in splits.items()
  }
  assert not questions['train'] & questions['test']
  assert not questions['train'] & questions['dev']
  assert not questions['dev'] & questions['test']
  sources_again = lookup.bind(sources, config)()
  assert {n: list(s) for n, s in sources_again.items()} == {
    n: list(s) for n, s in splits.items()
  }
  # A row more moves no other row to another split.
  path.write_text(
    '\n'.join(map(json.dumps, [*rows, dict(question='?', answer='#### 1')]))
  )
  larger_sources = lookup.bind(sources, config)()
  for name in questions:
    assert questions[name] <= {p.question for p in larger_sources[name]}


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match='nowhere.jsonl.*no such file'):
    sources.files(
      paths={'train': str(tmp_path / 'nowhere.jsonl')},
      data_dir=str(tmp_path / 'data'),
    )


def test_an_unknown_source_lists_the_choices():
  with pytest.raises(ValueError, match="did you mean 'arithmetic'"):
    lookup.bind(sources, dict(name='arithmetics'))
  with pytest.raises(ValueError, match='num_trian'):
    lookup.bind(sources, dict(name='arithmetic', num_trian=3))


def test_sources_take_settings_only():
  for name in ('arithmetic', 'files', 'tfds'):
    parameters = inspect.signature(getattr(sources, name)).parameters.values()
    assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}


def test_two_files_must_not_hold_the_same_ids(tmp_path):
  row = dict(id='p-1', problem='x?', steps=['a'], label=-1, complete=True)
  paths = [tmp_path / 'a.jsonl', tmp_path / 'b.jsonl']
  for path in paths:
    path.write_text(json.dumps(row))
  reasons = {'paths: got 1 solutions again in': paths}
  reasons['paths: got .*a.jsonl twice; expected each file once'] = paths[:1] * 2
  for reason, file_pair in reasons.items():
    with pytest.raises(ValueError, match=reason):
      sources.solutions(paths=[str(path) for path in file_pair])
  paths[1].write_text(json.dumps(row | {'id': 'p-2'}))
  assert (
    len(sources.solutions(paths=[str(path) for path in paths])['test']) == 2
  )


# --------------------------------------------------------- given solutions


def write_solutions(path, numbers, generators='ab'):
  """Writes a file with a solution of each generator to each question."""
  rows = [
    dict(
      question=f'What is {i} + 1?', solution=f'It is {i + 1}.',
      correct=name == 'a', generator=name, id=f'{path.stem}-{i}-{name}',
    )
    for i in numbers for name in generators
  ]  # fmt: skip
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


def questions(splits):
  return {
    name: {record.problem.question for record in split}
    for name, split in splits.items()
  }


def test_all_solutions_of_a_question_are_in_one_split(tmp_path):
  """Also those of another file; the shares are those of the questions."""
  path = write_solutions(tmp_path / 'x.jsonl', range(200))
  other = write_solutions(tmp_path / 'y.jsonl', range(100), 'c')
  config = dict(
    name='solutions',
    paths=dict(train=f'{path},{other}', dev='', test=''),
    fractions=dict(train=0.5, dev=0.0, test=0.5),
  )
  splits = lookup.bind(sources, config)()
  assert sum(sizes(splits).values()) == 500 and not splits['dev']
  by_split = questions(splits)
  assert not by_split['train'] & by_split['test']
  assert 60 < len(by_split['train']) < 140
  # A file of problems is split alike.
  rows = [dict(question=f'What is {i} + 1?', answer=i + 1) for i in range(200)]
  problem_file = tmp_path / 'p.jsonl'
  problem_file.write_text('\n'.join(map(json.dumps, rows)))
  problems = sources.files(
    paths=str(problem_file), fractions=config['fractions'], data_dir=''
  )
  assert {p.question for p in problems['train']} == by_split['train']
  # Another seed splits otherwise.
  other_seed = lookup.bind(sources, config | dict(seed=1))()
  assert questions(other_seed)['train'] != by_split['train']


def test_a_question_that_is_measured_on_is_not_trained_on(tmp_path, capsys):
  train = write_solutions(tmp_path / 'x.jsonl', range(20))
  test = write_solutions(tmp_path / 'y.jsonl', range(15, 30), 'c')
  splits = sources.solutions(
    paths=dict(train=train, test=test), fractions=dict(train=0.8, dev=0.2)
  )
  by_split = questions(splits)
  assert len(by_split['test']) == len(splits['test']) == 15
  assert by_split['train'] | by_split['dev'] == {
    f'What is {i} + 1?' for i in range(15)
  }
  assert not by_split['train'] & by_split['dev']
  assert '10 of 40 questions of train are in test' in capsys.readouterr().out


def test_a_path_without_a_split_is_not_trained_on(tmp_path):
  path = write_solutions(tmp_path / 'x.jsonl', range(5))
  assert sizes(sources.solutions(paths=path)) == {'test': 10}
  drawn = sources.solutions(paths=dict(test=path), number=2, by='problem')
  assert sizes(drawn) == {'test': 4}


def test_slips_can_be_trained_on():
  splits = sources.arithmetic_slips(num_train=6, num_test=4)
  assert sizes(splits) == {'train': 6, 'test': 4}
  assert sources.arithmetic_slips(num_test=4).keys() == {'test'}
  by_split = questions(splits)
  assert not by_split['train'] & by_split['test']
  labels = [r.parsed['first_error'] for r in splits['train']]
  assert [label == -1 for label in labels] == [True, False] * 3
