"""Evaluations of checkpoints: parts, stopping and resuming, sources."""

import io
import json
import re
import shutil

import helpers
import pytest
import run_helpers
from rich.console import Console

from configs import evaluate as config_file
from critic_jax import evaluate
from critic_jax.pretrained import hf_weights
from critic_jax.training import eval_phases, roles
from critic_jax.workdir import run_dir


def run(config, path):
  """Runs an evaluation that shows nothing, without its page."""
  return evaluate.run(config, str(path), Console(file=io.StringIO()))


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
  monkeypatch.setattr(evaluate.html_report, 'write', lambda path: None)


def outcome(path, name):
  records = path / 'eval' / name / 'evaluation.jsonl.gz'
  return records.read_bytes(), (path / f'results/{name}.json').read_text()


def test_given_solutions_from_end_to_end(tmp_path):
  # In a path that a run, which saves checkpoints, could not have.
  path = run(config_file.get_config('tiny'), tmp_path / 'a[1]*\\ b%41é')
  assert (path / 'DONE').exists() and not (path / 'partial').exists()
  records = run_dir.read_records(path / 'eval/slips/evaluation.jsonl.gz')
  assert [r.stage for r in records].count('solve') == 6
  assert [r.stage for r in records].count('critique') == 12
  results = json.loads((path / 'results/slips.json').read_text())
  metrics = results['columns']['evaluation']
  assert metrics['balanced verdict accuracy']['n'] == 12
  assert metrics['ProcessBench F1 of the vote']['n'] == 6
  assert 'accuracy after critique and refine' not in metrics, 'nobody refines'


def test_verdicts_by_generator(tmp_path):
  file = tmp_path / 'steps.jsonl'
  rows = [
    dict(
      id=f'{name}-{i}', generator=name, problem=f'What is {i}?',
      steps=['1', '2'], final_answer_correct=bool(i % 2),
      label=-1 if i % 2 else 0,
    )
    for i in range(4) for name in ('small', 'large')
  ]  # fmt: skip
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  config = config_file.get_config('tiny')
  with config.unlocked():
    config.data = dict(name='solutions', paths=(str(file),))
  out = io.StringIO()
  evaluate.run(config, str(tmp_path / 'run'), Console(file=out))
  results = json.loads((tmp_path / 'run/results/slips.json').read_text())
  groups = results['groups']['evaluation']['generator']
  assert sorted(groups) == ['large', 'small']
  assert groups['small']['accuracy_right']['n'] == 2 * 2
  assert 'by generator of the solution' in out.getvalue()
  assert re.search(r'small +0.0 \[', out.getvalue())


def test_an_evaluation_that_was_killed_goes_on(tmp_path, monkeypatch):
  whole = run(config_file.get_config('tiny'), tmp_path / 'whole')
  collect, sizes = eval_phases.critic_loop.collect, []

  def stop(models, roles, examples, key, **settings):
    sizes.append(len(examples))
    if len(sizes) == 2:
      raise KeyboardInterrupt
    return collect(models, roles, examples, key, **settings)

  monkeypatch.setattr(eval_phases.critic_loop, 'collect', stop)
  path = tmp_path / 'stopped'
  with pytest.raises(KeyboardInterrupt):
    run(config_file.get_config('tiny'), path)
  assert not (path / 'DONE').exists() and not (path / 'results').exists()
  run(config_file.get_config('tiny'), path)
  assert sizes == [4, 2, 2], 'the first part is not done again'
  assert outcome(path, 'slips') == outcome(whole, 'slips')
  run(config_file.get_config('tiny'), path)
  assert len(sizes) == 3, 'a finished evaluation is left as it is'


def save_weights(folder, seed):
  """Saves a model of one seed as a Hugging Face folder."""
  [lm] = roles.make_lms(
    {'critic': config_file.get_config('tiny').models.critic}
  ).values()
  params = helpers.random_params(lm.model, seed)
  hf_weights.save(folder, lm.model.config, params, lm.tokenizer)


