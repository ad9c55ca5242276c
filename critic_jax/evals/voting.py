"""The expected accuracy of choosing among k of n solutions.

A subset of k of a problem's n solutions is drawn without replacement, every
subset being as likely; a rule chooses one answer from it, and what is returned
is the probability that it is the right one. Ties are broken uniformly at random
among the tied answers (in `best_of`, the tied solutions): in a tie of s the
right one counts 1/s. The values are exact: the subsets that the right answer
wins are counted answer by answer, in polynomial time, instead of listed.

Conventions: `labels` int[n] is the class of each solution's answer, 0 the right
answer, 1... wrong ones, -1 no answer; `ks` are sizes in 1..n; functions return
float[K] in [0, 1], one for each of `ks`. A subset in which nobody votes has no
answer, and that is not the right one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

# Up to so many solutions, of so much weight in all, votes are counted, in at
# most 0.2 s a problem. Beyond, they are averages over NUM_DRAWS subsets, whose
# standard error is at most 0.5 / sqrt(2000) = 0.011 for one problem.
MAX_SOLUTIONS, MAX_WEIGHT = 128, 4096
NUM_DRAWS = 2000


def pass_at(right: np.ndarray, ks: Sequence[int]) -> np.ndarray:
  """The probability that one of k solutions is right: 1 - C(n-c, k)/C(n, k).

  Chen et al. 2021 (https://arxiv.org/abs/2107.03374), equation 1.

  Args:
    right: bool[n], of which c are True.
    ks: sizes of subsets.
  """
  return 1 - _avoids(len(right), int(np.sum(right)), ks)


def best_of(
  scores: np.ndarray, right: np.ndarray, ks: Sequence[int]
) -> np.ndarray:
  """The accuracy of the solution with the highest score among k.

  The highest score of a subset is at most x if the subset avoids all solutions
  above x; given the highest score, all solutions that have it are as likely to
  be chosen, by symmetry.

  Args:
    scores: float[n], -inf allowed, NaN not.
    right: bool[n].
    ks: sizes of subsets.
  """
  accuracy, below = np.zeros(len(ks)), np.zeros(len(ks))
  for level in np.unique(scores):
    reached = _avoids(len(scores), int(np.sum(scores > level)), ks)
    accuracy += (reached - below) * np.mean(right[scores == level])
    below = reached
  return np.clip(accuracy, 0, 1)  # rounding


def _avoids(n: int, c: int, ks: Sequence[int]) -> np.ndarray:
  """The probability that k of n are none of c, C(n-c, k) / C(n, k).

  It is the product of 1 - k/i over i = n-c+1..n, which is 0 if k > n-c, for
  then one factor is. No binomial is formed, so nothing overflows.
  """
  i = np.arange(n - c + 1, n + 1)
  return np.abs([np.prod(1 - k / i) for k in ks])  # abs: of -0.0


def votes(
  labels: np.ndarray,
  ks: Sequence[int],
  accepted: np.ndarray | None = None,
  weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
  """The accuracies of votes among k solutions.

  Args:
    labels: int[n].
    ks: sizes of subsets.
    accepted: bool[n], whether a critic accepts each solution; None for no
      critic.
    weights: int[n], at least 0, what a solution's vote is worth to the
      weighted vote, in any unit.

  Returns:
    'majority': every solution with an answer has one vote. With a critic also
    'filtered': of those, the accepted ones vote, or all if none is accepted;
    'random_filtered': as many as are accepted vote, but drawn at random from
    those with an answer; 'weighted': votes count `weights`, or 1 each if all
    are 0.
  """
  voters = labels >= 0
  rules = {'majority': voters}
  if accepted is not None:
    rules |= {'filtered': accepted & voters, 'weighted': weights * voters}
  heaviest = max(int(np.sum(rule)) for rule in rules.values())
  few = len(labels) <= MAX_SOLUTIONS and heaviest <= MAX_WEIGHT
  return (counted if few else sampled)(labels, ks, rules)


def counted(
  labels: np.ndarray, ks: Sequence[int], rules: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """`votes` by counting; `rules` are int[n], what each solution's vote counts.

  A rule falls back to the plain majority in the subsets to which it gives no
  vote: those of its solutions of weight 0.
  """
  voters = labels >= 0
  accuracies = {}
  for name, weights in rules.items():
    silent = np.asarray(weights) == 0
    wins = _wins(labels, weights)[0]
    fallback = _wins(labels[silent], voters[silent])[0]
    wins[: len(fallback)] += fallback
    accuracies[name] = wins / _binomials(len(labels))
  if 'filtered' in rules:
    accuracies['random_filtered'] = _random_filtered(labels, rules['filtered'])
  # Rounding: a sum of shares may exceed 1 by an ulp.
  return {m: np.minimum(1, x[list(ks)]) for m, x in accuracies.items()}


def _wins(
  labels: np.ndarray, weights: np.ndarray, kind: np.ndarray | None = None
) -> np.ndarray:
  """How many subsets class 0 wins, its weight being the largest, over 0.

  Args:
    labels: int[n].
    weights: int[n], at least 0.
    kind: bool[n], two kinds of solutions to tell apart; None for one kind.

  Returns:
    float[a+1, b+1]: the wins among subsets of i of the a solutions that are of
    the kind and j of the b that are not. Without `kind`, a is 0.
  """
  kind = np.zeros(len(labels), bool) if kind is None else kind
  labels = np.where(np.asarray(weights) > 0, labels, -1)
  ours, *rivals = [
    _totals(weights[labels == label], kind[labels == label])
    for label in (0, *np.unique(labels[labels != 0]))
  ]
  # ways[w, s, i, j]: subsets of the classes seen so far in which class 0 weighs
  # w + 1, s rivals weigh the same, and none weighs more.
  ways = ours[1:, None]
  for totals in rivals:
    below, tied = _against(totals, len(ways))
    ties = int(tied.any())
    (w, s, i, j), (_, a, b) = ways.shape, totals.shape
    after = np.zeros((w, s + ties, i + a - 1, j + b - 1))
    for p, q in np.ndindex(a, b):
      window = after[:, :, p : p + i, q : q + j]
      window[:, :s] += ways * below[:, p, q, None, None, None]
      if ties:
        window[:, 1:] += ways * tied[:, p, q, None, None, None]
    ways = after
  shares = 1 / np.arange(1, ways.shape[1] + 1)
  return np.einsum('wsij,s->ij', ways, shares)


def _totals(weights: np.ndarray, kind: np.ndarray) -> np.ndarray:
  """Subsets by total weight and number of each kind: float[w+1, a+1, b+1]."""
  sizes = int(np.sum(weights)), np.sum(kind), np.sum(~kind)
  counts = np.zeros([size + 1 for size in sizes])
  counts[0, 0, 0] = 1
  for weight, of_kind in zip(weights.astype(int), kind, strict=True):
    before = counts[: len(counts) - weight].copy()
    if of_kind:
      counts[weight:, 1:] += before[:, :-1]
    else:
      counts[weight:, :, 1:] += before[:, :, :-1]
  return counts


def _against(totals: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Subsets that weigh less than, and as much as, 1...size."""
  short = max(0, size + 1 - len(totals))
  padded = np.pad(totals, ((0, short), (0, 0), (0, 0)))
  return np.cumsum(padded, 0)[:size], padded[1 : size + 1]


def _random_filtered(labels: np.ndarray, accepted: np.ndarray) -> np.ndarray:
  """The control of 'filtered', float[n+1] by the size of the subset.

  A subset with i accepted and j other voters keeps i of these i + j at random;
  that s of them are accepted ones has the hypergeometric probability
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
      ways = _binomials(i)[s] * _binomials(j)[i - s] / math.comb(i + j, i)
      kept = ways @ wins[s, i - s]
    else:
      kept = wins[0, j]
    by_size[i + j] += subsets[i, j] * kept
  others = _binomials(int(np.sum(~voters)))
  return np.convolve(by_size, others) / _binomials(len(labels))


@functools.cache
def _binomials(n: int) -> np.ndarray:
  """C(n, 0...n)."""
  return np.array([math.comb(n, k) for k in range(n + 1)], np.float64)


def sampled(
  labels: np.ndarray, ks: Sequence[int], rules: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """`counted`, estimated from `NUM_DRAWS` subsets; seeded.

  A draw is an order of the solutions and gives a subset for each k, so that
  curves over k are smooth.
  """
  voters = labels >= 0
  noise = np.random.default_rng(0).random((NUM_DRAWS, len(labels)))
  order = _ranks(noise)
  order_of_voters = _ranks(np.where(voters, noise, 2))
  classes = labels[:, None] == np.arange(max(1, labels.max() + 1))

  def chance(ballots):
    totals = ballots @ classes.astype(np.float64)  # [draws, classes]
    best = totals.max(1, keepdims=True)
    tied = (totals == best) & (best > 0)
    return tied[:, 0] / np.maximum(1, tied.sum(1))

  accuracies = {name: [] for name in rules}
  if 'filtered' in rules:
    accuracies['random_filtered'] = []
  for k in ks:
    drawn = order < k
    ballots = {name: drawn * weights for name, weights in rules.items()}
    if 'filtered' in rules:
      # The first voters of a random order are voters drawn at random.
      kept = ballots['filtered'].sum(1, keepdims=True)
      ballots['random_filtered'] = voters & (order_of_voters < kept)
    plain = chance(ballots['majority'])
    for name, cast in ballots.items():
      chances = np.where(cast.any(1), chance(cast), plain)
      accuracies[name].append(chances.mean())
  return {name: np.array(values) for name, values in accuracies.items()}


def _ranks(values: np.ndarray) -> np.ndarray:
  """The rank of each value within its row, from 0."""
  return values.argsort(1).argsort(1)
