"""The optimiser of all trained roles: AdamW with a schedule and a clip.

Steps count updates from 0. The transform works on any tree of parameters, such
as `{'critic': ..., 'value': ...}`; the gradient's norm is that of the whole
tree.
"""

from __future__ import annotations

import jax
import optax

from critic_jax.training import bfloat16_updates

# Parameters that are not decayed, even if layers are stacked into matrices.
_NOT_DECAYED = ('bias', 'scale')

_SCHEDULES = ('constant', 'cosine', 'linear')


def make_optimizer(
  *,
  learning_rate: float,
  steps: int,
  warmup_steps: int = 0,
  schedule: str = 'constant',
  end_fraction: float = 0.0,
  max_grad_norm: float = 1.0,
  weight_decay: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.95,
  eps: float = 1e-8,
  bfloat16: str = 'masters',
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Makes AdamW (https://arxiv.org/abs/1711.05101) after a clip by global norm.

  >>> tx, schedule = make_optimizer(
  ...   learning_rate=1.0, steps=9, warmup_steps=3, schedule='linear')
  >>> [round(float(schedule(step)), 2) for step in (0, 1, 2, 3, 6, 9)]
  [0.25, 0.5, 0.75, 1.0, 0.5, 0.0]

  Args:
    learning_rate: the peak.
    steps: the number of updates of the run; the schedule ends there.
    warmup_steps: updates before the peak is reached, linearly. The first of
      them already moves: update k has `(k + 1) / (warmup_steps + 1)` of it.
    schedule: 'constant', 'cosine' or 'linear', after the warm-up.
    end_fraction: the fraction of the peak that is reached at `steps`;
      'constant' does not use it.
    max_grad_norm: gradients of a larger global norm are scaled to it; infinity
      for no clip.
    weight_decay: the decay of matrices; biases, scales and norms have none.
    b1: Adam's decay of the mean.
    b2: Adam's decay of the mean square.
    eps: Adam's epsilon, outside the root.
    bfloat16: how parameters in bfloat16 keep changes that are smaller than
      their last place: 'masters', in float32 copies in the optimiser's state,
      or 'stochastic', by rounding at random (training/bfloat16_updates.py).

  Returns:
    The transform, and the schedule: update number -> learning rate.

  Raises:
    ValueError: a value outside its range, or an unknown schedule.
  """
  schedule_fn = _make_schedule(
    learning_rate, steps, warmup_steps, schedule, end_fraction
  )
  if not max_grad_norm > 0:
    raise ValueError(
      f'max_grad_norm: got {max_grad_norm!r}; expected > 0; for no clip set '
      "it to float('inf')"
    )
  tx = optax.chain(
    optax.clip_by_global_norm(max_grad_norm),
    optax.adamw(
      schedule_fn, b1, b2, eps, weight_decay=weight_decay, mask=_is_decayed
    ),
  )
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


def _is_decayed(params):
  def matrix(path, leaf):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return leaf.ndim >= 2 and name not in _NOT_DECAYED

  return jax.tree_util.tree_map_with_path(matrix, params)
