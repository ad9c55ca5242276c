"""A run's folder: written whole, resumed exactly, read back as it was."""

import gzip
import inspect
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import synthetic_run
from ml_collections import ConfigDict

from configs import common
from critic_jax import strict_json
from critic_jax.data import sources
from critic_jax.types import Problem
from critic_jax.workdir import provenance, run_dir, settings

CONFIG = {'seed': 0, 'loss': {'name': 'ppo_clip', 'clip': (0.2, 0.28)}}


def lines(run):
  return (run.path / 'metrics.jsonl').read_text().splitlines()


def test_a_new_folder_says_what_is_run(tmp_path, monkeypatch):
  monkeypatch.setattr('sys.orig_argv', ['train', '--config', 'a b'])
  run = run_dir.open_run(
    tmp_path / 'run',
    {'b': np.int32(1), 'a': {'d': 2, 'c': float('inf')}},
    overrides={'a.d': 2},
    devices='cpu x2',
  )
  # Sorted, and plain: numpy's 1 is 1, and JSON has no infinity.
  assert json.loads((run.path / 'config.json').read_text()) == {
    'a': {'c': 'inf', 'd': 2},
    'b': 1,
  }
  assert (run.path / 'config.json').read_text().index('"a"') < 5
  assert json.loads((run.path / 'overrides.json').read_text()) == {'a.d': 2}
  assert (run.path / 'command.txt').read_text() == "train --config 'a b'\n"
  environment = (run.path / 'env.txt').read_text()
  assert 'devices cpu x2' in environment
  assert f'numpy=={np.__version__}' in environment
  assert (run.path / 'git.txt').exists()


def test_git_state_has_commit_and_diff(tmp_path):
  def git(*words):
    command = ['git', '-C', str(tmp_path), '-c', 'user.name=a']
    command += ['-c', 'user.email=a@b', *words]
    subprocess.run(command, check=True, capture_output=True)

  git('init')
  (tmp_path / 'file').write_text('old\n')
  git('add', '.')
  git('commit', '-m', 'first')
  (tmp_path / 'file').write_text('new\n')
  state = provenance.git_state(tmp_path)
  assert state.startswith('commit ') and '-old\n+new' in state


def test_the_same_config_resumes_and_another_is_refused(tmp_path, monkeypatch):
  run = run_dir.open_run(tmp_path, CONFIG)
  run.failed('trace')
  run.close()
  monkeypatch.setattr('sys.orig_argv', ['again'])
  run_dir.open_run(tmp_path, CONFIG).close()
  assert not (tmp_path / 'FAILED').exists()
  assert (tmp_path / 'command.txt').read_text().endswith('\nagain\n')
  other = {'seed': 1, 'loss': {'name': 'ppo_clip'}, 'new': None}
  with pytest.raises(ValueError) as error:
    run_dir.open_run(tmp_path, other)
  message = str(error.value)
  assert 'seed=1 (saved: 0)' in message
  assert 'loss.clip=(absent) (saved: [0.2, 0.28])' in message
  assert 'new=null (saved: (absent))' in message
  assert 'git.txt names the commit' in message
  assert 'ppo_clip' not in message
  run_dir.open_run(tmp_path, CONFIG).close()  # who was refused holds nothing


def test_a_folder_of_a_model_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
  with pytest.raises(ValueError, match='of a Hugging Face model; expected the'):
    run_dir.open_run(tmp_path, CONFIG)


def test_of_many_settings_a_few_are_named(tmp_path):
  config = {f's{i:02}': 0 for i in range(15)}
  run_dir.open_run(tmp_path, config).close()
  message = r's09=1 \(saved: 0\) and 5 more settings; expected'
  with pytest.raises(ValueError, match=message):
    run_dir.open_run(tmp_path, dict.fromkeys(config, 1))


