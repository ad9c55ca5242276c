"""Metrics of the records of the critic loop, by all protocols at once.

A protocol is a module with two pure functions, `metrics(records)` and
`compare(before, after)`; both return {} for records to which the protocol does
not apply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from critic_jax.evals import (
  acceptance,
  calibration,
  control_metrics,
  critique_ability,
  critique_metrics,
  description,
  episode_metrics,
  operating_points,
  order_swaps,
  processbench,
  ranking,
  rating_votes,
  refinement_metrics,
  revision_metrics,
  selection,
  thresholds,
)
from critic_jax.evals.statistics import Estimate
from critic_jax.types import Record

PROTOCOLS = {
  'critique': critique_metrics,
  'calibration': calibration,
  'operating': operating_points,
  'description': description,
  'refinement': refinement_metrics,
  'revision': revision_metrics,
  'controls': control_metrics,
  'processbench': processbench,
  'thresholds': thresholds,
  'selection': selection,
  'ranking': ranking,
  'ratings': rating_votes,
  'episodes': episode_metrics,
  'trials': acceptance,
  'ability': critique_ability,
  'swaps': order_swaps,
}


def metrics(
  records: Sequence[Record], *, refined: bool = True
) -> dict[str, Estimate]:
  """Returns all protocols' metrics, named by `TITLES` or 'protocol/metric'.

  Args:
    records: the records of `critic_loop.collect`.
    refined: whether refinements were asked for; if not, their metrics are left
      out.
  """
  return _titled(
    {
      name: module.metrics(records)
      for name, module in _protocols(refined).items()
    }
  )


def compare(
  before: Sequence[Record], after: Sequence[Record], *, refined: bool = True
) -> dict[str, Estimate]:
  """Returns all protocols' paired differences, named as in `metrics`."""
  return _titled(
    {
      name: module.compare(before, after)
      for name, module in _protocols(refined).items()
    }
  )


def groups(
  records: Sequence[Record],
) -> dict[str, dict[str, Mapping[str, Estimate]]]:
  """Returns how well critiques judge, by generator, number of steps, lengths.

  Returns:
    The metrics of `critique_metrics` by key and group. A key is left out if all
    critiques are in the same group.
  """
  by_key = {
    key: critique_metrics.by(records, fn)
    for key, fn in critique_metrics.KEYS.items()
  }
  return {
    key: by_group for key, by_group in by_key.items() if len(by_group) > 1
  }


def _protocols(refined):
  omitted = () if refined else ('refinement', 'revision', 'controls')
  return {name: m for name, m in PROTOCOLS.items() if name not in omitted}


def _titled(by_protocol: Mapping[str, Mapping[str, Estimate]]):
  """Returns one mapping of all protocols' estimates, `TITLES` first."""
  flat = {
    f'{protocol}/{name}': value
    for protocol, estimates in by_protocol.items()
    for name, value in estimates.items()
  }
  titled = {TITLES[name]: flat.pop(name) for name in TITLES if name in flat}
  return titled | flat


# The rows of a table and their titles. `headlines` adds the rows of selection,
# of votes by scores, and of the rounds of an evaluation that has several.
TITLES = {
  'critique/accuracy_right': 'verdict accuracy, right solutions',
  'critique/accuracy_wrong': 'verdict accuracy, wrong solutions',
  'critique/balanced_accuracy': 'balanced verdict accuracy',
  'critique/f1': 'verdict F1 on wrong solutions',
  'calibration/vote_balanced_accuracy': 'balanced accuracy of the vote',
  'calibration/calibration_error': 'calibration error of the vote',
  'refinement/refinement_accuracy_wrong': 'refined right, wrong solutions',
  'description/computes': 'critiques that compute',
  'description/names_step_wrong': 'critiques that name a step, if wrong',
  'description/gives_result_wrong': 'critiques that correct a step, if wrong',
  'controls/lift_over_empty': 'lift over no critique',
  'controls/lift_over_swapped': "lift over another's critique",
  'controls/lift_over_masked': 'lift over the masked critique',
  'refinement/answer_leak': 'critiques that name the answer',
  'refinement/accuracy_before': 'accuracy before',
  'refinement/accuracy_after': 'accuracy after critique and refine',
  'processbench/accuracy_erroneous': 'first wrong step found',
  'processbench/accuracy_correct': 'right solutions passed',
  'processbench/f1': 'ProcessBench F1',
  'processbench/vote_f1': 'ProcessBench F1 of the vote',
  'processbench/f1_uniform_step': 'F1 of guessing any step',
  'processbench/f1_modal_step': 'F1 of guessing the commonest step',
  'thresholds/heldout_f1': 'F1 by a threshold of GSM8K',
  'ranking/accuracy': 'right solution ranked first',
  'ranking/accuracy_ties_shared': 'the same, ties shared',
  'ranking/accuracy_chance': 'the same, by chance',
  'description/hint_is_reference_wrong': 'hint is the reference, if wrong',
  'description/hint_works_wrong': 'hint works, if wrong',
  'episodes/reached': 'episodes that reach their goal',
  'episodes/alone': 'the same, without the critic',
  'episodes/gain': 'gain in episodes by the critic',
  'episodes/harmed': 'episodes lost by the critic',
  'trials/single': 'faithful first drafts',
  'trials/precision_alone': 'faithful of those that the checker accepts',
  'trials/precision': 'faithful of those that the critic accepts, too',
  'critique/missing': 'critiques without a verdict',
  'critique/length': 'critique length in tokens',
}


def headlines(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
  """Returns the metrics for a table: `TITLES`, and selection at its largest k.

  Args:
    estimates: the estimates of `metrics`.
  """
  rows = {t: estimates[t] for t in TITLES.values() if t in estimates}
  accuracy = 'revision/accuracy_'
  rows |= {
    name: estimate
    for name, estimate in estimates.items()
    if name.startswith('ratings/') and '_' not in name
  }
  rows |= {
    f'accuracy after round {name.removeprefix(accuracy)}': estimate
    for name, estimate in estimates.items()
    if name.startswith(accuracy)
  }
  curves = selection.curves_of(estimates)
  max_k = max((k for curve in curves.values() for k in curve), default=0)
  return rows | {
    f'{method}@{max_k}': curve[max_k]
    for method, curve in curves.items()
    if max_k in curve
  }
