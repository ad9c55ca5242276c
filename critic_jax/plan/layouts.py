"""The meshes that a run may sample on, and the one that is worth naming."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax.sharding import AbstractMesh

from critic_jax import lookup
from critic_jax.plan import abstract
from critic_jax.runtime import sharding

_WORTH = 0.95  # of the seconds of a run: another layout has less, or is silent


class Layout(NamedTuple):
  """A layout of sampling beside that of the plan.

  Attributes:
    sizes: sizes by axis that `sample_mesh` would have.
    seconds: seconds of a step by phase.
    total: the most bytes at one time, of the phase that needs most.
  """

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
  divisors = [n for n in range(1, num_devices + 1) if num_devices % n == 0]
  for tensor in divisors:
    for axis in ('data', 'fsdp'):
      sizes = {axis: num_devices // tensor, 'tensor': tensor}
      candidate = sample_mesh(sizes, mesh, processes)
      try:
        for lm in lms.values():
          abstract.params(lm, candidate)
      except ValueError:
        continue
      shape = sharding.mesh_shape(candidate.shape, candidate.size)
      meshes[shape] = candidate
  return meshes


def better(phases, candidates, steps) -> Layout | None:
  """Returns the fastest layout that fits, if it is worth typing.

  Args:
    phases: the phases as they are planned.
    candidates: by shape of the mesh to sample on a function that plans them.
    steps: steps of each phase.
  """
  if not any(phase.slots or phase.scoring for phase in phases):
    return None

  def run_seconds(phases):
    return sum(
      n * phase.seconds for n, phase in zip(steps, phases, strict=True)
    )

  plans = ((shape, plan()) for shape, plan in candidates.items())
  fitting = [
    (run_seconds(plan), shape, plan)
    for shape, plan in plans
    if all(phase.fits for phase in plan)
  ]
  if not fitting:
    return None
  seconds, shape, best = min(fitting, key=lambda candidate: candidate[:2])
  if all(phase.fits for phase in phases):
    if seconds > _WORTH * run_seconds(phases):
      return None
  return Layout(
    dict(zip(sharding.AXES, shape, strict=True)),
    {phase.name: phase.seconds for phase in best},
    max(phase.total for phase in best),
  )
