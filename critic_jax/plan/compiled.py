"""XLA's own count of the real update: the temporaries of its program.

It is compiled for fake CPU devices, which the plan's own figures need not be,
and which have no kernel of attention.
XLA's CPU compiler computes bfloat16 in float32 and orders the work for speed,
at the cost of memory, so its temporaries are an upper bound. They do tell how
the program is split: where every device has the whole batch, temporaries are
many times the estimate.

Layers are alike and unrolled. The update is compiled with two and with three,
and each further one is taken to add as much as the third did: the second is the
first behind which another one's values are kept.
"""

from __future__ import annotations

from critic_jax.plan import abstract, memory
from critic_jax.runtime import sharding
from critic_jax.training import updates


def temporaries(name, config, lms, mesh, batch_shape) -> int:
  """Measures bytes beside the state: gradients, activations, all copies.

  Args:
    name: the phase's name.
    config: the config of the run.
    lms: LMs by role.
    mesh: a mesh of devices, which may be fake.
    batch_shape: a `workload.Learned`.

  Returns:
    Bytes of one device.
  """
  # Two compilations tell those of any number of layers.
  configs = [lms[r].model.config for r in config.phases[name].train]
  num_layers = max(c.num_layers for c in configs)
  bytes_of_two = _of_layers(
    min(num_layers, 2), name, config, lms, mesh, batch_shape
  )
  if num_layers <= 2:
    return bytes_of_two
  bytes_of_three = _of_layers(3, name, config, lms, mesh, batch_shape)
  layer_bytes = bytes_of_three - bytes_of_two
  return bytes_of_two + (num_layers - 2) * layer_bytes


def _of_layers(num_layers, name, config, lms, mesh, batch_shape) -> int:
  """Measures the temporaries of an update of models with so many layers."""
  shallow_lms = {
    role: abstract.changed(lm, num_layers=num_layers, attention='xla')
    for role, lm in lms.items()
  }
  phase = abstract.phase(config, shallow_lms, name)
  state = memory.state(phase, shallow_lms, mesh)
  with sharding.on_mesh_of(state.params):
    lowered = updates.update.lower(
      phase.recipe.loss,
      phase.tx,
      state,
      abstract.batch(*batch_shape, mesh),
      microbatches=phase.config.microbatches,
    )
  return lowered.compile().memory_analysis().temp_size_in_bytes
