"""A run that cannot learn says so: no signal, and what did not fit."""

import io
import types

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)
from rich.console import Console

from configs import common, critic_v
from configs import grpo as grpo_config
from configs import refcritic as refcritic_config
from critic_jax.recipes import (
  cold_start,
  grpo,
  online_preference,
  refcritic,
  sft,
)
from critic_jax.training import alarms, phases, roles
from critic_jax.workdir import run_dir

NO_TOKEN, EQUAL = 'no token is trained', 'the rewards of each group are equal'
TOO_LONG, LEFT_OUT = f'{NO_TOKEN}: prompts or resp', f'{NO_TOKEN}: every record'


def say(*texts, **changes):
  """Makes a role that says its texts in turn."""
  return scripted(lambda prompt, i: texts[i % len(texts)], **changes)


def collect(module, section, models):
  recipe = make_recipe(module, section, models, grade)
  return recipe, recipe.collect(
    dict.fromkeys(models), [PROBLEM], jax.random.key(0)
  )


def solve_in_groups(solver):
  section = settings(
    {'batch_size': 1, 'aggregate': 'token', **common.policy_gradient()},
    num_solutions=2,
    **common.solver_rewards(),
  )
  return collect(grpo, section, {'solver': solver})


def judge(solver, critic):
  section = settings(
    {'batch_size': 1, 'aggregate': 'token', **refcritic_config.refcritic()},
    num_solutions=1,
    num_critiques=2,
    num_refinements=1,
    num_controls=0,
  )
  return collect(refcritic, section, {'solver': solver, 'critic': critic})


def keep(solver, critic):
  section = settings(
    {},
    num_solutions=1,
    num_critiques=2,
    writer=dict(module=''),
    batch_size=2,
    aggregate='token',
  )
  return collect(cold_start, section, {'solver': solver, 'critic': critic})


def imitate(role):
  section = settings(
    {},
    role='role',
    lessons=dict(module='lessons', name='reference'),
    batch_size=1,
    aggregate='token',
  )
  return collect(sft, section, {'role': role})


def compare(solver, critic):
  section = settings(
    critic_v.online_preference(
      num_critiques=2,
      writer=dict(module=''),
      step_marks=dict(module=''),
      score=dict(judge=1.0, overlap=0.0, agreement=0.0),
      objective=dict(name='simpo'),
    ),
    batch_size=1,
  )
  models = {'solver': solver, 'critic': critic}
  return collect(online_preference, section, models)


CALLS = {'right': critique('correct'), 'wrong': critique('incorrect')}
SAYS_BOTH = say(*CALLS.values(), max_new_tokens=64)


@pytest.mark.parametrize(
  ('reason', 'case'),
  [
    ('', lambda: solve_in_groups(say(RIGHT, WRONG))),
    (EQUAL, lambda: solve_in_groups(say(WRONG))),
    (EQUAL, lambda: solve_in_groups(say(RIGHT))),
    (EQUAL, lambda: solve_in_groups(say(RIGHT, WRONG, max_new_tokens=4))),
    (TOO_LONG, lambda: solve_in_groups(say(RIGHT, lengths=(8,)))),
    ('', lambda: judge(say(WRONG), SAYS_BOTH)),
    (EQUAL, lambda: judge(say(WRONG), say('Hm.'))),
    (TOO_LONG, lambda: judge(say(WRONG, lengths=(8,)), SAYS_BOTH)),
    (TOO_LONG, lambda: judge(say(WRONG), say('Hm.', lengths=(8,)))),
    (LEFT_OUT, lambda: keep(say(WRONG), say(CALLS['right']))),
    (TOO_LONG, lambda: keep(say(WRONG, lengths=(8,)), SAYS_BOTH)),
    ('', lambda: compare(say(WRONG), SAYS_BOTH)),
    (EQUAL, lambda: compare(say(WRONG), say('Hm.'))),
    (TOO_LONG, lambda: compare(say(WRONG), say('Hm.', lengths=(8,)))),
    ('', lambda: imitate(nano())),
    (TOO_LONG, lambda: imitate(nano(lengths=(8,)))),
    (TOO_LONG, lambda: imitate(nano(max_new_tokens=4))),
  ],
)
def test_what_teaches_nothing_has_a_reason(reason, case):
  recipe, (batch, records) = case()
  metrics = {name: 0.1 for name in {*recipe.metrics, 'grad_norm'}}
  actual = alarms.missing_signal(batch, records, metrics)
  assert actual.startswith(reason) and bool(actual) == bool(reason)
  metrics['grad_norm'] = 0.0
  assert alarms.missing_signal(batch, records, metrics)


# ------------------------------------------------------ refused is no content


def test_a_solution_that_was_never_sampled_is_not_critiqued():
  """Else a critic that calls an empty text wrong earns `judge`."""
  critic = say(CALLS['wrong'], max_new_tokens=64)
  _, (batch, records) = judge(say(WRONG, lengths=(8,)), critic)
  assert not critic.prompts
  assert all(record.refused for record in records)
  assert not any(record.scores for record in records)
  assert not batch['mask'].any()