def test_a_run_may_continue_on_another_mesh(tmp_path):
  models = {'critic': {'layers': 'auto', 'attention': 'splash'}}
  config = {'seed': 0, 'mesh': {'fsdp': 8}, 'models': models}
  run_dir.open_run(tmp_path, config).close()
  models = {'critic': {'layers': 'unrolled', 'attention': 'auto'}}
  config = {'mesh': {'data': 2, 'fsdp': 4}, 'sample_mesh': {}, 'seed': 0}
  config['models'] = models
  run_dir.open_run(tmp_path, config).close()
  assert json.loads((tmp_path / 'config.json').read_text()) == config
  with pytest.raises(ValueError, match='got seed=1 .saved: 0.; expected'):
    run_dir.open_run(tmp_path, {**config, 'seed': 1, 'mesh': {'fsdp': 2}})


def two_phases(**changes):
  """Makes a config of two phases, with settings changed by dotted name."""
  config = ConfigDict(common.base())
  config.order = ('cold', 'rl')
  config.models.solver = common.model('nano')
  for name in config.order:
    config.phases[name] = common.phase(
      recipe='grpo',
      train=('solver',),
      steps=100,
      learning_rate=1e-3,
      batch_size=8,
    )
  with config.unlocked():
    for name, value in changes.items():
      config.update_from_flattened_dict({name: value})
  return config.to_dict()


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('keep_checkpoints', 7),
    ('compilation_cache', 'elsewhere'),
    ('graders.num_workers', 3),
    ('mesh.fsdp', 2),
    ('sample_mesh.data', 2),
    ('phases.rl.records_every', 3),
    ('phases.rl.record_tokens', False),
    ('phases.cold.checkpoint_every', 3),
    ('phases.cold.checkpoint_minutes', 1.5),
    ('phases.rl.microbatches', 2),
    ('phases.rl.limits.reward', {'high': 9.0}),
    ('models.solver.max_rows', 16),
    ('models.solver.remat', 'full'),
    ('phases.rl.limit_action', 'stop'),
    ('phases.rl.max_ratio_error.float32', 0.5),
    ('phases.rl.max_ratio_error.bfloat16', 0.5),
    ('phases.rl.max_skipped', 99),
    ('phases.rl.steps', 101),
  ],
)
def test_a_run_continues_with_another_operational_setting(
  tmp_path, name, value
):
  run_dir.open_run(tmp_path, two_phases()).close()
  first = (tmp_path / 'config.json').read_bytes()
  run_dir.open_run(tmp_path, two_phases(**{name: value})).close()
  assert (tmp_path / 'config.1.json').read_bytes() == first
  saved_settings = dict(
    settings.leaves(strict_json.read(tmp_path / 'config.json'))
  )
  changed = {name: value}
  if isinstance(value, dict):
    changed = {f'{name}.{key}': x for key, x in value.items()}
  assert changed.items() <= saved_settings.items()
  # The same again changes nothing.
  run_dir.open_run(tmp_path, two_phases(**{name: value})).close()
  assert len([*tmp_path.glob('config*.json')]) == 2


@pytest.mark.parametrize(
  ('name', 'value', 'before', 'reason'),
  [
    ('seed', 1, {}, ''),
    ('date', '2026-01-02', {}, ''),
    ('graders.deadline_s', 1.0, {}, ''),
    ('compile_ahead', False, {}, ''),
    ('best_metric', 'loss/total', {}, ''),
    ('phases.rl.batch_size', 9, {}, ''),
    ('phases.rl.limit_window', 2, {}, ''),
    ('models.solver.max_new_tokens', 2, {}, ''),
    ('phases.rl.staleness', 1, {}, ''),
    ('phases.rl.optimizer.learning_rate', 1.0, {}, ''),
    ('phases.rl.checkpoint_every', 3, {'phases.rl.staleness': 1}, ''),
    ('phases.cold.steps', 101, {}, ''),
    ('phases.rl.steps', 99, {}, '; a phase can only get more steps'),
    (
      'phases.rl.steps',
      101,
      {'phases.rl.optimizer.schedule': 'cosine'},
      "; the schedule 'cosine' ends at `steps`",
    ),
    (
      'phases.rl.steps',
      101,
      {'phases.rl.staleness': 1, 'phases.rl.checkpoint_every': 30},
      '; a stale phase goes on after a multiple of `checkpoint_every`',
    ),
  ],
)
def test_a_setting_that_defines_the_run_is_refused(
  tmp_path, name, value, before, reason
):
  run_dir.open_run(tmp_path, two_phases(**before)).close()
  first = (tmp_path / 'config.json').read_bytes()
  with pytest.raises(ValueError) as error:
    run_dir.open_run(tmp_path, two_phases(**{**before, name: value}))
  old = dict(settings.leaves(settings.plain(two_phases(**before))))[name]
  expected = f'{name}={json.dumps(value)} (saved: {json.dumps(old)}{reason}'
  assert str(error.value).startswith(f'config: got {expected}')
  assert 'keep_checkpoints' not in str(error.value)
  assert (tmp_path / 'config.json').read_bytes() == first
  assert not (tmp_path / 'config.1.json').exists()