def test_weights_that_were_replaced_in_place_are_refused(tmp_path, monkeypatch):
  """One table never has records of two models, and welcomes a moved one."""
  weights = tmp_path / 'weights'
  config = config_file.get_config('tiny')
  config.checkpoint = str(weights)
  collect, parts = eval_phases.critic_loop.collect, []

  def stop(*arguments, **settings):
    parts.append(len(parts))
    if len(parts) == 2:
      raise KeyboardInterrupt
    return collect(*arguments, **settings)

  save_weights(weights, 1)
  with monkeypatch.context() as patch:
    patch.setattr(eval_phases.critic_loop, 'collect', stop)
    with pytest.raises(KeyboardInterrupt):
      run(config, tmp_path / 'run')
  [part] = tmp_path.glob('run/partial/slips/*/*')

  def is_refused():
    weights.rename(tmp_path / 'moved')
    save_weights(weights, 2)
    with pytest.raises(ValueError, match='models.critic.weights, .*: got anot'):
      run(config, tmp_path / 'run')
    shutil.rmtree(weights)

  is_refused()
  assert part.exists()
  config.checkpoint = str(tmp_path / 'moved')
  path = run(config, tmp_path / 'run')
  records = outcome(path, 'slips')
  (tmp_path / 'moved').rename(weights)
  config.checkpoint = str(weights)
  run(config, path)
  is_refused()
  assert outcome(path, 'slips') == records and len(parts) == 2


@pytest.mark.parametrize('phase', ['rl', 'judge_only'])
def test_a_phase_measured_again_gives_the_numbers_of_the_run(
  tmp_path, tiny_run, phase
):
  """Its checkpoint was kept, though others came after it."""
  config = config_file.get_config('run')
  config.checkpoint = f'{tiny_run}:{phase}'
  path = run(config, tmp_path)
  records = (path / 'eval/heldout/evaluation.jsonl.gz').read_bytes()
  assert records == (tiny_run / f'eval/heldout/{phase}.jsonl.gz').read_bytes()


def test_another_seed_is_other_noise(tmp_path):
  saved = dict(
    models={}, data={'name': 'files'}, graders={}, evals={'x': {}}, seed=3,
    order=['rl'], phases={'rl': {'steps': 2}},
  )  # fmt: skip
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  config = config_file.get_config('run')
  config.checkpoint = str(tmp_path)
  assert evaluate.resolve(config)[0].seed == 3  # the run's
  assert evaluate.resolve(config, {'seed': 0})[0].seed == 0
  config.seed = 1
  assert evaluate.resolve(config)[0].seed == 1


def test_a_config_without_evaluations_names_the_two_ways(tmp_path):
  config = config_file.get_config('run')
  with pytest.raises(ValueError, match='give --checkpoint=RUN:PHASE, or take'):
    run(config, tmp_path)


def test_a_run_that_was_trained_again_is_not_the_one_that_was_measured(
  tmp_path, tiny_run
):
  copy = tmp_path / 'copy'
  shutil.copytree(tiny_run, copy)
  config = config_file.get_config('tiny')
  config.checkpoint = f'{copy}:rl'
  path = run(config, tmp_path / 'run')
  records = outcome(path, 'slips')
  # The same checkpoint elsewhere, and another one in its place.
  config.checkpoint = f'{copy.rename(tmp_path / "moved")}:rl'
  run(config, path)
  ends = sorted((tmp_path / 'moved/checkpoints').iterdir())
  shutil.rmtree(ends[-2])
  shutil.copytree(ends[-1], ends[-2])
  with pytest.raises(ValueError, match='^checkpoint: got another content'):
    run(config, path)
  assert outcome(path, 'slips') == records


def test_a_run_is_measured_with_the_tokenizers_of_its_training(
  tmp_path, tiny_run
):
  copy = tmp_path / 'copy'
  shutil.copytree(tiny_run, copy)
  digests = json.loads((copy / 'inputs.json').read_text())
  digests['models.solver.tokenizer'] = 'another'
  (copy / 'inputs.json').write_text(json.dumps(digests))
  config = config_file.get_config('run')
  config.checkpoint = f'{copy}:rl'
  with pytest.raises(
    ValueError, match='models.solver: tokenizer: got another content than'
  ):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_run_is_measured_on_other_data_too(tmp_path, tiny_run):
  config = config_file.get_config('tiny')
  config.checkpoint = str(tiny_run)
  path = run(config, tmp_path)
  saved_config = json.loads((path / 'config.json').read_text())
  assert saved_config['data']['name'] == 'arithmetic_slips'
  trained = json.loads((tiny_run / 'config.json').read_text())
  assert saved_config['models'] == trained['models']
  # The critic that was trained last, not one that was drawn.
  fresh = run(config_file.get_config('tiny'), tmp_path / 'fresh')
  assert outcome(path, 'slips')[0] != outcome(fresh, 'slips')[0]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(refine='never'), "evals.slips: refine: gate: got 'never'"),
    (dict(batch_size=0), 'evals.slips: batch_size: got 0'),
    (dict(split='dev'), r"evals.slips: split: got 'dev'; .* \['test'\]"),
    (dict(data={'name': 'slips'}), "evals.slips: .*got 'slips'"),
    (dict(sampling={'critic': {'top_p': 2.0}}), 'evals.slips: top_p: got 2.0'),
    (dict(sampling={'critic': {'topp': 1.0}}), 'evals.slips: .*topp'),
    (
      dict(sampling={'critics': {}}),
      "slips: sampling: got 'critics'.*mean 'critic'",
    ),
    (dict(after=('rl',)), "evals.slips: after: got 'rl'; expected one of"),
  ],
)
def test_wrong_settings(tmp_path, change, message):
  config = config_file.get_config('tiny')
  with config.unlocked():
    config.evals.slips.update(change)
  with pytest.raises(ValueError, match=message):
    run(config, tmp_path)


