"""The largest micro-batch and the most slots, compiled themselves.

What was compiled for the config's own sizes scales the plan (`forecast.py`),
and that says where to begin: at the largest size of which a step has so many.
It is compiled, and the next smaller one where it has no room.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from critic_jax.plan import abstract, step_times, workload
from critic_jax.plan.compiled import Compiled, Program
from critic_jax.plan.forecast import Phase

_COPY = ' to sample with'  # how the names of copies in `Phase.sampling` end


class Search(NamedTuple):
  """What is searched for a phase, and by which compiler.

  Attributes:
    config: the config of the run.
    lms: LMs by role.
    phase: the plan of the phase.
    results: its programs as they were compiled.
    limit: bytes of a device that arrays may take.
    programs: `(config, lms, kind) -> programs`, as `compiled.programs`.
    measure: `(program, lms) -> Compiled`, as `compiled.measure`.
  """

  config: object
  lms: dict
  phase: Phase
  results: Sequence[Compiled]
  limit: float
  programs: Callable[..., Iterable[Program]]
  measure: Callable[..., Compiled]


def confirmed(search: Search, most_rows=None, most_slots=None) -> dict:
  """Returns the largest sizes that compile, of those that are asked for.

  Args:
    search: what is searched.
    most_rows: rows of the largest micro-batch by the plan as it was compiled.
    most_slots: the most slots of a process, likewise.

  Returns:
    'most_rows' and 'most_slots' that fit, or 0: at most all of a step.
  """
  numbers = {}
  if most_rows is not None:
    numbers['most_rows'] = _most_rows(search, most_rows)
  if most_slots is not None:
    numbers['most_slots'] = _most_slots(search, most_slots)
  return numbers


def _most_rows(search: Search, limit: int) -> int:
  phase, config = search.phase, search.config
  own = config.phases[phase.name].microbatches
  number = phase.rows * own
  for microbatches in range(1, number + 1):
    rows, rest = divmod(number, microbatches)
    if rest or rows > limit:
      continue
    if microbatches == own:
      [*_, result] = [r for r in search.results if r.kind == 'update']
    else:
      changed = config.copy_and_resolve_references()
      changed.phases[phase.name].microbatches = microbatches
      [*_, longest] = search.programs(changed, search.lms, 'update')
      result = search.measure(longest, search.lms)
    if _has_room(search, result):
      return rows
  return 0


def _most_slots(search: Search, limit: int) -> int:
  samplers = [r for r in search.results if r.kind in ('insert', 'decode')]
  widest = max(samplers, key=lambda r: r.total)
  lm = search.lms[widest.role]
  recipe = abstract.phase(search.config, search.lms, search.phase.name).recipe
  name, _, _ = widest.program.partition(':')
  [stage] = [
    step_times.share(stage, lm.processes)
    for stage in workload.sampled(recipe, search.lms)
    if stage.stage == name
  ]
  own, tried = lm.shape(stage.prompts, stage.samples), set()
  for exponent in reversed(range(limit.bit_length())):
    other = dataclasses.replace(lm, max_rows=lm.processes << exponent)
    shape = other.shape(stage.prompts, stage.samples)
    if shape in tried:  # a step has no more responses
      continue
    tried.add(shape)
    result = widest
    if shape != own:
      lms = search.lms | {widest.role: other}
      programs = search.programs(search.config, lms, widest.kind)
      [*_, longest] = [p for p in programs if p.name == widest.program]
      result = search.measure(longest, lms)
    if _has_room(search, result):
      return math.prod(shape)
  return 0


def _has_room(search: Search, result: Compiled) -> bool:
  """Whether a device has room for a program beside all that it holds."""
  phase = search.phase
  held = sum(phase.held.values()) - next(iter(result.planned.values()))
  copies = {k: n for k, n in phase.sampling.items() if k.endswith(_COPY)}
  collect = max(sum(phase.sampling.values()), sum(phase.scoring.values()))
  # A stale phase collects its next batch beside the update.
  is_stale = search.config.phases[phase.name].staleness > 0
  if result.kind == 'update':
    held += collect * is_stale
  else:
    held += sum(copies.values()) + sum(phase.update.values()) * is_stale
  return not result.refusal and held + result.total <= search.limit
