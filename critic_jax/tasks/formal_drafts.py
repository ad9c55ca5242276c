"""A formaliser that errs: statements that are faithful, and some that are not.

A faithful draft says the problem in any of several ways: sides of sums,
products and equations may be swapped. A wrong one has an error of `KINDS`, and
half of those that a checker accepts have other numbers in other parts, too.
Those of `REFUSED` a checker finds, by the statement alone; all others pass it,
and only who compares the statement with the problem can tell:

  operand      another number in a hypothesis
  operation    another operation in a hypothesis
  source       an operation on a number that is earlier in the story
  dropped      a hypothesis is not there
  goal_name    the claim is of another number of the story
  goal_value   another number is claimed
  unbound      a name that is declared nowhere
  ill_typed    a hypothesis that is a number, or is equal to a proof
  syntax       a missing bracket, colon or sign

A given draft is a record in a solution's place, labelled by
`formal_statements.faithful`. One that a checker refuses ends with the message
on a line of its own, as wrong statements of CriticLean's data do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from critic_jax.execution import checkers
from critic_jax.tasks import formal_language, formal_statements
from critic_jax.tasks.formal_language import Expression, Statement
from critic_jax.types import Problem, Record, given_record

REFUSED = 'unbound', 'ill_typed', 'syntax'
KINDS = (
  'operand', 'operation', 'source', 'dropped', 'goal_name', 'goal_value',
  *REFUSED,
)  # fmt: skip
PASSING = tuple(kind for kind in KINDS if kind not in REFUSED)
MESSAGE = '\nChecker: '
_SWAP_SHARE = 0.2  # how often two sides are swapped that may be
# How often a draft that a checker accepts, and that is wrong, is so in several
# parts: critics learn to compare from many marks, half of them wrong.
_MORE_SHARE = 0.5


def make_checker(
  command: Sequence[str] = (), *, deadline_s: float = 60.0, folder: str = ''
) -> checkers.Checker:
  """Returns a checker of statements: a command, or without one this language's.

  Raises:
    ValueError: the command is not there, or is no checker.
  """
  if command:
    return checkers.make_checker(
      tuple(command), deadline_s=deadline_s, folder=folder
    )
  return _check


def _check(text: str) -> checkers.Checked:
  error = formal_language.check(text)
  return checkers.Checked(not error, error)


def draw_kind(
  rng: random.Random, *, error_share: float, refused_share: float
) -> str:
  """Draws an error of a draft, or '' for none.

  Args:
    rng: consumed.
    error_share: how often a draft is wrong.
    refused_share: how many of the wrong ones a checker refuses.

  Raises:
    ValueError: a share is not in [0, 1].
  """
  if not (0 <= error_share <= 1 and 0 <= refused_share <= 1):
    raise ValueError(
      f'error_share, refused_share: got {error_share} and {refused_share}; '
      'expected numbers from 0 to 1'
    )
  if rng.random() >= error_share:
    return ''
  return rng.choice(REFUSED if rng.random() < refused_share else PASSING)


def examples(
  split: str,
  size: int,
  *,
  seed: int,
  refused_share: float,
  checker: Mapping[str, Any],
) -> list[Record]:
  """Returns given drafts of a split's problems, every second one wrong.

  Args:
    split: 'train', 'dev' or 'test'.
    size: their number.
    seed: of problems and drafts.
    refused_share: how many of the wrong ones a checker refuses.
    checker: the settings of `make_checker`.

  Raises:
    ValueError: a setting is wrong, or the checker is not there.
  """
  check = make_checker(**checker)
  rng = random.Random(f'{seed}/statements/{split}')
  drafts = []
  problems = formal_statements.problems(split, size, seed=seed)
  for i, problem in enumerate(problems):
    kind = draw_kind(rng, error_share=float(i % 2), refused_share=refused_share)
    drafts.append(given(problem, rng, check, kind=kind))
  return drafts


def draft(problem: Problem, rng: random.Random, kind: str = '') -> str:
  """Writes a statement of a problem.

  Args:
    problem: a problem of `formal_statements`.
    rng: consumed.
    kind: an error of `KINDS`; '' for a faithful statement.

  Raises:
    ValueError: there is no such error.
  """
  if kind and kind not in KINDS:
    raise ValueError(f'kind: got {kind!r}; expected one of {list(KINDS)}')
  said = formal_statements.intended(problem)
  statement = formal_statements.plain(said)
  if kind in PASSING:
    statement = _changed(statement, kind, rng)
  statement = _swapped(statement, rng)
  if kind == 'unbound':
    unknown = rng.choice(statement.numbers)
    rest = tuple(name for name in statement.numbers if name != unknown)
    statement = statement._replace(numbers=rest)
  elif kind == 'ill_typed':
    statement = _ill_typed(statement, rng)
  text = formal_language.write(statement)
  return _without_a_sign(text, rng) if kind == 'syntax' else text


def given(
  problem: Problem,
  rng: random.Random,
  check: checkers.Checker,
  *,
  kind: str = '',
  **parsed,
) -> Record:
  """Returns a draft as a record, labelled, with a checker's message if refused.

  Raises:
    ValueError: the checker does not answer in time.
  """
  text = draft(problem, rng, kind)
  return judged(problem, text, check(text), **parsed)


def judged(
  problem: Problem, text: str, checked: checkers.Checked, **parsed
) -> Record:
  """Returns a statement as a record; it is right if accepted and faithful.

  `parsed['checked']` is whether the checker accepts it.

  Raises:
    ValueError: the checker did not answer in time, which says nothing.
  """
  if checked.accepted is None:
    raise ValueError(
      f'checker: got {checked.message!r} of {text[:80]!r}; expected an answer; '
      'raise deadline_s'
    )
  is_right = checked.accepted and formal_statements.faithful(problem, text)
  if not checked.accepted:
    text = f'{text}{MESSAGE}{checked.message}'
  fields = dict(
    answer=None,
    part='statements',
    correct=is_right,
    grade='right' if is_right else 'wrong',
    checked=checked.accepted,
  )
  return given_record(problem, text, parsed=fields | parsed)


# ------------------------------------------------------------------ errors


def _changed(statement: Statement, kind: str, rng) -> Statement:
  """Returns a plain statement with errors that a checker does not see.

  One is of a kind; in some drafts other parts are wrong, too.
  """
  names, equations = statement.numbers, [e for _, e in statement.hypotheses]
  _, last, answer = statement.goal
  # The start has no operation; an earlier source needs two before it.
  first = {'operation': 1, 'source': 2}.get(kind, 0)
  place = rng.randrange(first, len(equations))
  if rng.random() < _MORE_SHARE:
    equations = [
      equation
      if i == place or rng.random() < 0.5
      else _with_value(equation, _other_operand(equation[2], rng))
      for i, equation in enumerate(equations)
    ]
    answer = answer if rng.random() < 0.5 else _other(answer, rng)
  value = equations[place][2]
  match kind:
    case 'operand':
      value = _other_operand(value, rng)
    case 'operation':
      op, source, right = value
      value = rng.choice([o for o in '+-*' if o != op]), source, right
    case 'source':
      op, _, right = value
      value = op, rng.choice(names[: place - 1]), right
    case 'goal_name':
      last = rng.choice(names[:-1])
    case 'goal_value':
      answer = _other(statement.goal[2], rng)
  equations[place] = _with_value(equations[place], value)
  if kind == 'dropped':
    del equations[place]
  return Statement(
    names, formal_statements.named(equations), ('=', last, answer)
  )


def _with_value(equation: Expression, value: Expression) -> Expression:
  return equation[0], equation[1], value


def _other_operand(value: Expression, rng) -> Expression:
  if isinstance(value, int):
    return _other(value, rng)
  op, source, right = value
  return op, source, _other(right, rng)


def _other(number: int, rng) -> int:
  """Returns a number near another, above 0."""
  return rng.choice([n for d in (1, 2, 3) for n in (number - d, number + d)
                     if n > 0])  # fmt: skip


def _swapped(statement: Statement, rng) -> Statement:
  """Returns a statement of the same meaning, with some sides swapped."""

  def swapped(equation):
    _, name, value = equation
    is_free = isinstance(value, tuple) and value[0] in '+*'
    if is_free and rng.random() < _SWAP_SHARE:
      value = value[0], value[2], value[1]
    is_turned = rng.random() < _SWAP_SHARE
    return ('=', value, name) if is_turned else ('=', name, value)

  return statement._replace(
    hypotheses=tuple((h, swapped(e)) for h, e in statement.hypotheses),
    goal=swapped(statement.goal),
  )


def _ill_typed(statement: Statement, rng) -> Statement:
  """Returns a statement with a hypothesis that is no proposition."""
  hypotheses = list(statement.hypotheses)
  place = rng.randrange(len(hypotheses))
  name, (_, left, right) = hypotheses[place]
  wrong = right if isinstance(left, str) else left  # a number
  if place and rng.random() < 0.5:
    wrong = '=', ('=', left, right), hypotheses[0][0]  # equal to a proof
  hypotheses[place] = name, wrong
  return statement._replace(hypotheses=tuple(hypotheses))


def _without_a_sign(text: str, rng) -> str:
  """Returns a text that lacks a bracket, a colon or a sign of an equation."""
  place = rng.choice([i for i, sign in enumerate(text) if sign in '():='])
  return text[:place] + text[place + 1 :].lstrip(' ')
