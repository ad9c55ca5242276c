"""Rules of who is preferred to whom in a group of responses.

All have one signature, `(values, weights, *, ...) -> float32[N, G, G]`, of G
responses to each of N prompts, and a config names them:

  values   float[N, G, C], what C criteria say of each response
  weights  float[C], what a criterion counts; a negative one prefers less of it

P[n, i, j] is the probability that response i is preferred to j, in [0, 1]; what
is no better and no worse has a half, as on the diagonal, and P[n, i, j] +
P[n, j, i] = 1. They accept numpy or jax arrays and return the same kind. None
has a gradient.
"""

from __future__ import annotations

from typing import Any

Array = Any  # numpy or jax


def bradley_terry(
  values: Array, weights: Array, *, temperature: float
) -> Array:
  """Prefers by one score: `sigmoid((s_i - s_j) / temperature)`.

  Bradley and Terry (1952), where the score s is the sum of the criteria by
  weight, such as a reward model's. It is transitive. With `temperature` 0 the
  higher score is preferred, however little it is higher.

  Args:
    values: float[N, G, C].
    weights: float[C].
    temperature: the difference of scores at which the odds are e, at least 0.

  Returns:
    float32[N, G, G].

  Raises:
    ValueError: a negative temperature.
  """
  if not temperature >= 0:
    raise ValueError(f'temperature: got {temperature}; expected >= 0')
  xp = values.__array_namespace__()
  scores = xp.sum(values * weights, axis=-1)  # [N, G]
  gaps = scores[:, :, None] - scores[:, None, :]
  if temperature == 0:
    return _halves(xp, xp.sign(gaps))
  return _halves(xp, xp.tanh(gaps / (2 * temperature)))


def raters(values: Array, weights: Array) -> Array:
  """Prefers by a vote: the share of raters to whom a response is better.

  Each criterion is a rater who sees that one alone, and has as many votes as
  its weight; a rater to whom two are alike gives each a half. It need not be
  transitive, as Condorcet (1785) knew: of three raters who rank 1 2 3, 2 3 1
  and 3 1 2, two prefer 1 to 2, two 2 to 3, and two 3 to 1. Sums of the same
  ranks are equal. A mixture of raters is an example of SPO's
  (https://arxiv.org/abs/2401.04056), for which no single reward does.

  Args:
    values: float[N, G, C].
    weights: float[C], of which one is not 0.

  Returns:
    float32[N, G, G].
  """
  xp = values.__array_namespace__()
  gaps = values[:, :, None, :] - values[:, None, :, :]  # [N, G, G, C]
  votes = xp.sum(weights * xp.sign(gaps), axis=-1)
  return _halves(xp, votes / xp.sum(xp.abs(weights)))


def _halves(xp, x: Array) -> Array:
  """Maps [-1, 1] to [0, 1]."""
  return ((1 + x) / 2).astype(xp.float32)
