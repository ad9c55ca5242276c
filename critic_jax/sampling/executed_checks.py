"""Critiques whose checks are executed, and which go on with the results.

GenPRM (https://arxiv.org/abs/2504.00891) has its critic write a program for
each step, runs it, and lets the critic go on after what it printed. Here a
critique is sampled to its end and cut after the first check whose result is not
what executing it gives; the result takes its place, and the rest is sampled
anew, check after check. A critique that computes rightly stays as it is: its
rest was sampled after that very result. So nothing has to be stopped while it
is sampled, and no critic needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.rollouts.stages import Stages
from critic_jax.types import Begun, Generate, Generation, Key, Params

# A text -> its beginning up to the first check whose result is missing or
# false, and the true result; None without one.
Execute = Callable[[str], str | None]

_NOBODY = dict(module='', name='', max_turns=0)
# Apart from all that a sampler makes of a prompt's own key.
_TURNS = 1 << 30


class Checked(NamedTuple):
  """What samples critiques, as an LM does.

  Attributes:
    stages: the stages of its style.
    bind: parameters -> what samples responses.
  """

  stages: Stages
  bind: Callable[[Params], Generate]


def with_checks(
  lms: Mapping[str, Any], settings: Mapping | None
) -> Mapping[str, Any]:
  """Returns models whose critic goes on after what its checks give.

  Args:
    lms: by role.
    settings: `max_turns`, and who executes, a `module` of critic_jax.tasks with
      a name and keywords of its function `(text) -> text or None`; None, or
      `module=''`, for nobody: the models stay as they are.

  Raises:
    ValueError: a setting is wrong, or the critic is missing or served, which
      can not go on with a text that is given.
  """
  settings = dict(settings or _NOBODY)
  if settings.get('module') == '':
    for name in settings:
      lookup.check_name('setting of checks', name, _NOBODY)
  max_turns = settings.pop('max_turns', 0)
  execute = lookup.bind_task(settings, 'checks', ('text',))
  if not execute:
    return lms
  with lookup.naming('checks'):
    lookup.check_counts(max_turns=max_turns)
    lookup.check_name('models', 'critic', lms)
  critic = lms['critic']
  assert critic.tokenizer  # a served model refuses

  def bind(params):
    return feed_back(critic.bind(params), execute, max_turns)

  return {**lms, 'critic': Checked(critic.stages, bind)}


def feed_back(generate: Generate, execute: Execute, max_turns: int) -> Generate:
  """Returns a sampler of responses whose checks are executed.

  Args:
    generate: the sampler.
    execute: see `Execute`.
    max_turns: the most results that a response is given; a false one after
      these stays.

  Returns:
    A sampler whose generations hold what was given among their tokens, with
    the log-probability 0. They are to be read, and not to be learned from.
  """

  def checked(prompts, keys, n, max_prompts=0):
    responses = generate(prompts, keys, n, max_prompts)
    for turn in range(max_turns):
      begun = {
        (i, j): given
        for i, siblings in enumerate(responses)
        for j, response in enumerate(siblings)
        if response.finish != 'prompt'
        and (given := execute(response.text)) is not None
      }
      if not begun:
        break
      owners = [i for i, _ in begun]
      names = [_TURNS + turn * n + j for _, j in begun]
      asked = [Begun(prompts[i], given) for (i, _), given in begun.items()]
      rest = generate(
        asked, _keys(keys, owners, names), 1, n * max(max_prompts, len(prompts))
      )
      for (i, j), [continued] in zip(begun, rest, strict=True):
        siblings = list(responses[i])
        siblings[j] = _joined(siblings[j], begun[i, j], continued)
        responses[i] = siblings
    return responses

  return checked


def _keys(keys: Key, owners: Sequence[int], names: Sequence[int]) -> Key:
  """Makes keys of those of the prompts, so many that few shapes compile."""
  size = max(len(keys), 1 << (len(owners) - 1).bit_length())
  rows, numbers = np.zeros(size, np.int32), np.zeros(size, np.uint32)
  rows[: len(owners)], numbers[: len(names)] = owners, names
  return _fold_in(keys, rows, numbers)


@jax.jit
def _fold_in(keys, rows, numbers):
  return jax.vmap(jax.random.fold_in)(keys[rows], numbers)


def _joined(first: Generation, given: str, continued: Generation) -> Generation:
  """Returns one response of what was given and what was sampled after it.

  One that cannot go on, as there is no room for it, was cut off there.
  """
  if continued.finish == 'prompt':
    return first._replace(text=given, finish='length')
  start = len(first.prompt_tokens)
  kept = continued.prompt_tokens[start:]
  return continued._replace(
    prompt_tokens=first.prompt_tokens,
    tokens=np.concatenate([kept, continued.tokens]),
    logprobs=np.concatenate(
      [np.zeros(len(kept), np.float32), continued.logprobs]
    ),
  )
