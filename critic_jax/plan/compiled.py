"""What XLA makes of the real update: the temporaries of its program.

It is compiled for fake CPU devices, which the plan's own figures need not be.
XLA's CPU compiler computes bfloat16 in float32 and orders the work for speed,
at the cost of memory, so its temporaries are an upper bound. What it does tell
is how the program is split: where every device has the whole batch, temporaries
are many times the estimate.

Layers are alike and unrolled. The update is compiled with two and with three,
and each further one is taken to add what the third did: the second is the first
behind which another one's values are kept.
"""

from __future__ import annotations

from critic_jax.plan import abstract, memory
from critic_jax.runtime import sharding
from critic_jax.training import updates


def temporaries(name, config, lms, mesh, learned) -> int:
  """Bytes of a device beside the state: gradients, activations, all copies.

  Args:
    name: of the phase.
    config: of the run.
    lms: by role.
    mesh: of devices, which may be fake.
    learned: see `stages.learned`.
  """
  configs = [lms[r].model.config for r in config.phases[name].train]
  layers = max(c.num_layers for c in configs)
  second = _of_layers(min(layers, 2), name, config, lms, mesh, learned)
  if layers <= 2:
    return second
  third = _of_layers(3, name, config, lms, mesh, learned)
  return second + (layers - 2) * (third - second)


def _of_layers(layers, name, config, lms, mesh, learned) -> int:
  few = {r: abstract.changed(lm, num_layers=layers) for r, lm in lms.items()}
  phase = abstract.phase(config, few, name)
  state = memory.state(phase, few, mesh)
  with sharding.on_mesh_of(state.params):
    lowered = updates.update.lower(
      phase.recipe.loss,
      phase.tx,
      state,
      abstract.batch(*learned, mesh),
      microbatches=phase.config.microbatches,
    )
  program = lowered.compile()
  return program.memory_analysis().temp_size_in_bytes
