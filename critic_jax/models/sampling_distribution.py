"""The distribution that tokens are sampled from: temperature, top-k and top-p.

Sampler and trainer share this module, so that the log-probability recorded
while sampling is the one that the trainer computes. Temperature 0 is greedy: a
point mass on the largest logit (the first of equals), whose log-probability
is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from critic_jax.runtime import sharding

BLOCK = 128  # tokens; divides most models' vocabularies
# Below either, a distribution is a point mass in all but name: two tokens whose
# logits differ by 0.1 are sampled 22,000 : 1, and the likeliest token of a
# language model has a larger probability.
_LEAST_TEMPERATURE = 0.01
_LEAST_TOP_P = 0.01


class SamplingParams(NamedTuple):
  """Parameters of the sampling distribution.

  They are traced, so that no value causes a compilation.

  Attributes:
    temperature: logits are divided by it; 0 is greedy.
    top_k: only the k likeliest tokens; 0 is all.
    top_p: only the smallest set of likeliest tokens whose probability reaches
      p (1904.09751, section 3.1); 1 is all.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def check(self) -> SamplingParams:
    """Returns the parameters themselves, if they are valid.

    Raises:
      ValueError: a field is out of its range.
    """
    if not self.temperature >= 0:
      raise ValueError(f'temperature: got {self.temperature}; expected >= 0')
    if self.top_k < 0:
      raise ValueError(f'top_k: got {self.top_k}; expected >= 0 (0 is off)')
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p: got {self.top_p}; expected in (0, 1]')
    return self

  def leaves_one_token(self, vocab_size: int) -> bool:
    """Whether one token is left to sample, if no other has the same logit.

    The likeliest of k tokens has at least a k-th of their probability, which is
    all that a small enough top-p keeps.

    >>> SamplingParams(top_k=4, top_p=0.25).leaves_one_token(1000)
    True
    >>> SamplingParams(top_k=4, top_p=0.26).leaves_one_token(1000)
    False
    """
    num_tokens = min(self.top_k or vocab_size, vocab_size)
    return (
      self.temperature < _LEAST_TEMPERATURE
      or num_tokens == 1
      or self.top_p <= max(_LEAST_TOP_P, 1 / num_tokens)
    )


def log_probs(
  logits, sampling_params: SamplingParams, observed=None
) -> jax.Array:
  """Computes log-probabilities under the sampling distribution.

  Args:
    logits: float32[..., V].
    sampling_params: temperature, top-k and top-p.
    observed: int32[...], the tokens that were sampled. They stay in the
      support: after an update they may be outside of the model's top-k or
      top-p, and a ratio of 0/p would lose their gradient.

  Returns:
    float32[..., V], -inf outside of the distribution's support.
  """
  logits = jax.lax.cond(
    _truncates(sampling_params),
    lambda x: _truncate(x, sampling_params, observed),
    lambda x: x,
    _temper(logits, sampling_params),
  )
  return jax.nn.log_softmax(logits, axis=-1)


def draw(
  logits, uniform, sampling_params: SamplingParams
) -> tuple[jax.Array, jax.Array]:
  """Draws one token a row by inverting the cumulative distribution.

  A block of `BLOCK` tokens is drawn first, then a token in it, so that no array
  as long as the vocabulary is cumulated, sorted or kept. A token of probability
  0 is never drawn, whatever the rounding.

  Args:
    logits: float32[..., V].
    uniform: float32[...], in [0, 1), one number a row.
    sampling_params: temperature, top-k and top-p.

  Returns:
    The tokens, int32[...], and their log-probabilities, float32[...], those of
    `log_probs`.
  """

  def truncated(x):
    return _invert(
      _truncate(_temper(x, sampling_params), sampling_params), uniform
    )

  def whole(x):
    return _invert(_temper(x, sampling_params), uniform)

  return jax.lax.cond(_truncates(sampling_params), truncated, whole, logits)


def _temper(logits, sampling_params):
  temperature = jnp.asarray(sampling_params.temperature, jnp.float32)
  return logits / jnp.where(temperature == 0, 1.0, temperature)


def _truncates(sampling_params):
  """Whether any token may be left out, bool[]."""
  greedy = jnp.asarray(sampling_params.temperature) == 0
  return greedy | (sampling_params.top_k > 0) | (sampling_params.top_p < 1)


def _truncate(logits, sampling_params, observed=None):
  """Sets logits outside of the greedy choice, top-k and top-p to -inf."""
  detached = jax.lax.stop_gradient(logits)
  index = jnp.arange(logits.shape[-1])
  keep = jax.lax.cond(
    jnp.asarray(sampling_params.temperature) == 0,
    lambda x: index == _first_largest(x),
    lambda x: x >= _threshold(x, sampling_params.top_k, sampling_params.top_p),
    detached,
  )
  if observed is not None:
    keep |= observed[..., None] == index
  return jnp.where(keep, logits, -jnp.inf)


def _first_largest(logits):
  """Does `jnp.argmax(keepdims=True)`, several times faster on CPUs."""
  is_largest = logits == jnp.max(logits, axis=-1, keepdims=True)
  index = jnp.arange(logits.shape[-1])
  return jnp.min(
    jnp.where(is_largest, index, logits.shape[-1]), axis=-1, keepdims=True
  )