def test_a_stale_phase_goes_on_after_a_checkpoint(tmp_path):
  stale = {'phases.rl.staleness': 1, 'phases.rl.checkpoint_every': 50}
  run_dir.open_run(tmp_path, two_phases(**stale)).close()
  config = two_phases(**stale, **{'phases.rl.steps': 150})
  run_dir.open_run(tmp_path, config).close()


def test_more_steps_put_the_evaluations_of_the_old_end_aside(tmp_path):
  run_dir.open_run(tmp_path, two_phases()).close()
  for name in ('cold', 'rl'):
    run_dir.write_records(tmp_path / f'eval/heldout/{name}.jsonl.gz', [])
    run_dir.write_records(tmp_path / f'partial/last/{name}/000000.jsonl.gz', [])
  run_dir.open_run(tmp_path, two_phases(**{'phases.rl.steps': 150})).close()
  assert (tmp_path / 'replaced/rl-100/eval/heldout/rl.jsonl.gz').exists()
  paths = [p.relative_to(tmp_path) for p in tmp_path.glob('[ep]*/*/**/*.gz')]
  assert sorted(map(str, paths)) == [
    'eval/heldout/cold.jsonl.gz',
    'partial/last/cold/000000.jsonl.gz',
  ]


def test_changed_devices_are_noted_beside_the_first(tmp_path):
  for devices in ('cpu', 'cpu', 'tpu'):
    run_dir.open_run(tmp_path, CONFIG, devices=devices).close()
  assert sorted(p.name for p in tmp_path.glob('env*')) == [
    'env.1.txt',
    'env.txt',
  ]
  assert 'devices tpu' in (tmp_path / 'env.1.txt').read_text()


def test_metrics_are_read_back_with_nan_and_infinity(tmp_path):
  run = run_dir.RunDir(tmp_path)
  values = {'a/x': np.float32(0.5), 'b': float('nan'), 'c': -math.inf}
  run.log_metrics(3, values, 'rl')
  run.close()
  json.loads(lines(run)[0], parse_constant=pytest.fail)  # strict JSON
  (row,) = run_dir.read_metrics(tmp_path / 'metrics.jsonl')
  assert (row['step'], row['phase'], row['a/x']) == (3, 'rl', 0.5)
  assert math.isnan(row['b']) and row['c'] == -math.inf
  assert row['time'] > 1e9
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'a/x' in events.read_bytes()


def test_a_metric_may_not_be_called_step(tmp_path):
  with pytest.raises(ValueError, match=r"\['step'\].*rename"):
    run_dir.RunDir(tmp_path).log_metrics(0, {'step': 1.0}, 'rl')


def test_resuming_logs_no_step_twice(tmp_path):
  run = run_dir.open_run(tmp_path, CONFIG)
  for step in range(5):
    run.log_metrics(step, {'loss': step, 'odd': math.nan}, 'rl')
  run.close()
  with (tmp_path / 'metrics.jsonl').open('ab') as f:
    f.write(b'{"step": 5, "phase": "\xc3')  # killed while writing
  resumed = run_dir.open_run(tmp_path, CONFIG)
  assert len(lines(resumed)) == 5
  resumed.rewind(3)
  for step in (3, 4):
    resumed.log_metrics(step, {'loss': -step}, 'rl')
  resumed.close()
  rows = list(run_dir.read_metrics(tmp_path / 'metrics.jsonl'))
  assert [row['step'] for row in rows] == [0, 1, 2, 3, 4]
  assert [row['loss'] for row in rows] == [0, 1, 2, -3, -4]


