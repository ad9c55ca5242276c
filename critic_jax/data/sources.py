"""Where a run's problems come from: functions that a config names.

Each returns `{'train': ..., 'dev': ..., 'test': ...}`, disjoint sequences of
problems. Nothing is tuned on 'test'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critic_jax.data import arithmetic as world
from critic_jax.data import problems, store
from critic_jax.types import Problem

Splits = dict[str, Sequence[Problem]]


def arithmetic(
  *,
  seed: int = 0,
  min_steps: int = 3,
  max_steps: int = 5,
  num_train: int = 20_000,
  num_dev: int = 500,
  num_test: int = 500,
) -> Splits:
  """The embedded world; disjoint by construction."""
  sizes = {'train': num_train, 'dev': num_dev, 'test': num_test}
  return {
    split: world.problems(
      split, size, seed=seed, min_steps=min_steps, max_steps=max_steps
    )
    for split, size in sizes.items()
  }


def jsonl(
  *,
  path: str,
  data_dir: str = 'data_dir',
  layout: str = 'auto',
  bad_rows: str = 'error',
  fractions: Mapping[str, float] | None = None,
  seed: int = 0,
) -> Splits:
  """A JSON-lines file, prepared once, split by the hash of the question.

  Args:
    path: the file; see `problems.read_jsonl` for layouts.
    data_dir: where the prepared set is kept.
    layout: of the rows.
    bad_rows: 'error' or 'skip'.
    fractions: of the splits.
    seed: of the split.
  """
  fractions = fractions or {'train': 0.9, 'dev': 0.05, 'test': 0.05}
  rows = store.prepare(path, data_dir, layout=layout, bad_rows=bad_rows)
  return problems.split(list(rows), fractions, seed=seed)


def tfds(
  *,
  dataset: str,
  data_dir: str = 'data_dir',
  train: str = 'train[:95%]',
  dev: str = 'train[95%:]',
  test: str = 'test',
) -> Splits:
  """A published tensorflow-datasets set, by its own splits."""
  splits = {'train': train, 'dev': dev, 'test': test}
  return {
    name: store.published(dataset, data_dir, split=split)
    for name, split in splits.items()
  }
