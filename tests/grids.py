"""Experiments in small, and what stands in for training their runs."""

from pathlib import Path

from critic_jax.launch import experiment
from critic_jax.workdir import run_dir

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=''):
  return ConfigDict(dict(
    seed=0,
    order=('cold_start', 'rl'),
    phases=dict(
      cold_start=dict(steps=3),
      rl=dict(steps=5, gate='wrong', refine_weight=1.0, gates=(1, 2)),
    ),
    evals=dict(heldout=dict(after=('cold_start', 'rl'))),
  ))
"""
EXPERIMENT = '''
"""Does it {verb}?

Result: not yet run.
"""
from configs import grid
CONFIG = {config!r}
GRID = {grid}
TABLE = {table}
'''
SEEDS = "grid.sweep('seed', [0, 1, 2])"
TABLE = dict(
  evaluation='heldout', columns=('cold_start', 'rl'), metrics=('accuracy',)
)


def write(folder, name='learn', *, grid=SEEDS, table=TABLE, config=None):
  """Writes an experiment's file, with a config of its own if none is given."""
  if config is None:
    config = folder / 'config.py'
    config.write_text(CONFIG)
  path = folder / f'{name}.py'
  text = EXPERIMENT.format(
    verb=name, config=str(config), grid=grid, table=table
  )
  path.write_text(text.lstrip())
  return path


def folder(path, workdir, index=0):
  """Returns the folder of a run of an experiment's file."""
  run = experiment.load(path).runs[index]
  return experiment.folder(run, Path(workdir))


def train(command):
  """Writes a run as `python -m critic_jax.train` would; returns its flags."""
  start = command.index('critic_jax.train') + 1
  flags = dict(
    word.removeprefix('--').split('=', 1) for word in command[start:]
  )
  settings = [word for word in command if word.startswith('--config.')]
  config = experiment._parse(flags['config'], settings)
  with run_dir.open_run(flags['workdir'], config) as run:
    for step in range(8):
      values = {'critique/reward': step / 10, 'memory/host_gib': 1.5}
      run.log_metrics(step, values, 'rl' if step > 2 else 'cold_start')
    values = {'cold_start': 0.5, 'rl': 0.6 + config.seed / 10}
    run.write_results(
      'results/heldout',
      {
        'columns': {
          column: {'accuracy': dict(value=v, low=v, high=v, n=9)}
          for column, v in values.items()
        }
      },
    )
  return flags
