"""The data that flows through critic_jax: problems, records, batches, recipes.

Axis letters, used in every docstring of the project: `B` rows, `T` tokens
(prompt and response, right-padded), `G` samples of a group, `N` groups, `K`
candidates, `S` steps, `V` vocabulary, `P`/`R` prompt and response tokens.

The alignment rule: every per-token array is aligned with `tokens`, so that
`x[b, t]` is about `tokens[b, t]`. `logprobs[b, t]` is
`log p(tokens[b, t] | tokens[b, :t])`, `values[b, t]` is the value *before*
`tokens[b, t]`, and `mask[b, 0]` is False. Only `models/forward.py` shifts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any  # numpy or jax: this layer imports no jax
Batch = dict[str, Array]  # leading axis B; data/batching.py lists the keys
Params = Any  # a tree of arrays
Roles = Mapping[str, Params]  # {'critic': ..., 'solver': ...}
Key = Array  # a jax random key, consumed by the callee
Metrics = Mapping[str, Array]  # by name
THINKING = ('<think>', '</think>')  # the tags around it in a model's text


@dataclasses.dataclass(frozen=True)
class Problem:
  """A question with a known final answer.

  Attributes:
    id: unique in its data set, e.g. 'gsm8k-17'.
    question: what the solver is shown.
    answer: the reference final answer, or tests of a program
      (execution/code.py); graders read it, prompts never do.
    solution: a worked reference solution, one step a line, '' if unknown;
      imitation learns from it, prompts never show it.
  """

  id: str
  question: str
  answer: str
  solution: str = ''


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
  """One message that a model wrote, and what became of it.

  Attributes:
    problem: the problem at the root.
    stage: 'solve', 'critique', 'refine', or another stage's name.
    parent: the message it responds to; None if that is the problem itself.
    index: its number among its siblings.
    prompt_tokens: int32[P].
    tokens: int32[R], the response, its end-of-sequence token included.
    logprobs: float32[R], under the distribution the tokens were sampled from.
    text: the response as text, special tokens left out.
    finish: 'stop' (an end-of-sequence token), 'length' (cut at the limit), or
      'prompt' (its prompt was too long, or a prompt above was: nothing was
      sampled, and there is nothing to learn from or to judge).
    parsed: what the stage's parser found, e.g. {'answer': '12'}.
    scores: rewards by name, and 'reward', their weighted sum; without those
      that could not be determined.
    control_of: the stage that this one is a control of; see `Stage`.
  """

  problem: Problem
  stage: str
  parent: Record | None
  index: int
  prompt_tokens: np.ndarray
  tokens: np.ndarray
  logprobs: np.ndarray
  text: str
  finish: str = 'stop'
  parsed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
  control_of: str = ''

  @property
  def truncated(self) -> bool:
    """Whether the message was cut at the limit of its tokens."""
    return self.finish == 'length'

  @property
  def refused(self) -> bool:
    """Whether nothing was sampled, as a prompt did not fit."""
    return self.finish == 'prompt'

  @property
  def undetermined(self) -> bool:
    """Whether its grade does not tell if it is right.

    Nothing was sampled, or the grader timed out. A response that was cut off is
    not right, whatever its grade.
    """
    timed_out = self.parsed.get('grade') == 'timeout'
    return self.refused or (timed_out and not self.truncated)

  @property
  def id(self) -> str:
    """Returns the path from the problem: 'gsm8k-17/solve.0/critique.3'."""
    above = self.parent.id if self.parent else self.problem.id
    return f'{above}/{self.stage}.{self.index}'

  @property
  def chain(self) -> Iterator[Record]:
    """Yields this record and its ancestors, the youngest first."""
    record = self
    while record is not None:
      yield record
      record = record.parent

  def ancestor(self, stage: str) -> Record:
    """Returns the nearest record of `stage` on the way up, from itself on."""
    for record in self.chain:
      if record.stage == stage:
        return record
    raise ValueError(f'{self.id}: no {stage!r} above it')


def given_record(
  problem: Problem,
  text: str,
  index: int = 0,
  *,
  parsed: Mapping[str, Any],
  scores: Mapping[str, float] | None = None,
) -> Record:
  """Makes a record in a solution's place that nobody sampled: it has no tokens.

  Args:
    problem: the problem that it answers.
    text: what it says.
    index: its number among those of the problem.
    parsed: what is known of it, as data/solutions.py has it.
    scores: rewards by name.
  """
  no_tokens = np.zeros(0, np.int32)
  return Record(
    problem=problem,
    stage='solve',
    parent=None,
    index=index,
    prompt_tokens=no_tokens,
    tokens=no_tokens,
    logprobs=np.zeros(0, np.float32),
    text=text,
    parsed=parsed,
    scores=scores or {},
  )


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """A prompt, and responses to it that somebody compared; given as data.

  Attributes:
    problem: its question is the prompt's text, by which splits know it.
    responses: 'solve' records without tokens. Their `scores` say by name what
      is known of them: 'preference' is higher where a response is preferred.
      `parsed['label']` is whether a response by itself was called good.
    messages: the prompt's messages, a 'role' and a 'content' each; () for the
      prompt of the stage 'solve'.
  """

  problem: Problem
  responses: tuple[Record, ...]
  messages: tuple[Mapping[str, str], ...] = ()


class Generation(NamedTuple):
  """One sampled response; the attributes are those of `Record`."""

  prompt_tokens: np.ndarray
  tokens: np.ndarray
  logprobs: np.ndarray
  text: str
  finish: str


class Conversation(NamedTuple):
  """A prompt that goes on after the response to an earlier one.

  Attributes:
    asked: the user's message that was responded to.
    response: the record that responded.
    message: the user's next message.
  """

  asked: str
  response: Record
  message: str


class Begun(NamedTuple):
  """A prompt whose response has begun; what is sampled goes on with it.

  Attributes:
    asked: the user's message.
    text: the beginning of the response. It is given, as `LM.prefix` is: part of
      the prompt's tokens and of the response's text.
  """

  asked: str
  text: str


Prompt = str | Conversation | Begun  # a text is a user's first message

# Prompts, a key for each, n, and how many prompts such a call may have (what is
# compiled depends on that alone) -> n generations for each prompt.
Generate = Callable[[Sequence[Prompt], Key, int, int], list[list[Generation]]]

# A record and the responses to it -> a reward; None where it could not be
# determined, since a grader timed out. Host, pure.
RewardFn = Callable[[Record, Sequence[Record]], float | None]


class Stage(NamedTuple):
  """A kind of message: how it is asked for and what is read from it.

  Attributes:
    name: the stage's name in records.
    prompt: a Problem (first stage) or the parent Record -> the user's message,
      or a conversation that ends with it.
    parse: the response's text -> what is found in it.
    control_of: the stage whose prompt this one replaces, for comparison; ''
      for a stage in its own right.
  """

  name: str
  prompt: Callable[[Any], Prompt]
  parse: Callable[[str], dict[str, Any]]
  control_of: str = ''


class Sampled(NamedTuple):
  """One stage of what a step samples.

  Attributes:
    stage: its name in records.
    role: the role that writes it.
    num_prompts: prompts a step, at most.
    num_samples: responses to each.
  """

  stage: str
  role: str
  num_prompts: int
  num_samples: int


class Recipe(NamedTuple):
  """A training algorithm, as an optimiser is `(init, update)` in optax.

  Attributes:
    collect: `(roles, examples, key) -> (batch, records)`; on the host. Samples,
      rewards, estimates advantages.
    loss: `(trained roles, batch) -> (scalar, (sums, per_row))`; on the device,
      pure. The loss is a sum over rows weighted by `batch['weights']`, so that
      it adds up over micro-batches and devices; so do the metrics in `sums`:
      the parts of the loss, called 'loss/x', by the same weights, and all
      others by `batch['mean_weights']`, which make them means over the trained
      tokens, or over groups of rows, whatever the loss is. Those in `per_row`
      have a value for each row, [B].
    trained: the roles that the loss trains.
    num_rows: rows of a batch before it is packed, a response each.
    rows_per_group: adjacent rows that the loss needs together.
    sampled: what a step samples, in order; a prompt holds the responses above.
    scored: the roles that read the rows of a batch before the update, once for
      each time that they are named.
    metrics: the names of what a step may log, beside what the loop logs.
    corrects_staleness: whether the loss corrects for batches that were sampled
      by older parameters.
    takes_solutions: whether its examples are given solutions, not problems.
    takes_comparisons: whether they are comparisons.
  """

  collect: Callable[[Roles, Sequence[Any], Key], tuple[Batch, list[Record]]]
  loss: Callable[[Roles, Batch], tuple[Array, tuple[Metrics, Metrics]]]
  trained: tuple[str, ...] = ()
  num_rows: int = 0
  rows_per_group: int = 1
  sampled: tuple[Sampled, ...] = ()
  scored: tuple[str, ...] = ()
  metrics: frozenset[str] = frozenset()
  corrects_staleness: bool = False
  takes_solutions: bool = False
  takes_comparisons: bool = False
