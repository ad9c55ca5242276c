"""How cost grows: a figure of seconds and bytes against sizes.

Sampling against rows, prompt length and group size; the update's seconds and
bytes against tokens and vocabulary; the host's bookkeeping against records. All
at the size 'tiny', both axes logarithmic, each with two slopes: over all points
and over the last three. Cost that is linear ends in a slope of 1; a larger one
at the end is a bend upward.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from critic_jax.bench import ours
from critic_jax.bench import work as work_lib
from critic_jax.models import transformer
from critic_jax.models.config import TransformerConfig
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.types import Problem, Record
from critic_jax.workdir import run_dir

PROMPT, NEW, LENGTH = 64, 32, 128  # tokens, where they are fixed
VALUES = {
  'rows': (4, 8, 16, 32, 64, 128),
  'prompt': (32, 64, 128, 256, 512, 1024),
  'group': (4, 8, 16, 32, 64, 128),
  'tokens': (256, 512, 1024, 2048, 4096),
  'vocabulary': (2048, 4096, 8192, 16384, 32768),
  'records': (300, 1000, 3000, 10000, 30000),
}


class Curve(NamedTuple):
  """One panel of the figure.

  Attributes:
    title: the title of the panel.
    x_label: the size that varies.
    y_label: the cost.
    x: sizes, ascending.
    y: the cost at each size.
  """

  title: str
  x_label: str
  y_label: str
  x: tuple[int, ...]
  y: tuple[float, ...]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
  """Fits a line in log-log and returns its slope: 1 is linear growth."""
  return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
  """Returns the seconds of the shortest of some calls after a first one."""
  call()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return min(times)


def make_model(**fields) -> Transformer:
  """Makes the tiny model, with other fields."""
  return Transformer(
    TransformerConfig(**{**work_lib.make_model('tiny'), **fields})
  )


def sampling_seconds(
  *, rows=1, prompt=PROMPT, group=1, new=NEW, **fields
) -> float:
  """Returns the seconds to sample `group` responses to each prompt."""
  model = make_model(max_len=2048, **fields)
  params = transformer.init_params(model, jax.random.key(0))
  draw = np.random.default_rng(0)
  size = (rows, prompt)
  prompts = draw.integers(1, model.config.vocab_size, size).tolist()
  key = jax.random.key(1)
  return seconds(lambda: ours.generate(model, params, prompts, group, new, key))


def update_cost(*, rows=8, length=LENGTH, **fields) -> tuple[float, int]:
  """Returns the seconds of an update and the bytes of its program."""
  model = make_model(**fields)
  params = transformer.init_params(model, jax.random.key(0))
  update, facts = ours.make_update(model, params)
  draw = np.random.default_rng(0)
  size = (rows, length)
  batch = draw.integers(1, model.config.vocab_size, size).tolist()
  return seconds(lambda: update(batch)), facts()['compiled_bytes']


def host_seconds(num_records: int) -> float:
  """Returns the seconds to score, summarise and write so many records."""
  records = make_records(num_records)
  critiques = [r for r in records if r.stage == 'critique']
  refinements = [r for r in records if r.stage == 'refine']
  rules = {
    'judge': lambda record, responses: float(len(record.tokens) % 2),
    'refine': lambda record, responses: np.mean(
      [r.parsed['correct'] for r in responses]
    ),
  }
  weights = {'judge': 1.0, 'refine': 1.0}

  def once():
    scored = rollout.score(critiques, refinements, rules, weights)
    moved = rollout.reattach(refinements, critiques, scored)
    stage_metrics.summary([*scored, *moved])
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / 'records.jsonl.gz'
      run_dir.write_records(path, [*scored, *moved], tokens=True)

  return seconds(once, repeats=2)


def make_records(num_records: int) -> list[Record]:
  """Makes about so many records: of 11, 2 are critiques and 8 refine them."""
  tokens = np.arange(40, dtype=np.int32)
  logprobs = np.linspace(-2.0, -0.1, 40, dtype=np.float32)

  def record(problem, stage, parent, index):
    return Record(
      problem=problem,
      stage=stage,
      parent=parent,
      index=index,
      prompt_tokens=tokens,
      tokens=tokens,
      logprobs=logprobs,
      text='Step 1: 3 + 4 = 7.\nStep 2: 7 * 2 = 14.\nThe answer is 14.',
      parsed={'answer': '14', 'grade': 'right', 'correct': index % 2 == 0},
    )

  records = []
  for number in range(math.ceil(num_records / 11)):
    problem = Problem(f'p-{number}', 'What is (3 + 4) * 2?', '14')
    solution = record(problem, 'solve', None, 0)
    records.append(solution)
    for index in range(2):
      critique = record(problem, 'critique', solution, index)
      records.append(critique)
      records += [record(problem, 'refine', critique, k) for k in range(4)]
  return records


def measure(values=None, say=lambda text: None) -> list[Curve]:
  """Measures all curves.

  Args:
    values: the sizes by curve; those of `VALUES` where a curve has none.
    say: is called with a line before each measurement.
  """
  values = {**VALUES, **(values or {})}
  curves = []
  for name, label in (
    ('rows', 'rows'), ('prompt', 'prompt tokens'), ('group', 'samples'),
  ):  # fmt: skip
    say(f'sampling against {label}')
    costs = tuple(
      sampling_seconds(**{'rows': 8 if name == 'prompt' else 1, name: value})
      for value in values[name]
    )
    curves.append(
      Curve(f'sampling: {label}', label, 'seconds', values[name], costs)
    )
  for name, change in (
    ('tokens', lambda value: {'rows': value // LENGTH}),
    ('vocabulary', lambda value: {'vocab_size': value}),
  ):
    say(f'update against {name}')
    costs = zip(
      *(update_cost(**change(value)) for value in values[name]), strict=True
    )
    for unit, column in zip(('seconds', 'bytes'), costs, strict=True):
      curves.append(Curve(f'update: {name}', name, unit, values[name], column))
  say('host against records')
  costs = tuple(host_seconds(value) for value in values['records'])
  curves.append(
    Curve('host: records', 'records', 'seconds', values['records'], costs)
  )
  return curves


def facts(curve: Curve) -> dict[str, object]:
  """Returns a curve and its slopes as JSON has them."""
  return {
    **curve._asdict(),
    'slope': slope(curve.x, curve.y),
    'end_slope': slope(curve.x[-3:], curve.y[-3:]),
  }


def draw(curves: Sequence[Curve], path: Path) -> None:
  """Draws a figure with a panel for each curve."""
  columns = min(4, len(curves))
  lines = math.ceil(len(curves) / columns)
  figure = Figure(figsize=(3.2 * columns, 2.9 * lines))
  axes = figure.subplots(lines, columns, squeeze=False)
  for curve, axis in zip(curves, axes.flat, strict=False):
    slopes = facts(curve)
    axis.loglog(curve.x, curve.y, 'o-', markersize=4)
    # Proportional growth, through the last point.
    line = [curve.y[-1] * value / curve.x[-1] for value in curve.x]
    axis.loglog(curve.x, line, ':', color='gray', label='linear')
    axis.set_title(
      f'{curve.title}\nslope {slopes["slope"]:.2f}, '
      f'at the end {slopes["end_slope"]:.2f}',
      fontsize=9,
    )
    axis.set_xlabel(curve.x_label, fontsize=8)
    axis.set_ylabel(curve.y_label, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(curve.x, [_short(value) for value in curve.x])
    axis.yaxis.set_minor_formatter(NullFormatter())
  for axis in list(axes.flat)[len(curves) :]:
    axis.remove()
  axes.flat[0].legend(fontsize=7)
  figure.tight_layout()
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=110)


def _short(number: int) -> str:
  """Returns 4096 as '4k'."""
  return f'{number / 1000:.0f}k' if number >= 1000 else str(number)


def write(path: Path, say: Callable[[str], None] = print) -> None:
  """Measures and draws all curves; the numbers go beside the figure as JSON."""
  curves = measure(say=say)
  draw(curves, path)
  content = [facts(curve) for curve in curves]
  path.with_suffix('.json').write_text(json.dumps(content, indent=2) + '\n')
  for curve in content:
    say(
      f'{curve["title"]}, {curve["y_label"]}: slope {curve["slope"]:.2f}, '
      f'at the end {curve["end_slope"]:.2f}'
    )
