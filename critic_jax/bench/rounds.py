"""Measures a work in several systems, round after round.

A round gives the same prompts to each system in turn; only one computes at a
time. The first round, in which programs are compiled, counts apart. A system
that fails loses its own results and nobody else's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from critic_jax.bench import connection
from critic_jax.bench import work as work_lib
from critic_jax.bench.connection import System
from critic_jax.bench.work import Model, Work

SEED = 0


def setup(work: Work, model: Model, dtype: str) -> dict[str, Any]:
  """What a worker is told first; see worker.py."""
  fields = {
    'name': work.name,
    'kind': work.kind,
    'rows': work.rows,
    'prompt': work.prompt,
    'stages': [stage._asdict() for stage in work.stages],
  }
  return {'model': dict(model), 'dtype': dtype, 'seed': SEED, 'work': fields}


def prompts(work: Work, model: Model, seed: int) -> list[list[int]]:
  """Random prompts without token 0, which is a peer's padding."""
  draw = random.Random(seed)
  return [
    [draw.randrange(1, model['vocab_size']) for _ in range(work.prompt)]
    for _ in range(work.rows)
  ]


def run(
  work: Work,
  model: Model,
  dtype: str,
  systems: Sequence[System],
  *,
  repeats: int,
  deadline_s: float,
  say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
  """Measures a work.

  Args:
    work: what is done.
    model: the fields of TransformerConfig.
    dtype: of parameters and cache.
    systems: ours first.
    repeats: rounds after the first.
    deadline_s: for each answer of a worker.
    say: is told how far it is.

  Returns:
    'work'; 'needs', the least flops and bytes of each phase; 'systems', for
    each what it measured (`_facts`) or {'error': ...}; and 'ratios', how many
    times the seconds of the first system each other one takes.
  """
  answers = {system.name: [] for system in systems}
  versions, errors, running = {}, {}, {}
  told = setup(work, model, dtype)
  with contextlib.ExitStack() as stack:
    for system in systems:
      try:
        worker = stack.enter_context(
          connection.worker(system, told, deadline_s)
        )
        running[system.name], versions[system.name] = worker, worker.versions
      except ValueError as error:
        errors[system.name] = str(error)
    for number in range(1 + repeats):
      request = {'prompts': prompts(work, model, number), 'seed': 100 * number}
      say(f'{work.name}: round {number} of {repeats}')
      for name, worker in list(running.items()):
        try:
          answers[name].append(worker.ask(request))
        except ValueError as error:
          errors[name] = str(error)
          running.pop(name).stop()
  found = {}
  for system in systems:
    name = system.name
    if name in errors:
      found[name] = {'error': errors[name]}
    else:
      found[name] = _facts(answers[name], versions[name])
  return {
    'work': dataclasses.asdict(work) | {'tokens': work.tokens},
    'needs': [need._asdict() for need in work_lib.needs(work, model, dtype)],
    'systems': found,
    'ratios': ratios(found),
  }


def _facts(answers, versions):
  """The medians and extremes of one system's answers."""
  first, *later = answers
  seconds = [answer['seconds'] for answer in later]
  median = statistics.median(seconds)
  facts = {
    'versions': versions,
    'seconds': seconds,
    'median_seconds': median,
    'first_seconds': first['seconds'],
    'compile_seconds': max(0.0, first['seconds'] - median),
  }
  for name in ('peak_bytes', 'device_bytes', 'compiled_bytes'):
    if name in first:
      facts[name] = max(answer[name] for answer in answers)
  if 'loss' in first:
    facts['losses'] = [answer['loss'] for answer in answers]
  return facts


def ratios(found: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Seconds of each system over those of the first, round by round.

  Args:
    found: for each system, the first being ours, its 'seconds' or 'error'.

  Returns:
    For each system but the first, 'median', 'low' and 'high' over the rounds;
    without those that failed.
  """
  (_, ours), *others = found.items()
  if 'error' in ours:
    return {}
  table = {}
  for name, facts in others:
    if 'error' not in facts:
      pairs = zip(facts['seconds'], ours['seconds'], strict=True)
      each = [theirs / own for theirs, own in pairs]
      table[name] = {
        'median': statistics.median(each),
        'low': min(each),
        'high': max(each),
      }
  return table


def utilisation(
  result: dict[str, Any], system: str, machine: dict[str, Any], dtype: str
) -> dict[str, float]:
  """What a system makes of the machine.

  Args:
    result: of `run`.
    system: one that did not fail.
    machine: of `machine.limits`.
    dtype: of the work.

  Returns:
    'tokens_per_second'; 'matmul' and 'bandwidth', the fractions of the limits
    that the least flops and bytes take up; and 'of_limit', the least seconds
    that the limits allow over those it took.
  """
  seconds = result['systems'][system]['median_seconds']
  needs = [work_lib.Need(**need) for need in result['needs']]
  limits = machine['matmul_flops'][dtype], machine['bandwidth']
  return {
    'tokens_per_second': result['work']['tokens'] / seconds,
    'matmul': sum(need.flops for need in needs) / seconds / limits[0],
    'bandwidth': sum(need.bytes for need in needs) / seconds / limits[1],
    'of_limit': work_lib.least_seconds(needs, *limits) / seconds,
  }
