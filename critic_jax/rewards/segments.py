"""Fine-grained rewards: of several kinds, each paid where a segment ends.

https://arxiv.org/abs/2306.01693, eq. 1: `r_t = sum over kinds k and segments j
of w_k R_k(j) [t is the last token of j]`. Kinds may cut a text otherwise. The
segments of a record are in `parsed['segments']`: by kind, where each ends in
its text and its reward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.types import Record, RewardFn

Measures = dict[str, Callable]


def bind(
  settings: Mapping[str, Mapping],
) -> tuple[Measures, dict[str, RewardFn], dict[str, float]]:
  """Binds the functions that reward segments, by settings.

  Args:
    settings: by kind, its `weight`, and a `module` of critic_jax.tasks with a
      name and keywords of its function `(problem, text) -> [(end, reward)]`.

  Returns:
    By kind: these functions; the rules of a record's sum of each; the weights.

  Raises:
    ValueError: a setting is wrong.
  """
  measures, weights = {}, {}
  for kind, section in settings.items():
    setting = f'segment_rewards.{kind}'
    if kind in ('correct', 'reward'):
      raise ValueError(
        f'segment_rewards: got {kind!r}, which is the name of another reward; '
        'expected a name of its own'
      )
    with lookup.naming(setting):
      lookup.check_has('weight', section, 'kind of reward')
      lookup.check_numbers(weight=section['weight'])
    weights[kind] = section['weight']
    function = {name: x for name, x in section.items() if name != 'weight'}
    measures[kind] = lookup.bind_in(
      'tasks', function, setting, ('problem', 'text')
    )
  return measures, {kind: _total(kind) for kind in measures}, weights


def write(records: Sequence[Record], measures: Measures) -> list[Record]:
  """Returns the records with their segments; a refused one has no text."""
  if not measures:
    return list(records)
  return [
    record
    if record.refused
    else dataclasses.replace(
      record,
      parsed={
        **record.parsed,
        'segments': {
          kind: measure(record.problem, record.text)
          for kind, measure in measures.items()
        },
      },
    )
    for record in records
  ]


def weighted(
  record: Record, weights: Mapping[str, float]
) -> list[tuple[int, float]]:
  """Returns where the segments of all kinds end, and what is paid for each."""
  segments = record.parsed.get('segments', {})
  return [
    (end, weight * reward)
    for kind, weight in weights.items()
    for end, reward in segments.get(kind, [])
  ]


def _total(kind: str) -> RewardFn:
  """Returns the rule of the sum of one kind."""
  return lambda record, responses: sum(
    reward for _, reward in record.parsed['segments'][kind]
  )
