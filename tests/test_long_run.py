"""Ten thousand steps: memory, files, processes and the time of a step stay.

python -m pytest -m slow -s tests/test_long_run.py    # some minutes
"""

import os
import statistics

import psutil
import pytest
from run_helpers import run, stale_config

from critic_jax import train
from critic_jax.workdir import run_dir

STEPS = 10_000


def smallest_config(steps):
  """Configures RefCritic with one problem a step, and short answers."""
  config = stale_config(staleness=0)
  config.data.num_train = 64
  for role in config.models:
    config.models[role].update(dict(max_new_tokens=4, max_rows=4))
  config.phases.rl.update(
    dict(
      steps=steps,
      batch_size=1,
      num_critiques=2,
      num_refinements=1,
      num_controls=1,
      checkpoint_every=500,
      records_every=100,
    )
  )
  return config


def watch(monkeypatch, every):
  """Returns a list that fills with what the process holds, every few steps."""
  log, rows, process = train.Run._log, [], psutil.Process()

  def watched(self, phase, step, collected, metrics):
    metrics = log(self, phase, step, collected, metrics)
    if (step + 1) % every == 0:
      rows.append(
        dict(
          mib=process.memory_info().rss / 2**20,
          files=len(os.listdir('/proc/self/fd')),
          threads=process.num_threads(),
          children=len(process.children(recursive=True)),
        )
      )
    return metrics

  monkeypatch.setattr(train.Run, '_log', watched)
  return rows


@pytest.mark.slow
def test_nothing_grows(tmp_path, monkeypatch):
  usage = watch(monkeypatch, STEPS // 20)
  run(smallest_config(STEPS), tmp_path)
  rows = list(run_dir.read_metrics(tmp_path / 'metrics.jsonl'))
  assert len(rows) == STEPS
  seconds = [row['time/step_s'] for row in rows]
  tenths = [
    statistics.median(seconds[i : i + STEPS // 10])
    for i in range(0, STEPS, STEPS // 10)
  ]
  print([f'{1e3 * x:.1f} ms' for x in tenths])
  for row in usage:
    print(row)
  # Compilations and caches of the first tenth are no leak.
  first, last = usage[2], usage[-1]
  assert last['mib'] < first['mib'] + 50
  for name in ('files', 'threads', 'children'):
    assert last[name] <= first[name] + 2, name
  assert tenths[-1] < 1.5 * min(tenths)
