"""Computes the expected accuracy of choosing among k of n solutions.

A subset of k of a problem's n solutions is drawn without replacement, uniformly
over subsets, and a rule chooses one answer from it. Functions return the
probability that this answer is right. Ties are broken uniformly at random among
the tied answers (in `best_of`, the tied solutions): in a tie of s the right
answer counts 1/s. The values are exact: the subsets that the right answer wins
are counted answer by answer, in polynomial time, instead of listed.

Conventions: `labels` int[n] is the class of each solution's answer, 0 the right
answer, 1... wrong ones, -1 no answer; `ks` are sizes in 1..n; functions return
float[K] in [0, 1], a value for each of `ks`. A subset without a vote has no
answer, and counts as wrong.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

# Up to this number of solutions and this total weight, votes are counted, in at
# most 0.2 s a problem. Beyond, they are averages over NUM_DRAWS subsets, whose
# standard error is at most 0.5 / sqrt(2000) = 0.011 for one problem.
MAX_SOLUTIONS, MAX_WEIGHT = 128, 4096
NUM_DRAWS = 2000


def pass_at(right: np.ndarray, ks: Sequence[int]) -> np.ndarray:
  """Returns the probability that one of k solutions is right.

  Chen et al. 2021 (https://arxiv.org/abs/2107.03374), equation 1:
  1 - C(n-c, k) / C(n, k).

  Args:
    right: bool[n], of which c are True.
    ks: sizes of subsets.
  """
  return 1 - _avoids(len(right), int(np.sum(right)), ks)


def best_of(
  scores: np.ndarray, right: np.ndarray, ks: Sequence[int]
) -> np.ndarray:
  """Returns the accuracy of the solution with the highest score among k.

  The highest score of a subset is at most x if the subset avoids all solutions
  above x. Given the highest score, all solutions that have it are equally
  likely to be chosen, by symmetry. Without ties it is the estimator of
  https://arxiv.org/abs/2310.02743 for best-of-n, of solutions in the order of
  their scores: the sum over i of C(i - 1, k - 1) / C(n, k) right[i].

  Args:
    scores: float[n], -inf allowed, NaN not.
    right: bool[n]; or float[n], another worth of each solution, whose
      expectation is then the result.
    ks: sizes of subsets.
  """
  accuracy, previous = np.zeros(len(ks)), np.zeros(len(ks))
  for level in np.unique(scores):
    cumulative = _avoids(len(scores), int(np.sum(scores > level)), ks)
    accuracy += (cumulative - previous) * np.mean(right[scores == level])
    previous = cumulative
  return np.clip(accuracy, np.min(right), np.max(right))  # rounding


def _avoids(n: int, c: int, ks: Sequence[int]) -> np.ndarray:
  """Returns the probability that k of n avoid c of them, C(n-c, k) / C(n, k).

  It is the product of 1 - k/i over i = n-c+1..n. If k > n-c a factor is 0, and
  so is the product. No binomial is formed, so nothing overflows.
  """
  i = np.arange(n - c + 1, n + 1)
  return np.abs([np.prod(1 - k / i) for k in ks])  # -0.0 becomes 0.0


def votes(
  labels: np.ndarray,
  ks: Sequence[int],
  accepted: np.ndarray | None = None,
  weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
  """Returns the accuracies of votes among k solutions.

  Args:
    labels: int[n].
    ks: sizes of subsets.
    accepted: bool[n], whether a critic accepts each solution; None without a
      critic.
    weights: int[n], at least 0, each solution's votes in the weighted vote, in
      any unit.

  Returns:
    Accuracies by rule. 'majority': every solution with an answer has one vote.
    With a critic there are three more. 'filtered': the accepted solutions vote,
    or all if none is accepted. 'random_filtered': as many solutions vote, but
    drawn at random from those with an answer. 'weighted': votes count
    `weights`, or 1 each if all are 0.
  """
  voters = labels >= 0
  rules = {'majority': voters}
  if accepted is not None:
    rules |= {'filtered': accepted & voters, 'weighted': weights * voters}
  heaviest = max(int(np.sum(rule)) for rule in rules.values())
  is_small = len(labels) <= MAX_SOLUTIONS and heaviest <= MAX_WEIGHT
  return (counted if is_small else sampled)(labels, ks, rules)


def counted(
  labels: np.ndarray, ks: Sequence[int], rules: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Computes `votes` exactly, by counting subsets.

  A rule falls back to the plain majority in subsets without a vote, which are
  the subsets of its solutions of weight 0.

  Args:
    labels: int[n].
    ks: sizes of subsets.
    rules: int[n] by name, the weight of each solution's vote.
  """
  voters = labels >= 0
  accuracies = {}
  for name, weights in rules.items():
    has_no_weight = np.asarray(weights) == 0
    wins = _wins(labels, weights)[0]
    fallback = _wins(labels[has_no_weight], voters[has_no_weight])[0]
    wins[: len(fallback)] += fallback
    accuracies[name] = wins / _binomials(len(labels))
  if 'filtered' in rules:
    accuracies['random_filtered'] = _random_filtered(labels, rules['filtered'])
  # A sum of shares may exceed 1 by a rounding error.
  return {m: np.minimum(1, x[list(ks)]) for m, x in accuracies.items()}


def _wins(
  labels: np.ndarray, weights: np.ndarray, kind: np.ndarray | None = None
) -> np.ndarray:
  """Counts the subsets in which class 0 has the largest weight, above 0.

  A tie of s classes counts 1/s.

  Args:
    labels: int[n].
    weights: int[n], at least 0.
    kind: bool[n], distinguishes two kinds of solutions; None for one kind.

  Returns:
    float[a+1, b+1]: entry [i, j] counts the wins among subsets of i of the a
    solutions with `kind` and j of the b without. Without `kind`, a is 0.
  """
  kind = np.zeros(len(labels), bool) if kind is None else kind
  labels = np.where(np.asarray(weights) > 0, labels, -1)
  ours, *rivals = [
    _totals(weights[labels == label], kind[labels == label])
    for label in (0, *np.unique(labels[labels != 0]))
  ]
  # counts[w, s, i, j]: the subsets of class 0 and the rivals so far in which
  # class 0 weighs w + 1, s rivals weigh the same, and none weighs more.
  counts = ours[1:, None]
  for totals in rivals:
    lighter, tied = _against(totals, len(counts))
    ties = int(tied.any())
    (w, s, i, j), (_, a, b) = counts.shape, totals.shape
    after = np.zeros((w, s + ties, i + a - 1, j + b - 1))
    for p, q in np.ndindex(a, b):
      window = after[:, :, p : p + i, q : q + j]
      window[:, :s] += counts * lighter[:, p, q, None, None, None]
      if ties:
        window[:, 1:] += counts * tied[:, p, q, None, None, None]
    counts = after
  shares = 1 / np.arange(1, counts.shape[1] + 1)
  return np.einsum('wsij,s->ij', counts, shares)


def _totals(weights: np.ndarray, kind: np.ndarray) -> np.ndarray:
  """Counts subsets by weight and sizes of both kinds: float[w+1, a+1, b+1]."""
  sizes = int(np.sum(weights)), np.sum(kind), np.sum(~kind)
  counts = np.zeros([size + 1 for size in sizes])
  counts[0, 0, 0] = 1
  for weight, has_kind in zip(weights.astype(int), kind, strict=True):
    before = counts[: len(counts) - weight].copy()
    if has_kind:
      counts[weight:, 1:] += before[:, :-1]
    else:
      counts[weight:, :, 1:] += before[:, :, :-1]
  return counts


def _against(totals: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the numbers of subsets that weigh less than, and just, 1...size."""
  short = max(0, size + 1 - len(totals))
  padded = np.pad(totals, ((0, short), (0, 0), (0, 0)))
  return np.cumsum(padded, 0)[:size], padded[1 : size + 1]


def _random_filtered(labels: np.ndarray, accepted: np.ndarray) -> np.ndarray:
  """Returns the control of 'filtered', float[n+1] by the size of the subset.

  A subset with i accepted and j other voters keeps i of these i + j at random.
  The number s of accepted ones among them is hypergeometric, with probability
  C(i, s) C(j, i - s) / C(i + j, i).
  """
  voters = labels >= 0
  kind = np.asarray(accepted[voters], bool)
  subsets = np.outer(*(_binomials(int(np.sum(k))) for k in (kind, ~kind)))
  wins = _wins(labels[voters], np.ones(len(kind), int), kind) / subsets
  by_size = np.zeros(len(kind) + 1)
  for i, j in np.ndindex(*wins.shape):
    if i:
      s = np.arange(max(0, i - j), i + 1)
      counts = _binomials(i)[s] * _binomials(j)[i - s]
      probabilities = counts / math.comb(i + j, i)
      accuracy = probabilities @ wins[s, i - s]
    else:
      accuracy = wins[0, j]
    by_size[i + j] += subsets[i, j] * accuracy
  others = _binomials(int(np.sum(~voters)))
  return np.convolve(by_size, others) / _binomials(len(labels))


@functools.cache
def _binomials(n: int) -> np.ndarray:
  """Returns C(n, 0...n), float64[n+1]."""
  return np.array([math.comb(n, k) for k in range(n + 1)], np.float64)


def sampled(
  labels: np.ndarray, ks: Sequence[int], rules: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Estimates `counted` from `NUM_DRAWS` subsets, with a fixed seed.

  A draw is an order of the solutions. It gives a subset for each k, so that
  curves over k are smooth.
  """
  voters = labels >= 0
  noise = np.random.default_rng(0).random((NUM_DRAWS, len(labels)))
  order = _ranks(noise)
  order_of_voters = _ranks(np.where(voters, noise, 2))
  classes = labels[:, None] == np.arange(max(1, labels.max() + 1))

  def probability(ballots):
    totals = ballots @ classes.astype(np.float64)  # [draws, classes]
    best = totals.max(1, keepdims=True)
    is_best = (totals == best) & (best > 0)
    return is_best[:, 0] / np.maximum(1, is_best.sum(1))

  accuracies = {name: [] for name in rules}
  if 'filtered' in rules:
    accuracies['random_filtered'] = []
  for k in ks:
    is_drawn = order < k
    ballots = {name: is_drawn * weights for name, weights in rules.items()}
    if 'filtered' in rules:
      # The first voters of a random order are voters drawn at random.
      num_votes = ballots['filtered'].sum(1, keepdims=True)
      ballots['random_filtered'] = voters & (order_of_voters < num_votes)
    fallback = probability(ballots['majority'])
    for name, cast in ballots.items():
      wins = np.where(cast.any(1), probability(cast), fallback)
      accuracies[name].append(wins.mean())
  return {name: np.array(values) for name, values in accuracies.items()}


def _ranks(values: np.ndarray) -> np.ndarray:
  """Returns the rank of each value within its row, from 0."""
  return values.argsort(1).argsort(1)
