"""Measures a work in several systems, round after round.

A round gives the same prompts to each system in turn; only one computes at a
time. The first round, in which programs are compiled, counts apart. A system
that fails loses its own results only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from critic_jax.bench import connection
from critic_jax.bench import work as work_lib
from critic_jax.bench.connection import System
from critic_jax.bench.work import Model, Work

SEED = 0


def setup(work: Work, model: Model, dtype: str) -> dict[str, Any]:
  """Returns a worker's first request, as worker.py describes it."""
  fields = {
    'name': work.name,
    'kind': work.kind,
    'rows': work.rows,
    'prompt': work.prompt,
    'stages': [stage._asdict() for stage in work.stages],
  }
  return {'model': dict(model), 'dtype': dtype, 'seed': SEED, 'work': fields}


def prompts(work: Work, model: Model, seed: int) -> list[list[int]]:
  """Returns random prompts without token 0, which is a peer's padding."""
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
    work: the work.
    model: the fields of TransformerConfig.
    dtype: the dtype of parameters and cache.
    systems: the systems, ours first.
    repeats: number of rounds after the first.
    deadline_s: seconds that a worker has for each answer.
    say: is called with a line about each round.

  Returns:
    'work'; 'needs', the least flops and bytes of each phase; 'systems', the
    facts of each (`_facts`) or {'error': ...}; and 'ratios', the seconds of
    each other system over those of the first.
  """
  answers = {system.name: [] for system in systems}
  errors = {}
  # Start all workers, then alternate, so that a slow hour slows all alike.
  with contextlib.ExitStack() as stack:
    workers = {}
    for system in systems:
      worker = connection.worker(system, setup(work, model, dtype), deadline_s)
      with _failing(system.name, errors):
        workers[system.name] = stack.enter_context(worker)
    versions = {name: worker.versions for name, worker in workers.items()}
    for number in range(1 + repeats):
      say(f'{work.name}: round {number} of {repeats}')
      request = {'prompts': prompts(work, model, number), 'seed': 100 * number}
      for name, worker in list(workers.items()):
        with _failing(name, errors):
          answers[name].append(worker.ask(request))
        if name in errors:
          workers.pop(name).stop()
  facts = {
    name: {'error': errors[name]}
    if name in errors
    else _facts(answers[name], versions[name])
    for name in answers
  }
  return {
    'work': dataclasses.asdict(work) | {'tokens': work.tokens},
    'needs': [need._asdict() for need in work_lib.needs(work, model, dtype)],
    'systems': facts,
    'ratios': ratios(facts),
  }


@contextlib.contextmanager
def _failing(name: str, errors: dict[str, str]) -> Iterator[None]:
  """Turns a ValueError within the block into the error of a system."""
  try:
    yield
  except ValueError as error:
    errors[name] = str(error)


def _facts(answers, versions):
  """Summarises one system's answers by medians and extremes."""
  first, *later = answers  # the first includes compiling
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


def ratios(facts: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Divides the seconds of each system by those of the first, by rounds.

  Args:
    facts: 'seconds' or 'error' of each system, critic_jax first.

  Returns:
    For each system but the first, 'median', 'low' and 'high' over the rounds;
    without those that failed.
  """
  (_, our_facts), *peers = facts.items()
  if 'error' in our_facts:
    return {}
  table = {}
  for name, peer_facts in peers:
    if 'error' not in peer_facts:
      pairs = zip(peer_facts['seconds'], our_facts['seconds'], strict=True)
      quotients = [peer_s / our_s for peer_s, our_s in pairs]
      table[name] = {
        'median': statistics.median(quotients),
        'low': min(quotients),
        'high': max(quotients),
      }
  return table


def utilisation(
  result: dict[str, Any], system: str, machine: dict[str, Any], dtype: str
) -> dict[str, float]:
  """Returns how well a system uses the machine.

  Args:
    result: the result of `run`.
    system: the name of a system that did not fail.
    machine: the result of `machine.limits`.
    dtype: the dtype of the work.

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
