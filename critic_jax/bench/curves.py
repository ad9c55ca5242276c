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

PROMPT, NEW, LENGTH = 64, 32, 128  # tokens, where they do not vary
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
    title: what is measured.
    x_label: the size that varies.
    y_label: the cost.
    x: sizes, ascending.
    y: the cost at each.
  """

  title: str
  x_label: str
  y_label: str
  x: tuple[int, ...]
  y: tuple[float, ...]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
  """The slope of a line through the points in log-log: 1 is linear growth."""
  return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
  """The shortest of some calls that follow a first one."""
  call()
  found = []
  for _ in range(repeats):
    started = time.perf_counter()
    call()
    found.append(time.perf_counter() - started)
  return min(found)


def make_model(**fields) -> Transformer:
  """The tiny model, with other fields."""
  return Transformer(
    TransformerConfig(**{**work_lib.make_model('tiny'), **fields})
  )


def sampling_seconds(
  *, rows=1, prompt=PROMPT, group=1, new=NEW, **fields
) -> float:
  """Seconds to sample `group` responses to each of `rows` prompts."""
  model = make_model(max_len=2048, **fields)
  params = transformer.init_params(model, jax.random.key(0))
  draw = np.random.default_rng(0)
  size = (rows, prompt)
  prompts = draw.integers(1, model.config.vocab_size, size).tolist()
  key = jax.random.key(1)
  return seconds(lambda: ours.generate(model, params, prompts, group, new, key))


def update_cost(*, rows=8, length=LENGTH, **fields) -> tuple[float, int]:
  """Seconds of an update, and the bytes that its program holds at once."""
  model = make_model(**fields)
  params = transformer.init_params(model, jax.random.key(0))
  update, facts = ours.make_update(model, params)
  draw = np.random.default_rng(0)
  size = (rows, length)
  batch = draw.integers(1, model.config.vocab_size, size).tolist()
  return seconds(lambda: update(batch)), facts()['compiled_bytes']


def host_seconds(num_records: int) -> float:
  """Seconds to score, summarise and write records of solutions' critiques."""
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
  """About as many records: of 11, 2 are critiques and 8 refine them."""
  nothing = np.arange(40, dtype=np.int32)
  logprobs = np.linspace(-2.0, -0.1, 40, dtype=np.float32)

  def record(problem, stage, parent, index):
    return Record(
      problem=problem,
      stage=stage,
      parent=parent,
      index=index,
      prompt_tokens=nothing,
      tokens=nothing,
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
  """All curves.

  Args:
    values: the sizes of each; `VALUES` by default.
    say: is told what is measured.
  """
  values = {**VALUES, **(values or {})}
  curves = []
  for name, label in (
    ('rows', 'rows'), ('prompt', 'prompt tokens'), ('group', 'samples'),
  ):  # fmt: skip
    say(f'sampling against {label}')
    found = [
      sampling_seconds(**{'rows': 8 if name == 'prompt' else 1, name: value})
      for value in values[name]
    ]
    curves.append(
      Curve(f'sampling: {label}', label, 'seconds', values[name], tuple(found))
    )
  for name, change in (
    ('tokens', lambda value: {'rows': value // LENGTH}),
    ('vocabulary', lambda value: {'vocab_size': value}),
  ):
    say(f'update against {name}')
    found = [update_cost(**change(value)) for value in values[name]]
    for unit, column in zip(('seconds', 'bytes'), zip(*found, strict=True),
                            strict=True):  # fmt: skip
      curves.append(
        Curve(f'update: {name}', name, unit, values[name], tuple(column))
      )
  say('host against records')
  found = [host_seconds(value) for value in values['records']]
  curves.append(
    Curve('host: records', 'records', 'seconds', values['records'],
          tuple(found))
  )  # fmt: skip
  return curves


def facts(curve: Curve) -> dict[str, object]:
  """A curve and its slopes as JSON has it."""
  return {
    **curve._asdict(),
    'slope': slope(curve.x, curve.y),
    'end_slope': slope(curve.x[-3:], curve.y[-3:]),
  }


def draw(curves: Sequence[Curve], path: Path) -> None:
  """Draws a panel for each curve."""
  columns = min(4, len(curves))
  lines = math.ceil(len(curves) / columns)
  figure = Figure(figsize=(3.2 * columns, 2.9 * lines))
  axes = figure.subplots(lines, columns, squeeze=False)
  for curve, axis in zip(curves, axes.flat, strict=False):
    found = facts(curve)
    axis.loglog(curve.x, curve.y, 'o-', markersize=4)
    # In proportion to the size, through the last point.
    line = [curve.y[-1] * value / curve.x[-1] for value in curve.x]
    axis.loglog(curve.x, line, ':', color='gray', label='linear')
    axis.set_title(
      f'{curve.title}\nslope {found["slope"]:.2f}, '
      f'at the end {found["end_slope"]:.2f}',
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
  """4096 as '4k'."""
  return f'{number / 1000:.0f}k' if number >= 1000 else str(number)


def write(path: Path, say: Callable[[str], None] = print) -> None:
  """Measures and draws all curves; the numbers go beside the figure as JSON."""
  curves = measure(say=say)
  draw(curves, path)
  content = [facts(curve) for curve in curves]
  path.with_suffix('.json').write_text(json.dumps(content, indent=2) + '\n')
  for found in content:
    say(
      f'{found["title"]}, {found["y_label"]}: slope {found["slope"]:.2f}, '
      f'at the end {found["end_slope"]:.2f}'
    )