def _threshold(logits, top_k, top_p):
  """Returns the bound that logits in top-k and top-p reach: float32[..., 1].

  Equal logits are kept together or not at all.
  """
  lowest = jnp.full_like(logits[..., :1], -jnp.inf)
  at_k = jax.lax.cond(
    top_k > 0, lambda x: _search(x, 1, top_k), lambda x: lowest, logits
  )

  def search_mass(logits):
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - largest)
    # As in common samplers, top-p refers to the mass of the tokens that top-k
    # keeps: of exactly k tokens, though more may equal the last of them.
    is_above = logits > at_k
    num_equal = top_k - jnp.sum(is_above, axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(is_above, weights, 0.0), axis=-1, keepdims=True)
    total += num_equal * jnp.exp(at_k - largest)
    return jnp.maximum(at_k, _search(logits, weights, top_p * total))

  # With 1 there is no search: rounding could leave tokens out.
  return jax.lax.cond(top_p < 1, search_mass, lambda x: at_k, logits)


def _search(logits, weights, limit, digit_bits: int | None = None):
  """Searches for the least number with a weight of less than `limit` above it.

  Floats are ordered like their bits, read as integers
  (negative ones in reverse), so their 32 bits are found digit by digit, the
  highest first: as many digits as do not reach the limit by themselves. Each is
  a masked sum; on a CPU, those of 32 digits take a thirtieth of the time of
  sorting. Where a mesh splits the vocabulary, devices add their sums in each
  turn: then digits have 4 bits, and the 15 sums of one are added at once.

  Args:
    logits: float32[..., V].
    weights: the weight of each logit, broadcastable to [..., V].
    limit: broadcastable to [..., 1]; the weights of the logits above the
      result sum to less than it.
    digit_bits: bits of a digit; None is 1, or 4 on such a mesh.

  Returns:
    float32[..., 1], at most the largest logit.
  """
  is_split = sharding.num_parts('vocab', logits.shape[-1]) > 1
  digit_bits = digit_bits or (4 if is_split else 1)
  lowest = _to_order(jnp.float32(-jnp.inf))
  # A limit that rounds to 0 is never reached.
  highest = _to_order(jnp.max(logits, axis=-1, keepdims=True))

  def sum_above(order):
    bound = _from_order(jnp.maximum(order, lowest))
    return jnp.sum(
      jnp.where(logits > bound, weights, 0), axis=-1, keepdims=True
    )

  def add_digit(turn, order):
    shift = 32 - digit_bits * (turn + 1)
    # The last number that begins with each digit but the highest.
    ends = [order + (d << shift) - 1 for d in range(1, 2**digit_bits)]
    is_too_low = [sum_above(end) >= limit for end in ends]
    return order + (sum(x.astype(jnp.int32) for x in is_too_low) << shift)

  first = jnp.full_like(highest, jnp.iinfo(jnp.int32).min)
  order = jax.lax.fori_loop(0, 32 // digit_bits, add_digit, first)
  return _from_order(jnp.clip(order, lowest, highest))


def _to_order(x):
  """Maps floats to integers of the same order: float32[...] -> int32[...]."""
  bits = jax.lax.bitcast_convert_type(x, jnp.int32)
  return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _from_order(order):
  """Undoes `_to_order`: int32[...] -> float32[...]."""
  bits = order ^ ((order >> 31) & 0x7FFFFFFF)
  return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _invert(logits, uniform):
  """Draws tokens, and their log-probabilities, from the softmax of logits.

  Where a mesh splits the vocabulary, each device makes blocks of its own part:
  of a row, devices send the sums of blocks and one block.
  """
  vocab_size = logits.shape[-1]
  num_parts = sharding.num_parts('vocab', vocab_size)
  part_size = vocab_size // num_parts
  width = min(BLOCK, part_size)
  largest = jnp.max(logits, axis=-1, keepdims=True)
  blocks = logits.reshape(*logits.shape[:-1], num_parts, part_size)
  padding = [(0, 0)] * logits.ndim + [(0, -part_size % width)]
  blocks = jnp.pad(blocks, padding, constant_values=-jnp.inf)
  blocks = blocks.reshape(*logits.shape[:-1], -1, width)  # [..., N, W]
  sums = jnp.sum(jnp.exp(blocks - largest[..., None]), axis=-1)
  # Without the barrier XLA keeps all exponentials, and sums them a second time
  # for the total.
  sums = jax.lax.optimization_barrier(sums)
  if logits.ndim == 2:  # cumulated by each device, not piece by piece by all
    sums = sharding.constrain(sums, 'rows')
  total = jnp.sum(sums, axis=-1)
  # The same exp may round to 0 in one place only: such blocks are excluded.
  sums = jnp.where(sums > 1e-30, sums, 0.0)
  block, remainder = _first_above(sums, uniform * total)
  scores = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)
  scores = scores[..., 0, :] - largest
  offset, _ = _first_above(jnp.exp(scores), remainder)
  score = jnp.take_along_axis(scores, offset[..., None], axis=-1)[..., 0]
  part, place = jnp.divmod(block, blocks.shape[-2] // num_parts)
  token = part * part_size + place * width + offset
  return token, score - jnp.log(total)


def _first_above(weights, target):
  """Finds the first positive weight at which the sum exceeds a target.

  Args:
    weights: float32[..., N], not negative, not all 0.
    target: float32[...], clipped to the range of the cumulative weight.

  Returns:
    The index, int32[...], and the difference of the target and the weights
    before that index, float32[...].
  """
  # A parallel sum rises and falls in its last bit even where weights are 0;
  # without the mask, a token outside of the support is drawn once in 1e7.
  cumulative = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
  largest = jnp.nextafter(jnp.max(cumulative, axis=-1), 0.0)
  target = jnp.clip(target, 0.0, largest)
  index = jnp.argmax(cumulative > target[..., None], axis=-1, keepdims=True)
  sums_before = cumulative - weights
  sum_before = jnp.take_along_axis(sums_before, index, axis=-1)[..., 0]
  return index[..., 0].astype(jnp.int32), target - sum_before
