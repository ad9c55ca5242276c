"""Trials of a formaliser: formalise, check, criticise, try again.

CriticLean's gate (https://arxiv.org/abs/2507.06181). In each try the formaliser
drafts a statement; a checker refuses it, with a message that the next draft
heeds; what passes is shown to a critic, who approves of it, or has it drafted
again. The first that is approved of is the result; after `max_tries` there is
none. Three things are told apart:

  accepted        something was approved of
  is_reached      what was approved of is faithful
  alone           what the checker accepts first is faithful: without a critic

The formaliser's noise depends on the seed, the problem and the number of the
try alone, so that trials with and without a critic differ by the critic.

Trials are episodes (`critic_loop`): a statement that passed is a record to
criticise, and `advance` gives the next. The messages of those before it that
did not pass are in `parsed['refused']`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from critic_jax.tasks import formal_drafts, formal_statements
from critic_jax.types import Problem, Record, given_record


def first(
  problem: Problem,
  *,
  seed: int,
  error_share: float,
  refused_share: float,
  max_tries: int,
  checker: Mapping[str, Any],
) -> Record:
  """Returns the first statement of a trial that passes the checker.

  Args:
    problem: a problem of `formal_statements`.
    seed: of the formaliser's noise.
    error_share: how often a draft is wrong.
    refused_share: how many of the wrong ones a checker refuses.
    max_tries: drafts of a trial, at most.
    checker: the settings of `formal_drafts.make_checker`.

  Returns:
    A given statement. `parsed['episode']` has the number of the try, `turn`,
    the tries that are `left`, this one included, and what became of it, as the
    module says; also `single`, whether the first draft of all is faithful, and
    `alone_accepted`, whether the checker accepts any.

  Raises:
    ValueError: a share is not in [0, 1], or the checker is not there.
  """
  episode = dict(
    turn=1,
    left=max_tries,
    is_reached=False,
    accepted=False,
    seed=seed,
    shares=[error_share, refused_share],
    checker=dict(checker),
  )
  begun = _turn(problem, episode)
  passes = bool(begun.parsed['episode']['left'])
  episode = begun.parsed['episode'] | dict(
    single=passes
    and begun.parsed['episode']['turn'] == 1
    and bool(begun.parsed['correct']),
    alone=passes and bool(begun.parsed['correct']),
    alone_accepted=passes,
  )
  parsed = {**begun.parsed, 'episode': episode}
  return dataclasses.replace(begun, parsed=parsed)


def examples(num: int, *, seed: int, **settings) -> list[Record]:
  """Returns `first` of the first problems of 'test', with its settings."""
  return [
    first(problem, seed=seed, **settings)
    for problem in formal_statements.problems('test', num, seed=seed)
  ]


def _noise(problem: Problem, episode: Mapping[str, Any]) -> random.Random:
  return random.Random(f'{episode["seed"]}/{problem.id}/{episode["turn"]}')


def _turn(problem: Problem, episode: Mapping[str, Any]) -> Record:
  """Returns the next draft that passes, or the end of a trial."""
  checker = formal_drafts.make_checker(**episode['checker'])
  error_share, refused_share = episode['shares']
  refused = []
  while episode['left']:
    rng = _noise(problem, episode)
    kind = formal_drafts.draw_kind(
      rng,
      error_share=error_share,
      # Who was told by a checker does not make such an error again.
      refused_share=0.0 if refused else refused_share,
    )
    draft = formal_drafts.given(
      problem, rng, checker, kind=kind, refused=refused, episode=episode
    )
    if draft.parsed['checked']:
      return draft
    refused = [*refused, draft.text.rpartition(formal_drafts.MESSAGE)[2]]
    changes = dict(turn=episode['turn'] + 1, left=episode['left'] - 1)
    episode = {**episode, **changes}
  return _end(problem, 'None was accepted.', episode, refused=refused)


def _end(problem, text, episode, **parsed) -> Record:
  """Returns the record that ends a trial."""
  fields = dict(answer=None, part='statements', **parsed)
  return given_record(problem, text, parsed=fields | dict(episode=episode))


def advance(critique: Record) -> Record | None:
  """Returns what follows a critique of a trial's statement.

  A statement is accepted if a whole critique has the one verdict 'correct';
  silence accepts nothing.

  Args:
    critique: a critique of a statement of a trial.

  Returns:
    The next statement, a response to the critique; at the end of the trial a
    record whose `parsed['episode']['left']` is 0; None after that.

  Raises:
    ValueError: the statement is of no trial.
  """
  record = critique.parent
  if 'shares' not in record.parsed.get('episode', {}):
    raise ValueError(
      f"parsed['episode'] of {record.id}: got none of a trial; expected a "
      "statement of one; set data to dict(name='statement_trials')"
    )
  episode = record.parsed['episode']
  if not episode['left']:
    return None
  turn = dict(turn=episode['turn'] + 1, left=episode['left'] - 1)
  is_approved = (
    critique.finish == 'stop' and critique.parsed.get('verdict') == 'correct'
  )
  if is_approved:
    reached = dict(left=0, accepted=True, is_reached=record.parsed['correct'])
    after = _end(record.problem, record.text, {**episode, **turn, **reached})
  else:
    after = _turn(record.problem, {**episode, **turn})
  return dataclasses.replace(after, parent=critique)
