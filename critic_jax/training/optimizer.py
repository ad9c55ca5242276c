"""The optimiser of all trained roles, with a schedule and a clip.

    adamw       a mean and a mean square of each gradient: 8 bytes a parameter
    adafactor   the mean, and mean squares of rows and columns: 4 bytes
    muon        a mean, for the matrices of layers, whose changes are made
                orthogonal: 4 bytes; for all others AdamW, whose mean has
                Nesterov's correction

Learning rates are of one size: a change has a root mean square of about the
rate in each, of Muon's matrices a fifth. Where those are fit to learn faster
than AdamW would, embeddings are not: `adam_fraction`.

Steps count updates from 0. The transform works on any tree of parameters, such
as `{'critic': ..., 'value': ...}`; the gradient's norm is that of the whole
tree.
"""

from __future__ import annotations

import jax
import optax
import optax.contrib

from critic_jax.models import lora
from critic_jax.training import bfloat16_updates

# Parameters that are not decayed, even if layers are stacked into matrices.
_NOT_DECAYED = ('bias', 'scale')

_SCHEDULES = ('constant', 'cosine', 'linear')


def make_optimizer(
  *,
  learning_rate: float,
  steps: int,
  name: str = 'adamw',
  warmup_steps: int = 0,
  schedule: str = 'constant',
  end_fraction: float = 0.0,
  max_grad_norm: float = 1.0,
  weight_decay: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.95,
  eps: float = 1e-8,
  adam_fraction: float = 1.0,
  bfloat16: str = 'masters',
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Makes an optimiser that follows a clip by global norm.

  >>> tx, schedule = make_optimizer(
  ...   learning_rate=1.0, steps=9, warmup_steps=3, schedule='linear')
  >>> [round(float(schedule(step)), 2) for step in (0, 1, 2, 3, 6, 9)]
  [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]

  Args:
    learning_rate: the peak.
    steps: the number of updates of the run; the schedule ends there.
    name: 'adamw' (https://arxiv.org/abs/1711.05101), 'adafactor' (1804.04235,
      its changes not scaled by the parameters, clipped where their root mean
      square is over 1), or 'muon' (2502.16982).
    warmup_steps: updates before the peak is reached, linearly. The first of
      them already moves: update k has `(k + 1) / (warmup_steps + 1)` of it.
    schedule: 'constant', 'cosine' or 'linear', after the warm-up.
    end_fraction: the fraction of the peak that is reached at `steps`;
      'constant' does not use it.
    max_grad_norm: gradients of a larger global norm are scaled to it; infinity
      for no clip.
    weight_decay: the decay of matrices; biases, scales and norms have none.
    b1: the decay of the mean, but for that of Muon's matrices, 0.95.
    b2: Adam's decay of the mean square; Adafactor's grows with the updates.
    eps: Adam's epsilon, outside the root; Adafactor has another.
    adam_fraction: the rate of what Muon leaves to AdamW, embeddings and heads
      and vectors, by that of matrices; 1.0 for the others.
    bfloat16: how parameters in bfloat16 keep changes that are smaller than
      their last place: 'masters', in float32 copies in the optimiser's state,
      or 'stochastic', by rounding at random (training/bfloat16_updates.py).

  Returns:
    The transform, and the schedule: update number -> learning rate.

  Raises:
    ValueError: a value outside its range, or an unknown name or schedule.
  """
  schedule_fn = _make_schedule(
    learning_rate, steps, warmup_steps, schedule, end_fraction
  )
  if not max_grad_norm > 0:
    raise ValueError(
      f'max_grad_norm: got {max_grad_norm!r}; expected > 0; for no clip set '
      "it to float('inf')"
    )
  if adam_fraction != 1.0 and name != 'muon':
    raise ValueError(
      f'adam_fraction: got {adam_fraction!r} with {name!r}, which has one rate '
      "for all parameters; expected 1.0, or name='muon'"
    )
  if name == 'adamw':
    tx = optax.adamw(
      schedule_fn, b1, b2, eps, weight_decay=weight_decay, mask=_is_decayed
    )
  elif name == 'adafactor':
    tx = _adafactor(schedule_fn, b1, weight_decay)
  elif name == 'muon':
    tx = optax.contrib.muon(
      schedule_fn, eps=eps, weight_decay=weight_decay, adam_b1=b1, adam_b2=b2,
      adam_learning_rate=lambda step: adam_fraction * schedule_fn(step),
      consistent_rms=0.2, muon_weight_dimension_numbers=_matrices_of_layers,
    )  # fmt: skip
  else:
    raise ValueError(
      f"name: got {name!r}; expected 'adamw', 'adafactor' or 'muon'"
    )
  tx = optax.chain(optax.clip_by_global_norm(max_grad_norm), tx)
  if bfloat16 == 'masters':
    return bfloat16_updates.with_masters(tx), schedule_fn
  if bfloat16 == 'stochastic':
    return bfloat16_updates.with_stochastic_rounding(tx), schedule_fn
  raise ValueError(
    f"bfloat16: got {bfloat16!r}; expected 'masters' or 'stochastic'"
  )


def _make_schedule(peak, steps, warmup_steps, schedule, end_fraction):
  if not peak >= 0:
    raise ValueError(f'learning_rate: got {peak!r}; expected >= 0')
  if not 0 <= warmup_steps < steps:
    raise ValueError(
      f'warmup_steps: got {warmup_steps!r} with steps={steps!r}; expected '
      '0 <= warmup_steps < steps'
    )
  if not 0 <= end_fraction <= 1:
    raise ValueError(f'end_fraction: got {end_fraction!r}; expected in [0, 1]')
  decay_steps = steps - warmup_steps
  if schedule == 'constant':
    decay = optax.constant_schedule(peak)
  elif schedule == 'cosine':
    decay = optax.cosine_decay_schedule(peak, decay_steps, end_fraction)
  elif schedule == 'linear':
    decay = optax.linear_schedule(peak, peak * end_fraction, decay_steps)
  else:
    raise ValueError(
      f'schedule: got {schedule!r}; expected one of {_SCHEDULES}'
    )
  if not warmup_steps:
    return decay
  warmup = optax.linear_schedule(peak / (warmup_steps + 1), peak, warmup_steps)
  return optax.join_schedules([warmup, decay], [warmup_steps])


def _adafactor(schedule_fn, b1, weight_decay):
  """Makes Adafactor; its weight decay is scaled by the rate, as AdamW's is."""
  return optax.chain(
    optax.scale_by_factored_rms(),
    optax.clip_by_block_rms(1.0),
    optax.ema(b1) if b1 else optax.identity(),
    optax.add_decayed_weights(weight_decay, mask=_is_decayed),
    optax.scale_by_learning_rate(schedule_fn),
  )


def _matrices_of_layers(params):
  """Returns which axes of a matrix are inputs, and outputs; None of others.

  Axes before them number matrices, such as stacked layers. Embeddings and heads
  are none of layers.
  """

  def axes(path, leaf):
    names = [jax.tree_util.keystr((key,), simple=True) for key in path]
    name, module = names[-1], names[-2] if len(names) > 1 else ''
    is_matrix = name in ('kernel', lora.A, lora.B) and leaf.ndim > 1
    if not is_matrix or any(part.endswith('head') for part in names):
      return None
    num_inputs = 2 if module == 'o' and name != lora.B else 1
    num_outputs = 2 if module in ('q', 'k', 'v') and name != lora.A else 1
    first = -num_inputs - num_outputs
    return optax.contrib.MuonDimensionNumbers(
      tuple(range(first, -num_outputs)), tuple(range(-num_outputs, 0))
    )

  return jax.tree_util.tree_map_with_path(axes, params)


def _is_decayed(params):
  def matrix(path, leaf):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return leaf.ndim >= 2 and name not in _NOT_DECAYED

  return jax.tree_util.tree_map_with_path(matrix, params)
