"""Sources of a run's problems: functions that a config names.

Each returns `{'train': ..., 'dev': ..., 'test': ...}`, disjoint sequences of
problems, or 'test' alone for a source that is not trained on. Nothing is tuned
on 'test'.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from critic_jax.data import problems, store
from critic_jax.data import solutions as solutions_lib
from critic_jax.tasks import arithmetic as world
from critic_jax.tasks import arithmetic_labels
from critic_jax.types import Problem, Record

Splits = dict[str, Sequence[Problem | Record]]


def arithmetic(
  *,
  seed: int = 0,
  min_steps: int = 3,
  max_steps: int = 5,
  unseen: bool = False,
  num_train: int = 20_000,
  num_dev: int = 500,
  num_test: int = 500,
) -> Splits:
  """Makes problems of the embedded world; its splits are always disjoint."""
  sizes = {'train': num_train, 'dev': num_dev, 'test': num_test}
  return {
    split: world.problems(
      split,
      size,
      seed=seed,
      min_steps=min_steps,
      max_steps=max_steps,
      unseen=unseen,
    )
    for split, size in sizes.items()
  }


def arithmetic_slips(
  *,
  seed: int = 0,
  min_steps: int = 3,
  max_steps: int = 5,
  unseen: bool = False,
  num_test: int = 500,
) -> Splits:
  """Makes given solutions of the embedded world, every second with a slip.

  They are labelled with their first wrong step, as ProcessBench's are, and
  depend on no solver.
  """
  problem_set = world.problems(
    'test',
    num_test,
    seed=seed,
    min_steps=min_steps,
    max_steps=max_steps,
    unseen=unseen,
  )
  rng = random.Random(seed)
  return {
    'test': [
      arithmetic_labels.solution(problem, bool(i % 2), rng)
      for i, problem in enumerate(problem_set)
    ]
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
  """Reads a JSON-lines file, prepared once, split by hashes of questions.

  Args:
    path: the file.
    data_dir: the folder of prepared sets.
    layout: a layout of `data/problems.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    fractions: the share of each split.
    seed: the seed of the split.
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
  """Reads a set that tensorflow-datasets publishes, by its own splits."""
  splits = {'train': train, 'dev': dev, 'test': test}
  return {
    name: store.published(dataset, data_dir, split=split)
    for name, split in splits.items()
  }


def benchmark(
  *, path: str, layout: str = 'auto', bad_rows: str = 'error'
) -> Splits:
  """Reads a file of problems to evaluate on, unsplit."""
  return {'test': problems.read_jsonl(path, layout=layout, bad_rows=bad_rows)}


def solutions(
  *,
  paths: Sequence[str],
  layout: str = 'auto',
  bad_rows: str = 'error',
  number: int = 0,
  by: str = 'solution',
  seed: int = 0,
) -> Splits:
  """Reads given solutions, e.g. the four files of ProcessBench.

  Args:
    paths: the files; the stem of each is the name of its part.
    layout: a layout of `data/solutions.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    number: the solutions or problems to draw from each file; 0 takes all.
    by: the unit of `number`, 'solution' or 'problem'.
    seed: the seed of the draw.

  Raises:
    ValueError: two files hold a solution of the same id, or a file is bad.
  """
  records, path_by_id = [], {}
  for path in paths:
    part = solutions_lib.read(path, layout=layout, bad_rows=bad_rows)
    # Refuse ids that another file has: records of both would be confused.
    copies = [r.id for r in part if path_by_id.setdefault(r.id, path) != path]
    if list(paths).count(path) > 1:
      copies = [r.id for r in part]
    if copies:
      raise ValueError(
        f'paths: got {len(copies)} solutions again in {path} ({copies[0]!r}, '
        '...); expected files of different ids; leave one out, or rename one'
      )
    # Draw from each file, so that every part keeps its place in the mean.
    if number:
      part = solutions_lib.sample(part, number, seed=seed, by=by)
    records += part
  return {'test': records}
