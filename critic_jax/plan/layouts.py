"""The meshes that a run may train and sample on, and those worth naming."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jax.sharding import AbstractMesh

from critic_jax import lookup
from critic_jax.plan import abstract
from critic_jax.runtime import sharding

# The seconds of a run, `Layout.mesh`, `Layout.sizes`, and a function that plans
# it, or returns None where parameters alone do not fit.
Candidate = tuple[float, dict, dict, Callable]
_WORTH = 0.95  # of the seconds of a run: another layout has less, or is silent


class Layout(NamedTuple):
  """A layout beside that of the plan.

  Attributes:
    mesh: sizes by axis that `mesh` would have; {}: those of the plan.
    sizes: sizes by axis that `sample_mesh` would have.
    seconds: seconds of a step by phase.
    total: the most bytes at one time, of the phase that needs most.
  """

  mesh: dict[str, int]
  sizes: dict[str, int]
  seconds: dict[str, float]
  total: int


def sample_mesh(sizes, mesh, processes):
  """Makes the mesh that a process samples on; `mesh` if that is the same."""
  if mesh.size % processes:
    raise ValueError(
      f'processes: got {processes} for {mesh.size} devices; expected a divisor'
    )
  with lookup.naming('sample_mesh'):
    shape = sharding.sampling_shape(sizes, mesh, processes)
  return mesh if shape is None else AbstractMesh(shape, sharding.AXES)


def sample_meshes(lms, mesh, processes) -> dict[tuple[int, ...], Any]:
  """Lists the meshes that a process may sample on, by their shape.

  Rows are split by the devices that `tensor` does not take, by `data` or by
  `fsdp`, where the matrices of all models can be split so.
  """
  num_devices, meshes = mesh.size // processes, {}
  for tensor in _divisors(num_devices):
    for axis in ('data', 'fsdp'):
      sizes = {axis: num_devices // tensor, 'tensor': tensor}
      candidate = sample_mesh(sizes, mesh, processes)
      if not _holds(candidate, lms):
        continue
      shape = sharding.mesh_shape(candidate.shape, candidate.size)
      meshes[shape] = candidate
  return meshes


def train_meshes(lms, mesh) -> list[AbstractMesh]:
  """Lists the other meshes of as many devices; `sequence` stays."""
  columns, meshes = mesh.shape['sequence'], []
  for tensor in _divisors(mesh.size // columns):
    for fsdp in _divisors(mesh.size // columns // tensor):
      data = mesh.size // columns // tensor // fsdp
      shape = data, fsdp, tensor, columns
      candidate = AbstractMesh(shape, sharding.AXES)
      if shape != tuple(mesh.shape.values()) and _holds(candidate, lms):
        meshes.append(candidate)
  return meshes


def _divisors(number) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]


def _holds(mesh, lms) -> bool:
  """Whether the matrices of all models can be split so."""
  try:
    for lm in lms.values():
      abstract.params(lm, mesh)
  except ValueError:
    return False
  return True


def to_sample_on(lms, target, seconds, plan) -> Iterator[Candidate]:
  """Yields each mesh that a process may sample on, for `better`.

  Args:
    lms: LMs by role.
    target: a `forecast.Target`.
    seconds: a target -> the seconds of a run.
    plan: a target -> the phases as they are planned.
  """
  meshes = sample_meshes(lms, target.mesh, target.processes)
  for shape, mesh in sorted(meshes.items()):
    other = target._replace(sample_mesh=mesh)
    sizes = dict(zip(sharding.AXES, shape, strict=True))
    yield seconds(other), {}, sizes, functools.partial(plan, other)


def better(phases, candidates, steps) -> Layout | None:
  """Returns the fastest layout of sampling that fits, if it is worth typing.

  Args:
    phases: the phases as they are planned.
    candidates: layouts on the same mesh, as `to_sample_on` yields them.
    steps: steps of each phase.
  """
  if not any(phase.slots or phase.scoring for phase in phases):
    return None
  limit = math.inf
  if all(phase.fits for phase in phases):
    limit = run_seconds(phases, steps)
  return _first_that_fits(candidates, _WORTH * limit)


def on_another_mesh(phases, better, candidates, steps) -> Layout | None:
  """Returns the fastest layout on another mesh, or `better` without one.

  Args:
    phases: the phases as they are planned.
    better: the layout of sampling that is better than theirs, or None.
    candidates: layouts on other meshes.
    steps: steps of each phase.
  """
  limit = math.inf
  if better:
    limit = sum(
      n * better.seconds[phase.name]
      for n, phase in zip(steps, phases, strict=True)
    )
  elif all(phase.fits for phase in phases):
    limit = run_seconds(phases, steps)
  return _first_that_fits(candidates, _WORTH * limit) or better


def _first_that_fits(candidates, limit: float) -> Layout | None:
  """Returns the fastest layout that fits; slower ones are not planned.

  Args:
    candidates: layouts.
    limit: the most seconds of a run.
  """
  for seconds, mesh, sizes, plan in sorted(
    candidates, key=lambda x: (x[0], *x[1].values())
  ):
    if seconds > limit:
      break
    planned = plan()
    if planned and all(phase.fits for phase in planned):
      return Layout(
        mesh,
        sizes,
        {phase.name: phase.seconds for phase in planned},
        max(phase.total for phase in planned),
      )
  return None


def run_seconds(phases, steps) -> float:
  """Returns the seconds of all steps of planned phases."""
  return sum(n * phase.seconds for n, phase in zip(steps, phases, strict=True))
