"""Labels of steps by Monte-Carlo values, and how far they are from the truth.

`values` are float[S + 1] of a solution with S steps: `values[t]` is the share
of right answers among completions of its first t steps
(https://arxiv.org/abs/2312.08935). So `values[0]` is the problem's own, pass@1,
and `values[S]` is 1 or 0: no completion is needed to grade the whole. Step i,
from 0, changes `values[i]` to `values[i + 1]`.

A rule returns the targets of the steps, float[S] in [0, 1], where 1 is a right
step, or None where the values leave a solution unlabelled; `first_wrong` reads
the index of the first wrong step from them. A rule of the following ones:

  hard        any completion is right (2312.08935)
  soft        the share itself (2312.08935)
  ratio       relative progress: the share is not much less than before
              (GenPRM, https://arxiv.org/abs/2504.00891)
  difference  the same by a difference (GenPRM's ablation)
  penalised   the share less what the step lost of it (after MedS3,
              https://arxiv.org/abs/2501.12051)
  sustained   right until all completions fail for good (after DeepCritic,
              https://arxiv.org/abs/2505.00662)

Shares are noisy: of few completions, and by a solver who fails on right
prefixes, too. `label_errors` counts what comes of that where the truth is
known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Shares are quotients of small integers: 0.7 - 0.8 must be at least -0.1.
_ROUNDING = 1e-9


def hard(values: np.ndarray) -> np.ndarray:
  """Calls a step right if any completion after it is.

  >>> hard(np.array([0.5, 0.75, 0.25, 0.0])).tolist()
  [1.0, 1.0, 0.0]
  """
  return (values[1:] > 0).astype(np.float64)


def soft(values: np.ndarray) -> np.ndarray:
  """Returns the share of right completions after each step."""
  return np.asarray(values[1:], np.float64)


def ratio(values: np.ndarray, *, threshold: float = 0.8) -> np.ndarray:
  """Calls a step right by its relative progress.

  `values[i + 1] / values[i] >= threshold`, GenPRM's P_t, of `settled` values;
  the paper's best threshold is 0.8. After a share of 0 every step is wrong.
  Towards a threshold of 0 it is `hard` of settled values.

  >>> ratio(np.array([0.5, 0.75, 0.25, 0.0]), threshold=0.8).tolist()
  [1.0, 0.0, 0.0]

  Raises:
    ValueError: a threshold that is not above 0: all steps would be right.
  """
  if not threshold > 0:
    raise ValueError(f'threshold: got {threshold}; expected above 0')
  before, after = _changes(values)
  is_right = (after >= threshold * before - _ROUNDING) & (after > 0)
  return is_right.astype(np.float64)


def difference(values: np.ndarray, *, threshold: float = -0.3) -> np.ndarray:
  """Calls a step right if the share does not fall by more than a threshold.

  `values[i + 1] - values[i] >= threshold`, of `settled` values. GenPRM tries
  -0.1, -0.3 and -0.5. A step from 0 to 0 is wrong. A share that was small
  already cannot fall by much, so a wrong solution may have no wrong step.

  >>> difference(np.array([0.5, 0.75, 0.25, 0.0]), threshold=-0.3).tolist()
  [1.0, 0.0, 1.0]

  Raises:
    ValueError: a threshold that is not above -1: all steps would be right.
  """
  if not threshold > -1:
    raise ValueError(f'threshold: got {threshold}; expected above -1')
  before, after = _changes(values)
  is_right = (after - before >= threshold - _ROUNDING) & (before + after > 0)
  return is_right.astype(np.float64)


def penalised(values: np.ndarray) -> np.ndarray:
  """Returns the share after each step, less what the step lost of it.

  `V' - max(0, V - V')` where V is the share before and V' the one after, 0 at
  least: a step that lowers the value is marked, even on the way to a right
  answer. It is `soft` where no value falls. MedS3's formula is unknown to us,
  its idea is this one.

  >>> penalised(np.array([0.5, 0.75, 0.5, 0.0])).tolist()
  [0.75, 0.25, 0.0]
  """
  before, after = values[:-1], values[1:]
  return np.maximum(after - np.maximum(before - after, 0.0), 0.0)


def sustained(values: np.ndarray, *, least: float = 0.5) -> np.ndarray | None:
  """Calls steps wrong from the first one after which nothing succeeds.

  DeepCritic's description: all completions from that step on fail, and those of
  earlier prefixes mostly succeed. Its code was not released; here each earlier
  prefix has a share of at least `least`.

  >>> sustained(np.array([0.75, 0.5, 0.0, 0.0]), least=0.5).tolist()
  [1.0, 0.0, 0.0]
  >>> sustained(np.array([0.75, 0.25, 0.0, 0.0]), least=0.5) is None
  True

  Returns:
    None if an earlier prefix has less: it is not clear which step failed.

  Raises:
    ValueError: `least` is no share above 0.
  """
  if not 0 < least <= 1:
    raise ValueError(f'least: got {least}; expected a share above 0, at most 1')
  num_alive = len(np.trim_zeros(values, 'b'))  # values up to the last above 0
  if not num_alive or np.any(values[:num_alive] < least - _ROUNDING):
    return None
  return (np.arange(1, len(values)) < num_alive).astype(np.float64)


def settled(values: np.ndarray) -> np.ndarray:
  """Returns the values with zeros after the first share of 0 after a step.

  Nothing recovers from it: a later success was luck, or the zero was. The
  problem's own share may be 0 all the same.

  >>> settled(np.array([0.0, 0.5, 0.0, 0.25])).tolist()
  [0.0, 0.5, 0.0, 0.0]
  """
  alive = np.cumprod(values[1:] > 0)
  return np.concatenate([values[:1], values[1:] * alive])


def _changes(values) -> tuple[np.ndarray, np.ndarray]:
  """Returns settled values before and after each step."""
  values = settled(np.asarray(values, np.float64))
  return values[:-1], values[1:]


def first_wrong(targets: Sequence[float | None]) -> int:
  """Returns the first step whose target is below a half, or -1.

  A target of None, of a step that nobody judged, is not below it.

  >>> first_wrong([1.0, 0.5, None, 0.25])
  3
  """
  wrong = np.flatnonzero(np.array(targets, np.float64) < 0.5)
  return int(wrong[0]) if len(wrong) else -1


def from_first_error(first_error: int, num_steps: int) -> list[float | None]:
  """Returns the targets of steps whose first wrong one is known.

  Nobody judged those after it, and they are None: a step may follow rightly
  from a wrong one. A wrong step that is missing at the end is the last one.

  >>> from_first_error(1, 4)
  [1.0, 0.0, None, None]
  >>> from_first_error(-1, 2)
  [1.0, 1.0]

  Args:
    first_error: its index, -1 for none.
    num_steps: the number of steps.
  """
  if first_error < 0:
    return [1.0] * num_steps
  wrong = min(first_error, num_steps - 1)
  return [1.0 if i < wrong else 0.0 if i == wrong else None
          for i in range(num_steps)]  # fmt: skip


def label_errors(
  labels: Sequence[int | None], truths: Sequence[int]
) -> dict[str, float]:
  """Compares labels of first wrong steps with the truth.

  Args:
    labels: the index of each solution's first wrong step, -1 for none; None
      where it has no label.
    truths: the true indices.

  Returns:
    Shares of the labelled solutions: 'right', the label is the truth; 'early',
    a right step is called wrong; 'late', a wrong step is called right. They sum
    to 1. And 'labelled', the share of all solutions. {} without labels.
  """
  pairs = [
    (label, truth)
    for label, truth in zip(labels, truths, strict=True)
    if label is not None
  ]
  if not pairs:
    return {}
  # No wrong step is later than any.
  pairs = [[np.inf if x < 0 else x for x in pair] for pair in pairs]
  labels_of, truths_of = np.array(pairs).T
  return {
    'right': float(np.mean(labels_of == truths_of)),
    'early': float(np.mean(labels_of < truths_of)),
    'late': float(np.mean(labels_of > truths_of)),
    'labelled': len(pairs) / len(truths),
  }