def test_a_refinement_whose_prompt_does_not_fit_is_no_wrong_one():
  """The critic that wrote at length has no reward, not one of 0."""
  texts = critique('incorrect', 'Hm. ' * 60), critique('incorrect')
  critic = say(*texts, max_new_tokens=256)
  solver = say(WRONG, lengths=(128,))
  _, (batch, records) = judge(solver, critic)
  refined = [r for r in records if r.stage == 'refine']
  assert [r.refused for r in refined] == [True, False]
  critiques = [r for r in records if r.stage == 'critique']
  assert [c.scores for c in critiques] == [
    {'judge': 1.0},
    {'judge': 1.0, 'refine': 0.0, 'reward': 1.0},
  ]
  assert not batch['mask'][0].any()  # of the first nothing is learned


def test_a_lesson_from_a_refused_solution_is_not_written():
  section = settings(
    {},
    num_solutions=1,
    num_critiques=2,
    writer=dict(module='arithmetic_labels', name='step_label'),
    batch_size=2,
    aggregate='token',
  )
  models = {'solver': say(WRONG, lengths=(8,)), 'critic': nano()}
  _, (_, records) = collect(cold_start, section, models)
  assert [record.stage for record in records] == ['solve']


# -------------------------------------------------------------------- alarms


class Run:
  """The alarms of a phase whose every step has the same batch."""

  def __init__(self, path, batch, **changes):
    self.path, self.batch = path, batch
    path.mkdir()
    (path / 'metrics.jsonl').touch()
    config = types.SimpleNamespace(
      limits={}, limit_window=3, limit_action='warn', max_skipped=1,
      staleness=0, steps=20, until={},
    )  # fmt: skip
    vars(config).update(changes)
    self.phase = types.SimpleNamespace(
      name='rl', start=0, config=config, max_ratio_error=0.1
    )
    self.start()

  def start(self):
    """Begins, or begins again as after a stop."""
    self.output = io.StringIO()
    self.alarms = alarms.Alarms(
      self.phase,
      run_dir.RunDir(self.path),
      Console(file=self.output, width=999),
    )

  def step(self, step, **metrics):
    """Takes a step as the loop does; returns why the run must end."""
    metrics = {'update/skipped': 0.0, 'grad_norm': 0.0, **metrics}
    collected = types.SimpleNamespace(given=self.batch, records=[])
    metrics |= alarms.no_signal(collected, metrics)
    run_dir.RunDir(self.path).log_metrics(step, metrics, 'rl')
    return self.alarms.add(step, collected, metrics)

  def told(self):
    """Returns what the console has shown since last asked."""
    text = self.output.getvalue()
    self.output.seek(0)
    self.output.truncate()
    return text


@pytest.fixture
def silent(tmp_path):
  batch = {'mask': np.zeros((1, 2), bool), 'advantages': np.zeros((1, 2))}
  return Run(tmp_path / 'run', batch)


def test_no_signal_is_told_after_a_window_and_then_ever_rarer(silent):
  told = [bool(silent.step(i)) or silent.told() for i in range(12)]
  steps = [i for i, text in enumerate(told) if text]
  assert steps == [2, 5, 11]
  assert told[2].startswith('warning: rl: no signal in 3 steps up to 2: no tok')


def test_a_signal_between_begins_the_count_anew(silent):
  silent.batch['mask'] = np.ones((1, 2), bool)
  for i in range(9):
    silent.step(i, grad_norm=float(i % 3 == 0))
  assert not silent.told()
  silent.step(9)
  assert 'the gradient is zero' in silent.told()


def test_a_short_phase_is_told_of_too(tmp_path):
  batch = {'mask': np.zeros((1, 2), bool)}
  run = Run(tmp_path / 'run', batch, steps=2)
  run.step(0)
  assert not run.told()
  run.step(1)
  assert 'no signal in 2 steps' in run.told()


def test_no_signal_ends_a_run_whose_limits_stop_it(silent):
  silent.phase.config.limit_action = 'stop'
  problems = [silent.step(i) for i in range(3)]
  assert problems[:2] == ['', '']
  assert problems[2].startswith('phases.rl: got no signal in 3 steps')


def test_a_resumed_phase_counts_on(silent):
  for i in range(2):
    silent.step(i, **{'solve/refused': 0.5, 'solve/count': 4.0})
  silent.start()
  silent.step(2, **{'solve/refused': 0.25, 'solve/count': 4.0})
  assert 'no signal in 3 steps' in silent.told()
  silent.alarms.tell_end()
  assert "rl: 5 of 12 records of 'solve' were refused" in silent.told()


def test_what_fitted_is_not_told_of(silent):
  silent.step(0, **{'solve/refused': 0.0, 'solve/count': 4.0})
  silent.told()
  silent.alarms.tell_end()
  assert not silent.told()


