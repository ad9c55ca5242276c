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
  """Problems of the embedded world; splits are disjoint by construction."""
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
  """Given solutions of the embedded world, every second one with a slip.

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
  """A JSON-lines file, prepared once, split by the hash of the question.

  Args:
    path: the file.
    data_dir: the folder of prepared sets.
    layout: one of `data/problems.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    fractions: the share of each split.
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
  """A set that tensorflow-datasets publishes, by its own splits."""
  splits = {'train': train, 'dev': dev, 'test': test}
  return {
    name: store.published(dataset, data_dir, split=split)
    for name, split in splits.items()
  }


def benchmark(
  *, path: str, layout: str = 'auto', bad_rows: str = 'error'
) -> Splits:
  """A file of problems to evaluate on, unsplit."""
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
  """Given solutions, e.g. the four files of ProcessBench.

  Args:
    paths: the files; the stem of each is the name of its part.
    layout: one of `data/solutions.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    number: of solutions or problems drawn from each file; 0 takes all.
    by: the unit of `number`, 'solution' or 'problem'.
    seed: of the draw.

  Raises:
    ValueError: two files hold a solution of the same id, or a file is bad.
  """
  records, path_by_id = [], {}
  for path in paths:
    part = solutions_lib.read(path, layout=layout, bad_rows=bad_rows)
    copies = [r.id for r in part if path_by_id.setdefault(r.id, path) != path]
    if list(paths).count(path) > 1:
      copies = [r.id for r in part]
    if copies:
      raise ValueError(
        f'paths: got {len(copies)} solutions again in {path} ({copies[0]!r}, '
        '...); expected files of different ids; leave one out, or rename one'
      )
    if number:
      part = solutions_lib.sample(part, number, seed=seed, by=by)
    records += part
  return {'test': records}