def test_refinements_of_what_nobody_can_grade(tmp_path):
  file = tmp_path / 'steps.jsonl'
  row = dict(problem='What?', steps=['1'], final_answer_correct=True, label=-1)
  file.write_text(json.dumps(row) + '\n')
  config = config_file.get_config('tiny')
  with config.unlocked():
    config.data = dict(name='solutions', paths=(str(file),))
    config.evals.slips.num_refinements = 1
  with pytest.raises(ValueError, match='num_refinements: got 1, but 1 sol'):
    run(config, tmp_path / 'run')


def test_a_phase_without_a_checkpoint(tmp_path, tiny_run):
  config = config_file.get_config('run')
  config.checkpoint = f'{tiny_run}:rll'
  with pytest.raises(ValueError, match="got phase 'rll' .*'judge_only'"):
    run(config, tmp_path)
  config.checkpoint = f'{tiny_run}:rl:critic'
  with pytest.raises(ValueError, match="got the role 'critic' of .*RUN:PHASE"):
    run(config, tmp_path)
  # A run that was stopped has the phases that it finished.
  stopped = tmp_path / 'stopped'
  shutil.copytree(tiny_run, stopped)
  shutil.rmtree(stopped / 'checkpoints' / '8')
  config.checkpoint = str(stopped)
  with pytest.raises(ValueError, match=r"got phase 'judge_only' .*'rl'\]"):
    run(config, tmp_path / 'run')


@pytest.mark.parametrize(
  ('metric', 'best'), [('loss/nll', 1), ('-loss/nll', 3)]
)
def test_the_best_checkpoint_is_kept_and_measured(tmp_path, metric, best):
  """The best is the mean so far of a loss that falls."""
  config = run_helpers.short_config()
  config.order, config.evals, config.best_metric = ('solver',), {}, metric
  config.keep_checkpoints = 1
  config.phases.solver.checkpoint_every = 1
  path = run_helpers.run(config, tmp_path / 'run')
  losses = [row['loss/nll'] for row in run_helpers.contents(path)['metrics']]
  assert losses == sorted(losses, reverse=True)
  steps = {int(p.name) for p in (path / 'checkpoints').iterdir()}
  assert steps == {best, 3}
  config = config_file.get_config('run')
  config.checkpoint = f'{path}:best'
  assert evaluate.resolve(config)[1].step == best


def test_without_a_best_metric_there_is_no_best(tmp_path, tiny_run):
  config = config_file.get_config('run')
  config.checkpoint = f'{tiny_run}:best'
  with pytest.raises(ValueError, match="got phase 'best' .* a best_metric"):
    run(config, tmp_path)


def test_the_command_line_says_what_is_wrong(python, tmp_path):
  process = python(
    '-m', 'critic_jax.evaluate', '--config', 'configs/evaluate.py:mr_gsm8k',
    '--workdir', tmp_path, '--checkpoint', 'nowhere',
  )  # fmt: skip
  assert process.returncode == 1
  [line] = process.stderr.strip().splitlines()
  assert line.startswith('error: ') and 'nowhere' in line


@pytest.mark.parametrize(
  ('graders', 'name'), [({'name': 'code'}, 'code'), ({}, 'answers')]
)
def test_a_run_is_measured_by_its_own_grader(graders, name, tmp_path):
  saved_config = dict(
    models={}, data={'name': 'files'}, graders=graders, evals={}, seed=0,
    order=['rl'], phases={'rl': {'steps': 2}},
  )  # fmt: skip
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  (tmp_path / 'config.json').write_text(json.dumps(saved_config))
  config = config_file.get_config('run')
  config.checkpoint = str(tmp_path)
  assert evaluate.resolve(config)[0].graders.name == name