@pytest.mark.parametrize('loss', [0.02, 0.2, None])
def test_a_phase_that_did_not_come_to_its_until_says_so(tmp_path, loss):
  batch = {'mask': np.ones((1, 2), bool)}
  run = Run(tmp_path / 'run', batch, until={'loss/nll': dict(high=0.1)})
  metrics = {} if loss is None else {'loss/nll': loss}
  for step in range(4):
    run.step(step, grad_norm=1.0, **metrics)
  run.start()  # a phase that goes on knows what it had
  run.alarms.tell_end()
  told = run.told()
  if loss == 0.02:
    assert not told
  else:
    found = 'none of its metrics was logged' if loss is None else 'nll = 0.2'
    assert 'rl: all 20 steps are done and did not come to what' in told
    assert found in told


# ----------------------------------------------------- hopeless by its config


@pytest.mark.parametrize(
  'greedy',
  [
    dict(temperature=0.0),
    dict(temperature=1e-8),
    dict(temperature=0.009),
    dict(temperature=1e-45),  # a float32 that is not normal
    dict(top_k=1),
    dict(top_k=1, top_p=0.9, temperature=2.0),
    dict(top_p=1e-9),
    dict(top_p=0.01),
    dict(top_k=2, top_p=0.5),
    dict(top_k=50, top_p=0.02),
  ],
)
def test_a_policy_that_samples_one_token_is_refused(greedy):
  with pytest.raises(ValueError, match=r'models\.solver: got .*one token'):
    solve_in_groups(say(RIGHT, WRONG, **greedy))


@pytest.mark.parametrize(
  ('is_known', 'copies', 'order'),
  [
    (False, {}, ('rl',)),
    (False, dict(ref='other'), ('rl',)),  # random, too, and another's
    (False, dict(ref='other', other='solver'), ('rl',)),  # all at once
    (False, {}, ('solver', 'rl')),
    (True, dict(ref='solver'), ('rl',)),  # where the policy begins
    (True, dict(ref='solver'), ('solver', 'rl')),
    (True, dict(ref='loaded'), ('rl',)),
    (True, dict(ref='other', solver='other'), ('rl',)),
  ],
)
def test_weights_that_nothing_has_written_are_no_reference(
  is_known, copies, order
):
  config = grpo_config.get_config('tiny')
  for role in ('ref', 'other', 'loaded'):
    config.models[role] = config.models.solver.copy_and_resolve_references()
  config.phases.rl.kl.coef = 0.1
  config.phases.rl.copy, config.order = copies, order
  lms = roles.make_lms(config.models)
  config.models.loaded.source = 'a folder of weights'
  if is_known:
    phases.make_phases(config, lms, grade)
    return
  with pytest.raises(ValueError, match=r"rl.copy: got .* 'ref' are random"):
    phases.make_phases(config, lms, grade)
  config.models.ref.source = config.models.other.source = 'another'
  phases.make_phases(config, lms, grade)


def test_a_copy_of_what_the_policy_no_longer_is_is_no_reference():
  """It was copied before the policy was trained, when that was random."""
  config = grpo_config.get_config('tiny')
  config.phases.solver.copy, config.phases.rl.copy = {'ref': 'solver'}, {}
  lms = roles.make_lms(config.models)
  with pytest.raises(ValueError, match=r"rl.copy: got {}, .* 'ref' are random"):
    phases.make_phases(config, lms, grade)
  config.order = ('rl',)
  with pytest.raises(ValueError, match=r"rl.copy: got {}, .* 'ref' are random"):
    phases.make_phases(config, lms, grade)
  config.phases.rl.copy = {'ref': 'solver'}
  phases.make_phases(config, lms, grade)


def test_a_model_with_real_prompts_refuses_as_scripts_do():
  """The helpers' refusal is the sampler's."""
  lm = nano(lengths=(8,))
  prompts = [lm.stages.solve.prompt(PROBLEM)]
  keys = jax.random.split(jax.random.key(0), 1)
  params = init(role=lm)['role']
  [[sampled]] = lm.bind(params)(prompts, keys, 1)
  [[written]] = say(RIGHT, lengths=(8,)).bind(None)(prompts, keys, 1, 1)
  assert sampled.finish == written.finish == 'prompt'
  assert sampled.text == written.text == '' and not len(written.tokens)


def test_a_disagreement_is_told_again_when_it_is_twice_as_large(silent):
  """Also if the run was stopped in between."""
  silent.batch['mask'] = np.ones((1, 2), bool)

  def is_told(step, error):
    collected = types.SimpleNamespace(given=silent.batch, records=[])
    silent.alarms.compare(step, collected, np.float32([error]))
    silent.step(step, grad_norm=1.0, **{'policy/max_ratio_error': error})
    return ' disagree ' in silent.told()

  errors = 0.05, 0.15, 0.2, 0.4, 0.7
  assert [*map(is_told, range(5), errors)] == [False, True, False, True, False]
  silent.start()
  assert [*map(is_told, (5, 6, 7), (0.7, 0.9, 0.1))] == [False, True, False]
