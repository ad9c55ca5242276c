"""The works that are measured, as plain data, and the least they cost.

Sampling is a tree of stages: a problem is the prompt of the first stage, and a
later stage's prompt is that of its parent, the end of the parent's response,
and the tokens of a template. An update is one step of AdamW on the
cross-entropy of all tokens.

Models and their flops are those of `models/cost.py`: a prefix that several rows
of one model share is counted once, nothing is recomputed. Bytes are the least
that must be read from memory: the parameters once for each prefill and decode
step, and each distinct key and value once a step.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from critic_jax.models.cost import (
  Model,
  forward_flops,
  kv_bytes,
  num_params,
  read_params,
)
from critic_jax.models.sizes import SIZES

ITEMSIZE = {'float32': 4, 'bfloat16': 2}


class Stage(NamedTuple):
  """One stage of sampling.

  Attributes:
    role: the role that writes it.
    samples: responses to each prompt.
    new: tokens of each response; none ends early.
    carry: number of the parent response's last tokens that the prompt has.
    template: number of a template's tokens that follow them.
  """

  role: str
  samples: int
  new: int
  carry: int = 0
  template: int = 0


@dataclasses.dataclass(frozen=True)
class Work:
  """One measurement: sampling if it has stages, else an update.

  Attributes:
    name: its name in tables.
    rows: prompts of the first stage, or rows of the update.
    prompt: tokens of each prompt or row.
    stages: the stages of sampling, in order.
  """

  name: str
  rows: int
  prompt: int
  stages: tuple[Stage, ...] = ()

  @property
  def kind(self) -> str:
    """Returns 'prefill' (one token is sampled), 'sample' or 'update'."""
    if not self.stages:
      return 'update'
    return 'prefill' if self.stages[-1].new == 1 else 'sample'

  @property
  def tokens(self) -> int:
    """Counts tokens: sampled ones, or those a prefill or an update reads."""
    if self.kind != 'sample':
      return self.rows * self.prompt
    return sum(
      rows * stage.new
      for rows, stage in zip(self.stage_rows, self.stages, strict=True)
    )

  @property
  def stage_rows(self) -> list[int]:
    """Counts the responses of each stage."""
    counts, rows = [], self.rows
    for stage in self.stages:
      rows *= stage.samples
      counts.append(rows)
    return counts


def _sampling(name, rows, prompt, new, samples=1):
  return Work(name, rows, prompt, (Stage('solver', samples, new),))


_CRITIC_STEP = (
  Stage('solver', samples=2, new=64),
  Stage('critic', samples=4, new=64, carry=64, template=8),
  Stage('solver', samples=4, new=64, carry=32),
)
WORKS = {
  work.name: work
  for work in (
    _sampling('prefill', rows=8, prompt=512, new=1),
    _sampling('decode8', rows=8, prompt=128, new=128),
    _sampling('decode32', rows=32, prompt=128, new=128),
    _sampling('group', rows=1, prompt=512, new=64, samples=16),
    Work('critic_step', rows=4, prompt=128, stages=_CRITIC_STEP),
    Work('update', rows=4, prompt=512),
  )
}


def resized(
  work: Work,
  *,
  rows: int | None = None,
  prompt: int | None = None,
  new: int | None = None,
) -> Work:
  """Returns the work with other numbers; None keeps one.

  A stage carries no more than its parent writes.

  Args:
    work: the work.
    rows: prompts of the first stage, or rows of the update.
    prompt: tokens of each prompt or row.
    new: tokens of each response, in each stage.
  """
  stages = work.stages
  if new is not None and work.kind == 'sample':
    stages = tuple(
      stage._replace(new=new, carry=min(stage.carry, new)) for stage in stages
    )
  return dataclasses.replace(
    work, rows=rows or work.rows, prompt=prompt or work.prompt, stages=stages
  )


def make_model(size: str) -> dict[str, Any]:
  """Returns the fields of a named size, 4096 tokens if it names none."""
  return {'vocab_size': 4096, **SIZES[size]}


class Need(NamedTuple):
  """The least flops of a phase of a work, and the least bytes moved."""

  phase: str
  flops: int
  bytes: int


class _Segment(NamedTuple):
  """A part of the prompts of a stage."""

  name: str
  length: int
  copies: int  # the number of different ones


def needs(work: Work, model: Model, dtype: str) -> list[Need]:
  """Returns the least cost of each phase of a work.

  Args:
    work: the work.
    model: the fields of TransformerConfig.
    dtype: the dtype of parameters and cache, a key of `ITEMSIZE`; an update
      keeps its parameters and moments in float32.

  Returns:
    'update', or '<n>.prefill' and '<n>.decode' for each stage n.
  """
  if work.kind == 'update':
    return [_update_need(work, model)]
  stage_needs = []
  path = (_Segment('problem', work.prompt, work.rows),)
  computed = {stage.role: set() for stage in work.stages}
  for number, stage in enumerate(work.stages):
    if number:
      path = _prompt_path(path, work, number)
    stage_needs += _stage_needs(
      work, number, model, ITEMSIZE[dtype], path, computed[stage.role]
    )
  return stage_needs


def _prompt_path(path, work, number):
  """Adds the carried end of the parent's response and the template."""
  stage, parent = work.stages[number], work.stages[number - 1]
  rows = work.stage_rows[number - 1]
  if stage.carry == parent.new:
    # Its last token was sampled and not fed.
    path += (_Segment(f'response {number - 1}', parent.new - 1, rows),)
    path += (_Segment(f'last {number - 1}', 1, rows),)
  elif stage.carry:
    path += (_Segment(f'end {number - 1}', stage.carry, rows),)
  if stage.template:
    path += (_Segment(f'template {number}', stage.template, rows),)
  return path


