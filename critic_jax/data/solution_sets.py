"""Given solutions of all files of a run: drawn, and apart by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critic_jax.data import file_sets, solutions
from critic_jax.types import Record


def read(
  paths: str | Sequence[str] | Mapping[str, str | Sequence[str]],
  *,
  layout: str,
  columns: str,
  bad_rows: str,
  number: int,
  by: str,
  seed: int,
) -> dict[str, list[Record]]:
  """Reads the solutions of each split; those of several files in their order.

  Args:
    paths: by split, or those of 'test', as `sources.solutions` has them.
    layout: a layout of `solutions.py`, or 'auto'.
    columns: names of ours for columns.
    bad_rows: 'error' or 'skip'.
    number: the solutions or problems to draw from each file; 0 takes all.
    by: the unit of `number`, 'solution' or 'problem'.
    seed: the seed of the draw.

  Raises:
    ValueError: two files hold a solution of the same id, or a file is bad.
  """
  if hasattr(paths, 'items'):  # a mapping or a ConfigDict
    sets = file_sets.by_split(paths, None)
  else:
    found = file_sets.find(paths, 'paths').values()
    sets = {'test': [file_set for part in found for file_set in part]}
  parts, place_by_id = {}, {}
  for split, named in file_sets.named_apart(sets).items():
    parts[split] = []
    for file_set in named:
      place = file_sets.label([file_set])
      part = solutions.read(
        [file_set], layout=layout, columns=columns, bad_rows=bad_rows
      )
      # Refuse ids that another file has: records of both would be confused.
      copies = [
        r.id for r in part if place_by_id.setdefault(r.id, place) != place
      ]
      if copies:
        raise ValueError(
          f'paths: got {len(copies)} solutions again in {place} '
          f'({copies[0]!r}, ...); expected files of different ids; leave one '
          'out, or rename one'
        )
      # Draw from each file, so that every part keeps its place in the mean.
      if number:
        part = solutions.sample(part, number, seed=seed, by=by)
      parts[split] += part
  return parts
