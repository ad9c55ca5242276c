"""The loss of a process reward model, which reads a score after each step.

    loss = sum over steps of weight * objective(score, target)

The score of a step is what the reward head says at its last token, which has
seen the step and nothing after it. `batch['mask']` is True at these tokens,
`batch['targets']` has their targets (data/step_rows.py lays them out), and the
objective is a function of `objectives/step_losses.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import step_losses
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles

METRICS = ('loss/steps', 'step/accuracy', 'step/score', 'step/target')


def make_step_loss(
  models: Mapping[str, LM], role: str, *, objective: Mapping
) -> Callable:
  """Makes the loss by which `role` learns to score steps.

  Args:
    models: LMs by role.
    role: the process reward model; it has a reward head.
    objective: a name and keywords of `objectives/step_losses.py`.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`. The sum 'loss/steps'
    is the loss; nothing is told of each row. Means over steps: 'step/score',
    the probability that a step is right; 'step/target'; and 'step/accuracy',
    the share of steps at which both are on one side of a half.

  Raises:
    ValueError: a setting is wrong, or the role has no reward head.
  """
  scoring.check_head(models, role, 'reward')
  objective_fn = lookup.bind(step_losses, objective, 'objective')
  with lookup.naming('objective'):  # its values are checked when it is called
    empty = np.zeros((1, 1), np.float32)
    jax.eval_shape(objective_fn, empty, empty, empty > 0)

  def loss(trained: Roles, batch: Batch):
    scores = scoring.bind(models, trained, role).token_scores(batch)
    per_step = objective_fn(scores, batch['targets'], batch['mask'])
    total = jnp.sum(batch['weights'] * per_step)
    scores = jax.lax.stop_gradient(scores)
    metrics = {
      'step/accuracy': (scores >= 0) == (batch['targets'] >= 0.5),
      'step/score': jax.nn.sigmoid(scores),
      'step/target': batch['targets'],
    }
    weights = batch['mean_weights']
    sums = {name: jnp.sum(weights * x) for name, x in metrics.items()}
    return total, ({'loss/steps': total, **sums}, {})

  return loss