def _stage_needs(work, number, model, itemsize, path, computed):
  """Returns the needs of a stage; adds what it computes to `computed`."""
  stage, rows = work.stages[number], work.stage_rows[number]
  flops, start = 0, 0
  for end, segment in enumerate(path, 1):
    if path[:end] not in computed:
      computed.add(path[:end])
      flops += segment.copies * forward_flops(model, segment.length, start, 0)
    start += segment.length
  prompts = rows // stage.samples
  flops += 2 * model['embed_dim'] * model['vocab_size'] * prompts
  param_bytes = read_params(model) * itemsize
  prefill = Need(f'{number}.prefill', flops, param_bytes)

  steps = stage.new - 1  # the first token is drawn from the prefill's logits
  computed.add((*path, _Segment(f'response {number}', steps, rows)))
  flops = rows * forward_flops(model, steps, start, steps)
  cached = sum(segment.copies * segment.length for segment in path)
  looks = steps * cached + rows * steps * (steps + 1) // 2
  moved = steps * param_bytes + looks * kv_bytes(model, itemsize)
  return [prefill, Need(f'{number}.decode', flops, moved)]


def _update_need(work, model):
  """Returns the need of a forward pass and a backward one of twice its flops.

  Each float32 parameter is read by both, its gradient written and read, and
  parameter and moments read and written by AdamW: 10 passes of 4 bytes.
  """
  flops = 3 * forward_flops(model, work.prompt, 0, work.prompt - 1)
  return Need('update', work.rows * flops, 10 * 4 * num_params(model))


def least_seconds(
  phase_needs: list[Need], matmul_flops: float, bandwidth: float
) -> float:
  """Returns the seconds that a machine's limits allow: a sum over phases.

  A phase takes as long as its flops or its bytes, whichever are slower.

  Args:
    phase_needs: the result of `needs`.
    matmul_flops: flops per second.
    bandwidth: bytes per second.
  """
  return sum(
    max(need.flops / matmul_flops, need.bytes / bandwidth)
    for need in phase_needs
  )
