"""The policy-gradient losses of several roles in one batch.

    loss = sum of the roles' losses, each over the tokens that it wrote

`batch['writers']` says who wrote a token (critic_jax/data/role_rows.py). Every
role reads all rows, and has a gradient from its own alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.loss_fns import policy_gradient
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles


def make_joint_loss(
  models: Mapping[str, LM],
  trained_roles: Sequence[str],
  *,
  objective: Mapping,
  kl: Mapping,
  microbatches: int,
) -> policy_gradient.PolicyLoss:
  """Makes the sum of the roles' losses; one reference serves all of them.

  Args:
    models: as of `policy_gradient.make_policy_loss`.
    trained_roles: in the order of `batch['writers']`.
    objective, kl, microbatches: as of `policy_gradient.make_policy_loss`.

  Returns:
    The loss. Its metrics are those of one policy, over the tokens of all.

  Raises:
    ValueError: as `policy_gradient.make_policy_loss` does.
  """
  policies = [
    policy_gradient.make_policy_loss(
      models, role, objective=objective, kl=kl, microbatches=microbatches
    )
    for role in trained_roles
  ]

  def loss(trained: Roles, batch: Batch):
    results = []
    for number, policy in enumerate(policies, 1):
      is_own = batch['writers'] == number
      own = {
        name: jnp.where(is_own, batch[name], 0)
        for name in ('weights', 'mean_weights')
      }
      own['mask'] = batch['mask'] & is_own
      results.append(policy.loss(trained, {**batch, **own}))
    totals, metrics = zip(*results, strict=True)
    sums, per_row = zip(*metrics, strict=True)
    return sum(totals), (
      jax.tree.map(lambda *x: sum(x), *sums),
      jax.tree.map(lambda *x: jnp.stack(x).max(axis=0), *per_row),
    )

  def add_ref_logprobs(batch: Batch, roles: Roles) -> Batch:
    # Under the distribution that each role sampled from.
    for number, policy in enumerate(policies, 1):
      read = policy.add_ref_logprobs(batch, roles)
      if 'ref_logprobs' in read:
        is_own = batch['writers'] == number
        others = batch.get('ref_logprobs', 0.0)
        logprobs = np.where(is_own, read['ref_logprobs'], others)
        batch = {**batch, 'ref_logprobs': logprobs.astype(np.float32)}
    return batch

  [policy, *_] = policies
  return policy_gradient.PolicyLoss(
    loss=loss,
    add_ref_logprobs=add_ref_logprobs,
    scored=policy.scored * len(policies),
    metrics=policy.metrics,
    corrects_staleness=policy.corrects_staleness,
  )
