"""The pipeline of a phase: its batches in order, each with its age.

A phase of `staleness` 1 collects the next batch while the device updates with
this one, and so with the parameters from before that update. The first batch of
a phase, and the first after each checkpoint, are fresh: a run that continues
from there has nothing in flight to restore. A phase that is told to end between
its checkpoints keeps the parameters that wrote the batch in flight (`before`),
from which the batch is collected again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from critic_jax.runtime import sharding, timing
from critic_jax.training import adapters
from critic_jax.training import roles as roles_lib
from critic_jax.training.phases import Phase
from critic_jax.types import Batch, Key, Params, Record, Roles


class Collected(NamedTuple):
  """A batch as given and on the mesh, its records, and their costs."""

  given: Batch
  batch: Batch
  records: list[Record]
  costs: dict[str, float]


class Pipeline:
  """Iterates over the steps of a phase: yields `(step, collected, age)`.

  The age counts the steps since the parameters that wrote the batch: 0 if they
  are those that learn from it, else 1. Within each step the loop calls
  `collect_ahead` when the update is dispatched, and then `advance`.

  Args:
    phase: whose recipe collects.
    frozen: parameters that are not trained: roles, and bases of adapters.
    trained: parameters that are.
    batches: the examples of each step, beginning with step `done`.
    key: the key of the phase; each step folds its number in.
    mesh: where batches are put.
    layouts: layouts of roles for sampling (`roles.sampling_layouts`).
    done: steps of the phase that were run before.
    before: parameters that write the first batch, if it is not fresh.
  """

  def __init__(
    self,
    phase: Phase,
    *,
    frozen: Roles,
    trained: Roles,
    batches: Iterator[Sequence[Any]],
    key: Key,
    mesh: jax.sharding.Mesh,
    layouts: Mapping[str, Any] | None,
    done: int = 0,
    before: Roles | None = None,
  ):
    self.mesh = mesh
    self._phase, self._batches, self._key = phase, batches, key
    self._layouts = layouts
    self._frozen = roles_lib.to_sample(frozen, layouts)
    self._step = done
    self._trained = trained
    self._writer = trained if before is None else before
    self._ahead: Collected | None = None

  def __iter__(self) -> Iterator[tuple[int, Collected, int]]:
    for step in range(self._step, self._phase.config.steps):
      age = int(self._writer is not self._trained)
      collected = self._ahead or self._collect(step, self._writer)
      # Old parameters need not outlive their batch.
      self._step, self._ahead, self._writer = step, None, None
      yield step, collected, age

  def collect_ahead(self) -> None:
    """Collects the next batch beside the update, unless it is to be fresh."""
    config = self._phase.config
    if config.staleness and not is_saved(config, self._step):
      self._writer = self._trained
      self._ahead = self._collect(self._step + 1, self._writer)

  def advance(self, trained: Roles) -> None:
    """Takes the parameters that the step's update has made."""
    self._trained = trained
    if self._ahead is None:
      self._writer = trained

  @property
  def before(self) -> Params | None:
    """Returns the parameters that wrote the batch in flight, or None."""
    return self._writer if self._ahead else None

  def _collect(self, step: int, trained: Roles) -> Collected:
    """Collects a step's batch with the trained roles as they are given."""
    sampled = roles_lib.to_sample(trained, self._layouts)
    roles = adapters.join_roles(self._frozen, sampled)
    key = jax.random.fold_in(self._key, step)
    examples = next(self._batches)
    with timing.opened() as costs, timing.timed('time/collect_s'):
      given, records = self._phase.recipe.collect(roles, examples, key)
      batch = sharding.put_batch(given, self.mesh)
    return Collected(given, batch, records, costs)


def is_saved(config, step: int) -> bool:
  """Whether a checkpoint follows this step of a phase with this config."""
  return (step + 1) % config.checkpoint_every == 0 or step == config.steps - 1
