"""Splits of problems, or of given solutions, which share no question.

A question is known by its words and numbers: another case, other spaces or
other punctuation make a copy of it. Copies are in one split, and so are all
solutions of a problem.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from critic_jax import lookup
from critic_jax.types import Comparison, Problem, Record

Example = Problem | Record | Comparison
Examples = Sequence[Example]


def question_key(question: str) -> str:
  """Returns the words and numbers of a question, which its copies share."""
  text = unicodedata.normalize('NFKC', question).casefold()
  return ' '.join(re.findall(r'\w+', text))


def repeats(problems: Sequence[Problem]) -> dict[str, str]:
  """Maps the id of each repeated question to the id of its first copy.

  >>> questions = enumerate(['a b', 'c', 'A  b'])
  >>> repeats([Problem(str(i), question, '7') for i, question in questions])
  {'2': '0'}
  """
  first_ids: dict[str, str] = {}
  copies = {}
  for problem in problems:
    first_id = first_ids.setdefault(question_key(problem.question), problem.id)
    if first_id != problem.id:
      copies[problem.id] = first_id
  return copies


def split(
  examples: Examples, fractions: Mapping[str, float], *, seed: int
) -> dict[str, list[Example]]:
  """Splits examples into disjoint parts of about the given sizes.

  The part of an example depends on `question_key` of its question, the
  fractions and the seed only: copies of a question fall into the same part, and
  examples added later move none.

  Args:
    examples: problems, given solutions, or comparisons; any number.
    fractions: part -> its share, e.g. `{'train': 0.9, 'dev': 0.1}`; sum 1.
    seed: another seed gives other parts.

  Returns:
    part -> its examples, in the given order.

  Raises:
    ValueError: the fractions are negative or do not sum to 1.
  """
  check_shares(fractions)
  ends = list(itertools.accumulate(fractions.values()))[:-1]
  names = list(fractions)
  parts = {name: [] for name in names}
  for example in examples:
    key = f'{seed}\n{_key_of(example)}'
    digest = hashlib.sha256(key.encode()).digest()
    place = int.from_bytes(digest[:8], 'big') / 2**64
    parts[names[bisect.bisect_right(ends, place)]].append(example)
  return parts


def _key_of(example: Example) -> str:
  """Returns the `question_key` of an example's problem."""
  return question_key(getattr(example, 'problem', example).question)


def check_shares(fractions: Mapping[str, float]) -> None:
  """Raises ValueError unless shares are not negative and sum to 1."""
  shares = list(fractions.values())
  if not shares or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
    raise ValueError(
      f'fractions: got {dict(fractions)}; expected shares >= 0 that sum to 1'
    )


def without_copies(
  by_split: Mapping[str, Examples],
  *,
  report: Callable[[str], None] = print,
) -> dict[str, list[Example]]:
  """Leaves out of each split the questions of a split that comes before it.

  Args:
    by_split: splits by name; what is measured comes first.
    report: called with one line of text for a split that had some.

  Raises:
    ValueError: nothing is left of a split.
  """
  owner: dict[str, str] = {}
  parts = {}
  for name, examples in by_split.items():
    keys = [_key_of(example) for example in examples]
    copies = [owner[key] for key in keys if key in owner]
    parts[name] = [
      example for key, example in zip(keys, examples, strict=True)
      if key not in owner
    ]  # fmt: skip
    others = ' and '.join(dict.fromkeys(copies))
    if not parts[name]:
      raise ValueError(
        f'paths.{name}: got only questions that {others} has, too; expected '
        f'others; write --config.data.paths.{name}=FILE'
      )
    if copies:
      report(
        f'{len(copies)} of {len(examples)} questions of {name} are in '
        f'{others}, too, and are left out of {name}'
      )
    owner.update(dict.fromkeys(keys, name))
  return parts


def disjoint(
  parts: dict[str, Examples],
  fractions: Mapping[str, float] | None,
  seed: int,
) -> dict[str, Examples]:
  """Leaves copies out of parts, and shares 'train' for those that lack one.

  Args:
    parts: by split, those first that keep a copy of a question.
    fractions: the share of each split of 'train'; None for the default.
    seed: the seed of the split by shares.

  Raises:
    ValueError: shares of no split, or without one of train.
  """
  if len(parts) > 1:
    parts = without_copies(parts)
  if 'train' in parts:
    shares = _shares(fractions, parts)
    parts |= split(parts['train'], shares, seed=seed)
  return parts


def _shares(fractions, parts) -> dict[str, float]:
  """Returns the shares of the file of 'train', which sum to 1."""
  shares = dict(fractions or {'train': 0.9, 'dev': 0.05, 'test': 0.05})
  check_shares(shares)
  for split in shares:
    lookup.check_name('fractions', split, ('train', 'dev', 'test'))
  if len(parts) == 1:
    return {'train': 0.0} | shares
  shares = {s: n for s, n in shares.items() if s == 'train' or s not in parts}
  total = sum(shares.values())
  if not shares.get('train'):
    raise ValueError(
      f'fractions: got {dict(fractions)}; expected a share of train, beside '
      f'files of {sorted({*parts} - {"train"})}; write '
      '--config.data.fractions.train=0.9'
    )
  return {split: share / total for split, share in shares.items()}