def test_a_broken_line_amid_others_is_an_error(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  line = '{"step": 0, "phase": "rl"}\n'
  path.write_text(f'{line}{{"st\n{line}')
  with pytest.raises(ValueError, match='line 2'):
    list(run_dir.read_metrics(path))


def test_records_come_back_as_trees(tmp_path):
  records = synthetic_run.trees(2)
  path = run_dir.RunDir(tmp_path).write_records(
    100, records, 'records/rl', tokens=True
  )
  assert path == tmp_path / 'records/rl/000100.jsonl.gz'
  back = run_dir.read_records(path)
  assert [r.id for r in back] == [r.id for r in records]
  for old, new in zip(records, back, strict=True):
    assert (new.parent is None) == (old.parent is None)
    assert new.parent is None or any(new.parent is r for r in back)
    assert (new.problem, new.text, new.finish) == (
      old.problem,
      old.text,
      old.finish,
    )
    assert (new.parsed, new.scores) == (old.parsed, old.scores)
    for name in ('prompt_tokens', 'tokens', 'logprobs'):
      a, b = getattr(old, name), getattr(new, name)
      np.testing.assert_array_equal(a, b)  # float32 to the last bit
      assert a.dtype == b.dtype


def test_without_tokens_lengths_are_kept(tmp_path):
  path = tmp_path / 'x.jsonl.gz'
  run_dir.write_records(path, synthetic_run.trees(1))
  row = json.loads(gzip.open(path, 'rt').readline())
  assert 'tokens' not in row and row['num_tokens'] == 2
  record = run_dir.read_records(path)[0]
  assert record.tokens.tolist() == [-1, -1]
  assert len(record.prompt_tokens) == 3 and np.isnan(record.logprobs).all()


def test_the_same_records_are_the_same_bytes(tmp_path):
  for name in ('a', 'b'):
    run_dir.write_records(tmp_path / f'{name}.gz', synthetic_run.trees(2))
  assert (tmp_path / 'a.gz').read_bytes() == (tmp_path / 'b.gz').read_bytes()
  # RFC 1952: bytes 4 to 8 are the time of writing.
  assert (tmp_path / 'a.gz').read_bytes()[4:8] == bytes(4)
  assert len(list(tmp_path.iterdir())) == 2  # no temporary file is left


def test_a_problem_drawn_twice_keeps_its_trees_apart(tmp_path):
  records = synthetic_run.trees(1) + synthetic_run.trees(1, caught=False)
  path = tmp_path / 'x.jsonl.gz'
  run_dir.write_records(path, records)
  back = run_dir.read_records(path)
  rows = {id(r): i for i, r in enumerate(records)}
  expected = [rows[id(r.parent)] if r.parent else None for r in records]
  rows = {id(r): i for i, r in enumerate(back)}
  got = [rows[id(r.parent)] if r.parent else None for r in back]
  assert got == expected


def test_ancestors_are_written_with_a_record(tmp_path):
  last = synthetic_run.trees(1)[-1]
  path = tmp_path / 'x.jsonl.gz'
  run_dir.write_records(path, [last])
  back = run_dir.read_records(path)
  assert [r.stage for r in back] == ['solve', 'critique', 'refine']
  assert back[-1].id == last.id


def test_scores_may_be_nan_and_text_may_be_anything(tmp_path):
  problem = Problem('p', 'q\u2028\x00', '1')
  record = synthetic_run.message(
    problem, 'solve', text='a\nb\ud800', scores={'reward': math.nan}
  )
  run_dir.write_records(tmp_path / 'x.gz', [record])
  (back,) = run_dir.read_records(tmp_path / 'x.gz')
  assert math.isnan(back.scores['reward'])
  assert back.text == record.text and back.problem == problem


@pytest.mark.parametrize('keep', [0.3, 0.9])
def test_a_truncated_file_is_a_clear_error(tmp_path, keep):
  path = tmp_path / 'x.jsonl.gz'
  run_dir.write_records(path, synthetic_run.trees(8))
  content = path.read_bytes()
  path.write_bytes(content[: int(keep * len(content))])
  with pytest.raises(ValueError, match=r'x\.jsonl\.gz: got a truncated'):
    run_dir.read_records(path)
  path.write_bytes(b'no gzip')
  with pytest.raises(ValueError, match='got a truncated or broken'):
    run_dir.read_records(path)


def test_markers(tmp_path):
  def marks(error):
    run = run_dir.open_run(tmp_path, CONFIG)
    try:
      with run:
        if error:
          raise error
    except BaseException as raised:
      assert raised is error  # never swallowed
    return {p.name for p in tmp_path.glob('[DF]*')}

  assert marks(RuntimeError('out of luck')) == {'FAILED'}
  trace = (tmp_path / 'FAILED').read_text()
  assert 'Traceback' in trace and 'out of luck' in trace
  assert marks(KeyboardInterrupt()) == set()
  assert marks(None) == {'DONE'}


def test_nothing_that_looks_at_runs_imports_jax():
  modules = (
    'workdir.run_dir inspection.reading report.html_report report.plots '
    'evals.refinement_metrics evals.processbench'
  )
  code = f'import sys, importlib\nfor m in {modules.split()}:\n'
  code += "  importlib.import_module(f'critic_jax.{m}')\n"
  code += "assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize(
  'line',
  [
    '[]',
    '{"phase": "rl"}',
    '{"step": 0, "phase": 1}',
    '{"step": 1.5, "phase": "rl"}',
    '{"step": 1e99, "phase": "rl"}',
    '{"step": 0, "phase": "rl", "a": []}',
    '{"step": 0, "phase": "rl", "a": 1%s}' % ('0' * 400),
    '[' * 10**5,
  ],
)
def test_a_line_of_metrics_has_a_step_a_phase_and_numbers(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(f'{line}\n')
  with pytest.raises(ValueError, match='in line 1; expected a JSON object'):
    list(run_dir.read_metrics(path))


@pytest.mark.parametrize('name', ['..', '.', '', 'a/b', '/etc', 'a\0b', 5])
def test_sections_have_names_that_files_can_have(name):
  with pytest.raises(ValueError, match='order: got the name'):
    run_dir.check_name('order', name)


def test_nothing_is_written_outside_of_the_folder(tmp_path):
  run = run_dir.RunDir(tmp_path / 'run')
  for write in (
    lambda: run.write_records(1, [], '../elsewhere'),
    lambda: run.write_records(1, [], '/etc'),
    lambda: run.write_records('../../x', []),
    lambda: run.write_results('results/../../x', {}),
  ):
    with pytest.raises(ValueError, match='expected a path within'):
      write()
  assert not list(tmp_path.iterdir())


def test_records_are_bounded_in_size_and_depth(tmp_path, monkeypatch):
  path = tmp_path / 'r.jsonl.gz'
  run_dir.write_records(path, synthetic_run.trees(2))
  assert run_dir.read_records(path)
  monkeypatch.setattr(run_dir, 'MAX_DEPTH', 1)
  with pytest.raises(ValueError, match='more than 1 levels deep'):
    run_dir.read_records(path)
  monkeypatch.undo()
  monkeypatch.setattr(run_dir, 'MAX_BYTES', 2000)
  with pytest.raises(ValueError, match='more than 2000 bytes'):
    run_dir.read_records(path)


def test_a_parent_stands_above(tmp_path):
  path = tmp_path / 'r.jsonl.gz'
  run_dir.write_records(path, synthetic_run.trees(1))
  lines = gzip.decompress(path.read_bytes()).splitlines()
  for parent in (-1, 99, 'a'):
    row = json.loads(lines[1]) | {'parent_row': parent}
    path.write_bytes(gzip.compress(json.dumps(row).encode()))
    with pytest.raises(ValueError, match='got a truncated or broken file'):
      run_dir.read_records(path)


INPUTS = {'models.critic.weights': 'aa', 'data': 'bb', 'evals.test': 'cc'}


def config_with_inputs(**changes):
  """Makes a config that names files, with settings changed by dotted name."""
  config = {
    'seed': 0,
    'checkpoint': 'runs/a:rl',
    'data': {
      'name': 'files',
      'paths': {'train': 'a.jsonl'},
      'data_dir': 'prepared',
    },
    'models': {'critic': {'source': 'weights', 'tokenizer': 'folder'}},
    'evals': {'test': {'data': {'paths': ['a.json', 'b.json']}}},
  }
  for name, value in changes.items():
    *parents, last = name.split('.')
    section = config
    for parent in parents:
      section = section[parent]
    section[last] = value
  return config


PLACES = {
  'checkpoint': 'runs/b:rl',
  'data.paths.train': 'moved/a.jsonl',
  'data.data_dir': 'elsewhere',
  'models.critic.source': 'moved/weights',
  'models.critic.tokenizer': 'moved/folder',
  'evals.test.data.paths': ['moved/a.json', 'moved/b.json'],
}


def test_inputs_are_written_beside_the_config(tmp_path):
  run_dir.open_run(tmp_path, CONFIG, inputs=INPUTS).close()
  assert strict_json.read(tmp_path / 'inputs.json') == INPUTS


@pytest.mark.parametrize('place', PLACES)
def test_an_input_may_move_but_not_change(tmp_path, place):
  run_dir.open_run(tmp_path, config_with_inputs(), inputs=INPUTS).close()
  moved = config_with_inputs(**{place: PLACES[place]})
  for name in INPUTS:
    for config in (config_with_inputs(), moved):
      with pytest.raises(ValueError, match=f'^{name}: got another content'):
        run_dir.open_run(tmp_path, config, inputs=INPUTS | {name: 'dd'})
  with pytest.raises(ValueError, match='^data: got another content than'):
    run_dir.open_run(
      tmp_path, moved, inputs={k: v for k, v in INPUTS.items() if k != 'data'}
    )
  assert strict_json.read(tmp_path / 'config.json') == config_with_inputs()
  run_dir.open_run(tmp_path, moved, inputs=INPUTS).close()
  assert strict_json.read(tmp_path / 'config.json') == moved
  assert strict_json.read(tmp_path / 'config.1.json') == config_with_inputs()
  # Other settings define the run as ever, and are told of first.
  other = {**moved, 'seed': 1}
  with pytest.raises(ValueError, match='^config: got seed=1'):
    run_dir.open_run(tmp_path, other, inputs=INPUTS | {'data': 'dd'})


@pytest.mark.parametrize('place', PLACES)
def test_where_contents_are_unknown_nothing_may_move(tmp_path, place):
  """As in a folder of an older version, which then gets to know them."""
  run_dir.open_run(tmp_path, config_with_inputs()).close()
  moved = config_with_inputs(**{place: PLACES[place]})
  with pytest.raises(ValueError, match=f'config: got {place}='):
    run_dir.open_run(tmp_path, moved, inputs=INPUTS)
  run_dir.open_run(tmp_path, config_with_inputs(), inputs=INPUTS).close()
  run_dir.open_run(tmp_path, moved, inputs=INPUTS).close()


def test_all_settings_of_sources_that_name_files_are_places():
  """A new source whose files have another setting is found here."""
  names = {
    name
    for function in vars(sources).values()
    if inspect.isfunction(function) and function.__module__ == sources.__name__
    for name in inspect.signature(function).parameters
  }
  of_files = {n for n in names if 'path' in n or 'dir' in n or 'file' in n}
  assert of_files == {*settings._PLACES}


def test_evaluations_of_steps_that_are_run_again_are_put_aside(tmp_path):
  for name in ('eval/test/cold.jsonl.gz', 'eval/test/rl.jsonl.gz'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b'records')
  (tmp_path / 'partial/test/rl').mkdir(parents=True)
  phases = {'cold': {'steps': 10}, 'rl': {'steps': 20}}
  config = {'order': ('cold', 'rl'), 'phases': phases}
  provenance.keep_later_evaluations(tmp_path, config, 30)
  assert (tmp_path / 'partial/test/rl').exists()
  provenance.keep_later_evaluations(tmp_path, config, 20)
  files = [p for p in tmp_path.rglob('*') if p.is_file()]
  assert {str(p.relative_to(tmp_path)) for p in files} == {
    'eval/test/cold.jsonl.gz', 'replaced/rl-20/eval/test/rl.jsonl.gz',
  }  # fmt: skip
  assert not (tmp_path / 'partial/test/rl').exists()
