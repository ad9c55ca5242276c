"""Grids of settings: lists of {dotted.name: value}, each a run.

  grid.sweep('seed', [0, 1, 2])                       three runs
  grid.product(grid.sweep('phases.rl.gate', ['wrong', 'always']),
               grid.sweep('seed', [0, 1, 2]))         six: each with each
  grid.zipped(grid.sweep('phases.rl.steps', [20, 80]),
              grid.sweep('phases.rl.batch_size', [64, 16]))
                                                      two: first with first
  grid.chain(grid.sweep('seed', [0, 1]), other)       one after the other

Names are those of a config's settings; launch/experiment.py checks them.
"""


def sweep(name, values) -> list[dict]:
  """One setting, a point for each value."""
  if isinstance(values, str) or not list(values):
    raise ValueError(
      f'sweep of {name}: got {values!r}; expected a list of values'
    )
  return [{name: value} for value in values]


def product(*grids) -> list[dict]:
  """Every point of the first with every point of the others; last is fastest.

  Raises:
    ValueError: two grids have a setting in common.
  """
  points = [{}]
  for grid in grids:
    points = [_joined('product', a, b) for a in points for b in grid]
  return points


def zipped(*grids) -> list[dict]:
  """The first points together, then the second, ...

  Raises:
    ValueError: two grids have a setting in common, or differ in length.
  """
  lengths = [len(grid) for grid in grids]
  if len(set(lengths)) > 1:
    raise ValueError(f'zipped: got grids of {lengths}; expected equal lengths')
  points = [{} for _ in range(lengths[0] if lengths else 0)]
  for grid in grids:
    points = [
      _joined('zipped', a, b) for a, b in zip(points, grid, strict=True)
    ]
  return points


def chain(*grids) -> list[dict]:
  """The points of the first, then those of the others."""
  return [point for grid in grids for point in grid]


def _joined(what, a, b) -> dict:
  if both := sorted(a.keys() & b.keys()):
    raise ValueError(
      f'{what}: got {both} in two grids; expected each setting in one of them'
    )
  return {**a, **b}
