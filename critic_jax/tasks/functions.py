r"""A world of small programs: functions of a number, told in words.

A problem is a chain of two or three different operations; its answer is unit
tests (execution/code.py), its solution the program, a line an operation. The
operation 'is at most' shows in some tests only: a program without it passes the
others, so there is something between all tests and none.

Splits are disjoint by construction: the hash of a chain decides its split.
"""

from __future__ import annotations

import hashlib
import random

from critic_jax.execution import code
from critic_jax.types import Problem

SPLITS = {'train': range(0, 80), 'dev': range(80, 90), 'test': range(90, 100)}
ARGUMENTS = -20, 0, 7, 50  # of the tests, in order

# By kind: its words, its line, and its operands, so that a program that lacks
# one of its lines fails a test.
_OPERATIONS = {
  'add': ('add {n} to it', 'x = x + {n}', range(1, 10)),
  'subtract': ('subtract {n} from it', 'x = x - {n}', range(1, 10)),
  'multiply': ('multiply it by {n}', 'x = x * {n}', range(2, 6)),
  'limit': ('make it {n} if it is more than {n}', 'x = min(x, {n})',
            range(4, 13)),
}  # fmt: skip
_MAX_TRIES = 100  # for each problem


def problems(
  split: str, num_problems: int, *, seed: int = 0, max_steps: int = 3
) -> list[Problem]:
  """Returns problems of a split, no two alike.

  Args:
    split: 'train', 'dev' or 'test'.
    num_problems: the length of the list.
    seed: another seed gives others.
    max_steps: the greatest number of operations, 2 or more.

  Raises:
    ValueError: an unknown split, or it has not so many problems.
  """
  if split not in SPLITS:
    raise ValueError(f'split: got {split!r}; expected one of {list(SPLITS)}')
  if not 2 <= max_steps <= len(_OPERATIONS):
    raise ValueError(
      f'max_steps: got {max_steps}; expected 2 to {len(_OPERATIONS)}'
    )
  rng, chains = random.Random(f'{seed}/{split}/{max_steps}'), {}
  for _ in range(num_problems * _MAX_TRIES):
    if len(chains) == num_problems:
      break
    kinds = rng.sample(sorted(_OPERATIONS), rng.randint(2, max_steps))
    chain = tuple((kind, rng.choice(_OPERATIONS[kind][2])) for kind in kinds)
    if _bucket(chain) in SPLITS[split]:
      chains[chain] = None
  if len(chains) < num_problems:
    raise ValueError(
      f'num_{split}: got {num_problems}; expected at most about {len(chains)},'
      f' the problems of {max_steps} operations; ask for fewer, or raise '
      'max_steps'
    )
  return [
    _problem(f'function-{split}-{i}', chain) for i, chain in enumerate(chains)
  ]


def _bucket(chain) -> int:
  digest = hashlib.sha256(repr(chain).encode()).digest()
  return int.from_bytes(digest[:8], 'big') % 100


def _problem(name, chain) -> Problem:
  words = [_OPERATIONS[kind][0].format(n=n) for kind, n in chain]
  lines = [_OPERATIONS[kind][1].format(n=n) for kind, n in chain]
  tests = [f'assert f({x}) == {_value(chain, x)}' for x in ARGUMENTS]
  program = '\n  '.join(['def f(x):', *lines, 'return x'])
  return Problem(
    name,
    f'Write a function `f` of a number: {", then ".join(words)}. It is called '
    f'like this: `f({ARGUMENTS[2]})`',
    code.reference(tests),
    f'```python\n{program}\n```',
  )


def _value(chain, x: int) -> int:
  """Returns what the program makes of an argument."""
  for kind, n in chain:
    if kind == 'limit':
      x = min(x, n)
    elif kind == 'multiply':
      x *= n
    else:
      x += n if kind == 'add' else -n
  return x
