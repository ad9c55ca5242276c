"""Sources of a run's problems: functions that a config names.

Each returns `{'train': ..., 'dev': ..., 'test': ...}`, disjoint sequences of
problems, of given solutions or of comparisons, or 'test' alone for a source
that is not trained on. Nothing is tuned on 'test'.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.data import (
  column_names,
  file_sets,
  preference_files,
  problems,
  solution_sets,
  store,
)
from critic_jax.data import splits as splits_lib
from critic_jax.tasks import arithmetic as world
from critic_jax.tasks import (
  arithmetic_labels,
  arithmetic_slates,
  formal_drafts,
  formal_trials,
  screens_agent,
)
from critic_jax.tasks import functions as function_world

Splits = dict[str, splits_lib.Examples]


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
  num_train: int = 0,
  num_test: int = 500,
) -> Splits:
  """Makes given solutions of the embedded world, every second with a slip.

  They are labelled with their first wrong step, as ProcessBench's are, and
  depend on no solver. There is no 'train' if `num_train` is 0.
  """
  problem_sets = arithmetic(
    seed=seed, min_steps=min_steps, max_steps=max_steps, unseen=unseen,
    num_train=num_train, num_dev=0, num_test=num_test,
  )  # fmt: skip
  splits = {}
  for split in ('train', 'test') if num_train else ('test',):
    rng = random.Random(seed)
    splits[split] = [
      arithmetic_labels.solution(problem, bool(i % 2), rng)
      for i, problem in enumerate(problem_sets[split])
    ]
  return splits


def slates(
  *,
  seed: int = 0,
  min_steps: int = 3,
  max_steps: int = 5,
  unseen: bool = False,
  num_train: int = 0,
  num_test: int = 100,
  num_responses: int = 3,
  num_right: int = 1,
  hard_share: float = 0.2,
  low: int = 1,
  high: int = 10,
  tolerance: int = 0,
  num_orders: int = 8,
) -> Splits:
  """Makes slates of the embedded world (tasks/arithmetic_slates.py).

  A problem of 'train' has one; one of 'test' has its own responses in
  `num_orders` random orders, adjacent, for as many votes. There is no 'train'
  if `num_train` is 0.

  Raises:
    ValueError: no slate is like that, or one response has several orders.
  """
  lookup.check_counts(num_orders=num_orders)
  lookup.check_counts(0, num_train=num_train)
  lookup.check_counts(num_test=num_test, num_responses=num_responses)
  settings = dict(
    num_responses=num_responses, num_right=num_right, low=low, high=high,
    tolerance=tolerance, hard_share=hard_share,
  )  # fmt: skip
  problem_sets = arithmetic(
    seed=seed, min_steps=min_steps, max_steps=max_steps, unseen=unseen,
    num_train=num_train, num_dev=0, num_test=num_test,
  )  # fmt: skip
  splits = {}
  for split in ('train', 'test') if num_train else ('test',):
    rng = random.Random(f'{seed}/slates/{split}')
    settings['num_orders'] = num_orders if split == 'test' else 1
    splits[split] = [
      slate
      for problem in problem_sets[split]
      for slate in arithmetic_slates.in_orders(problem, rng, **settings)
    ]
  return splits


def functions(
  *,
  seed: int = 0,
  max_steps: int = 3,
  num_train: int = 2000,
  num_dev: int = 200,
  num_test: int = 200,
) -> Splits:
  """Makes problems whose answers are programs; its splits are disjoint."""
  sizes = {'train': num_train, 'dev': num_dev, 'test': num_test}
  return {
    split: function_world.problems(split, size, seed=seed, max_steps=max_steps)
    for split, size in sizes.items()
  }


def screens(
  *,
  seed: int = 0,
  error_share: float = 0.3,
  num_train: int = 0,
  num_test: int = 500,
) -> Splits:
  """Makes given actions of the world of screens, every second one wrong.

  There is no 'train' if `num_train` is 0.

  Raises:
    ValueError: a number is none, or `error_share` is not in [0, 1).
  """
  screens_agent.check(error_share)
  lookup.check_counts(0, num_train=num_train)
  lookup.check_counts(num_test=num_test)
  sizes = {'train': num_train, 'test': num_test}
  return {
    split: screens_agent.examples(
      split, size, seed=seed, error_share=error_share
    )
    for split, size in sizes.items()
    if size
  }


def screen_episodes(
  *,
  seed: int = 0,
  error_share: float = 0.3,
  slack: int = 2,
  num_test: int = 100,
) -> Splits:
  """Makes the first actions of episodes, for an evaluation with `episodes`.

  Args:
    seed: of the problems and of the agent.
    error_share: how often the agent errs.
    slack: turns of an episode beside the least that its goal takes.
    num_test: episodes, on problems of 'test'.

  Raises:
    ValueError: a number is none, or `error_share` is not in [0, 1).
  """
  screens_agent.check(error_share)
  lookup.check_counts(num_test=num_test)
  lookup.check_counts(0, slack=slack)
  settings = dict(seed=seed, error_share=error_share, slack=slack)
  return {'test': screens_agent.first_actions(num_test, **settings)}


def statements(
  *,
  seed: int = 0,
  refused_share: float = 0.0,
  checker: Mapping | None = None,
  num_train: int = 0,
  num_test: int = 500,
) -> Splits:
  """Makes given formal statements, every second one wrong.

  Args:
    seed: of problems and drafts.
    refused_share: wrong statements that the checker refuses, with its message.
    checker: `command`, `deadline_s` and `folder` of `execution/checkers.py`;
      None is the language's own.
    num_train: statements of 'train', which is not there without any.
    num_test: those of 'test'.

  Raises:
    ValueError: a number is out of its range, or the checker is not there.
  """
  lookup.check_counts(0, num_train=num_train)
  lookup.check_counts(num_test=num_test)
  settings = dict(seed=seed, refused_share=refused_share, checker=checker or {})
  sizes = dict(train=num_train, test=num_test)
  return {
    split: formal_drafts.examples(split, size, **settings)
    for split, size in sizes.items()
    if size
  }


def statement_trials(
  *,
  seed: int = 0,
  error_share: float = 0.5,
  refused_share: float = 0.3,
  max_tries: int = 8,
  checker: Mapping | None = None,
  num_test: int = 100,
) -> Splits:
  """Makes first statements of trials, for an evaluation with `episodes`.

  Args:
    seed, refused_share, checker, num_test: as of `statements`.
    error_share: how often the formaliser errs.
    max_tries: drafts of a trial, at most.
  """
  lookup.check_counts(num_test=num_test, max_tries=max_tries)
  trials = formal_trials.examples(
    num_test, seed=seed, error_share=error_share, refused_share=refused_share,
    max_tries=max_tries, checker=checker or {},
  )  # fmt: skip
  return {'test': trials}


def files(
  *,
  paths: str | Sequence[str] | Mapping[str, str | Sequence[str]],
  columns: str = '',
  layout: str = 'auto',
  bad_rows: str = 'error',
  fractions: Mapping[str, float] | None = None,
  seed: int = 0,
  data_dir: str = 'data_dir',
) -> Splits:
  """Reads problems from files: JSON lines, JSON, CSV, Parquet, Arrow, or .gz.

  A split without a path is that of the folder that `paths.train` names, if the
  folder has one, and else a share of `train`, by hashes of questions. Without
  `paths.train` there are only the splits that have a path. A question that two
  splits have is kept in test rather than in dev, and in dev rather than in
  train.

  Args:
    paths: by split, 'train', 'dev' and 'test': a file, a folder, a pattern,
      several with commas between them, or 'hf://OWNER/NAME', a set of the
      Hugging Face hub; '' for none. Without splits it is the path of train.
    columns: names of ours for columns: 'question=prompt,answer=label'.
    layout: a layout of `data/problems.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    fractions: the share of each split; of 'train' alone, where another split
      has a path of its own.
    seed: the seed of the split by shares.
    data_dir: the folder of prepared sets, each file being read once; '' reads
      the files at each start.

  Raises:
    ValueError: no path, a file or a row that cannot be read, or one that comes
      twice.
  """
  column_names.parse(columns)
  sets = file_sets.named_apart(file_sets.by_split(paths, data_dir))
  settings = dict(layout=layout, columns=columns, bad_rows=bad_rows)
  parts = {
    split: list(store.prepare(part, data_dir, **settings))
    if data_dir
    else problems.read(part, **settings)
    for split, part in sets.items()
  }
  return splits_lib.disjoint(parts, fractions, seed)


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


def solutions(
  *,
  paths: str | Sequence[str] | Mapping[str, str | Sequence[str]],
  columns: str = '',
  layout: str = 'auto',
  bad_rows: str = 'error',
  fractions: Mapping[str, float] | None = None,
  number: int = 0,
  by: str = 'solution',
  seed: int = 0,
) -> Splits:
  """Reads given solutions, e.g. the four files of ProcessBench.

  All solutions of a question are in one split, also those of several files:
  splits are made and kept apart as those of `files` are.

  Args:
    paths: by split, 'train', 'dev' and 'test': a file, a folder or a pattern,
      or several: a list, or with commas between them; the name of each file is
      that of its part. Without splits they are those of test.
    columns: names of ours for columns: 'question=prompt,solution=output'.
    layout: a layout of `data/solutions.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    fractions: shares of `paths.train`, as of `files`.
    number: the solutions or problems to draw from each file; 0 takes all.
    by: the unit of `number`, 'solution' or 'problem'.
    seed: the seed of the draw, and of the split by shares.

  Raises:
    ValueError: two files hold a solution of the same id, or a file is bad.
  """
  column_names.parse(columns)
  parts = solution_sets.read(
    paths, layout=layout, columns=columns, bad_rows=bad_rows, number=number,
    by=by, seed=seed,
  )  # fmt: skip
  return splits_lib.disjoint(parts, fractions, seed)


def preferences(
  *,
  paths: str | Sequence[str] | Mapping[str, str | Sequence[str]],
  columns: str = '',
  layout: str = 'auto',
  bad_rows: str = 'error',
  fractions: Mapping[str, float] | None = None,
  seed: int = 0,
  data_dir: str = 'data_dir',
) -> Splits:
  """Reads comparisons of responses from files; each has a layout of its own.

  Splits are made and kept apart as those of `files` are.

  Args:
    paths: as of `files`.
    columns: names of ours for columns: 'prompt=instruction,chosen=better'.
    layout: a layout of `data/preference_rows.py`, or 'auto'.
    bad_rows: 'error' or 'skip'.
    fractions: shares of `paths.train`, as of `files`.
    seed: the seed of the split by shares.
    data_dir: the folder of sets of the hub.

  Raises:
    ValueError: no path, or a file or a row that cannot be read.
  """
  column_names.parse(columns)
  sets = file_sets.named_apart(file_sets.by_split(paths, data_dir))
  settings = dict(layout=layout, columns=columns, bad_rows=bad_rows)
  parts = {
    split: [
      comparison
      for file_set in part
      for comparison in preference_files.read([file_set], **settings)
    ]
    for split, part in sets.items()
  }
  return splits_lib.disjoint(parts, fractions, seed)
