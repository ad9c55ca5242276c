"""LM: a transformer with tokenizer, sampling parameters and table of shapes.

`bind(params)` gives a `Generate`, the function that rollouts call. Sampling
compiles once for each shape it meets, so prompts are padded to the columns of
`lengths` and batches to powers of two of rows: a run meets a handful.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from critic_jax.models import sampling_distribution
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts import rollout
from critic_jax.rollouts.stages import Stages
from critic_jax.runtime import compilation, distributed
from critic_jax.sampling import scheduler
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.types import (
  THINKING,
  Begun,
  Conversation,
  Generate,
  Generation,
  Params,
  Problem,
  Prompt,
)


class Shape(NamedTuple):
  """The numbers of lanes and of rows in each lane (`lanes.py`)."""

  num_lanes: int
  num_rows: int


@dataclasses.dataclass(frozen=True)
class LM:
  """A language model without its parameters.

  Attributes:
    model: the linen module; its configuration names the head.
    tokenizer: text <-> tokens.
    stages: the prompts to solve, to critique and to refine, and their parsers.
    sampling_params: temperature, top-k and top-p of its responses.
    max_new_tokens: the most tokens of a response, its end included.
    lengths: the allowed numbers of columns of prompts and of training rows,
      ascending; a prompt longer than the last is refused (`finish='prompt'`).
    max_rows: responses sampled at once by all processes together; a power of
      two.
    prefix: the beginning of every response. It is given, not sampled: part of
      the prompt's tokens and of the response's text. So is a tag of thinking
      that the chat template opens, before it: a text tells by itself whether
      its thinking has an end.
    compile_ahead: whether the first call with an n compiles for all `lengths`
      and for `max_prompts`, so that all calls have that shape.
    processes: number of processes that share `max_rows`.
  """

  model: Transformer
  tokenizer: Tokenizer
  stages: Stages
  sampling_params: sampling_distribution.SamplingParams
  max_new_tokens: int
  lengths: tuple[int, ...]
  max_rows: int = 256
  prefix: str = ''
  compile_ahead: bool = False
  processes: int = 1
  _compiled: set = dataclasses.field(
    default_factory=set, init=False, repr=False, compare=False
  )

  def __post_init__(self):
    config = self.model.config
    if not self.lengths or list(self.lengths) != sorted(set(self.lengths)):
      raise ValueError(
        f'lengths: got {self.lengths}; expected ascending numbers of tokens'
      )
    if self.lengths[-1] + self.max_new_tokens > config.max_len:
      raise ValueError(
        f'lengths: got prompts of {self.lengths[-1]} and max_new_tokens='
        f'{self.max_new_tokens}; expected at most max_len={config.max_len} '
        'together'
      )
    if self.max_rows < 1 or self.max_rows & (self.max_rows - 1):
      raise ValueError(
        f'max_rows: got {self.max_rows}; expected a power of two'
      )
    if self.tokenizer.vocab_size > config.vocab_size:
      raise ValueError(
        f'vocab_size: got {config.vocab_size} rows in the model; expected at '
        f"least the tokenizer's {self.tokenizer.vocab_size}"
      )
    if self.tokenizer.opening and THINKING[0] in self.prefix:
      raise ValueError(
        f'prefix: got {self.prefix!r} after a chat template that opens the '
        f'thinking with {self.tokenizer.opening!r}; expected one tag; leave it '
        'out of prefix'
      )
    self._check_template()

  def _check_template(self) -> None:
    """Raises ValueError if the chat template cannot render a stage's prompt."""
    if self.tokenizer.chat_template is None:
      return  # contents are joined as they are
    problem = Problem(id='', question='a', answer='')
    solution = rollout.write(self.stages.solve, problem, 'a')
    critique = rollout.write(self.stages.critique, solution, 'a')
    parents = (problem, solution, critique)
    for stage, parent in zip(self.stages, parents, strict=True):
      self.encode_prompt(stage.prompt(parent))

  def encode_prompt(self, prompt: Prompt) -> list[int]:
    """Returns the tokens of a prompt and of the response's prefix.

    A conversation is `continued` where it can be, with the same text.
    """
    if isinstance(prompt, Begun):
      return self.encode_prompt(prompt.asked) + self._begun(prompt)
    tokens = None if isinstance(prompt, str) else self.continued(prompt)
    if tokens is None:
      return self.encode_messages(messages_of(prompt))
    return [*tokens, *self._prefix_tokens]

  def encode_messages(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Returns the tokens of messages, and of the response's prefix.

    Args:
      messages: as `Tokenizer.render` takes them.
    """
    return [*self.tokenizer.render(messages), *self._prefix_tokens]

  def continued(self, conversation: Conversation) -> list[int] | None:
    """Returns the tokens of a conversation after the very ones of its response.

    The keys and values of problem and solution are those that the solver
    computed, once more: keeping them would spare 0.3 % of a step (LOG.md).

    Returns:
      None if this model did not sample the response, or the chat template does
      not leave earlier turns as they are.
    """
    tokens = self._sampled_tokens(conversation)
    if tokens is None:
      return None
    said = conversation.response.text.removeprefix(self.tokenizer.opening)
    rest = self.tokenizer.render_after(messages_of(conversation), said)
    return None if rest is None else [*tokens, *rest]

  def _sampled_tokens(self, conversation: Conversation) -> list[int] | None:
    """Returns the tokens of a prompt and the response to it, without its end.

    Returns:
      None if this model did not sample the response to this prompt, or wrote
      special tokens in it: they would end its turn, and forge others.
    """
    response = conversation.response
    prompt = response.prompt_tokens.tolist()
    tokens = response.tokens.tolist()
    if (
      not tokens
      or self.decode_response(tokens) != response.text
      or self.encode_prompt(conversation.asked) != prompt
    ):
      return None
    if tokens[-1] in self.tokenizer.eos:
      tokens.pop()  # the template ends the turn by its own
    return None if self.tokenizer.has_reserved(tokens) else prompt + tokens

  def encode_response(self, text: str) -> list[int]:
    """Returns the tokens of a response after what is given, its end included.

    Where the chat template opens the thinking, a text without any closes it.
    """
    start, end = THINKING
    if opening := self.tokenizer.opening:
      space = opening.removeprefix(start)
      if text.startswith(start):
        text = text.removeprefix(start).removeprefix(space)
      else:
        text = f'\n{end}\n\n{text}'
    text = text.removeprefix(self.prefix)
    # Encode after the prefix: a tokenizer may put a space before every text.
    tokens, size = self.tokenizer.encode(self.prefix + text), 0
    if tokens[: len(self._prefix_tokens)] == self._prefix_tokens:
      size = len(self._prefix_tokens)
    else:  # a token crosses the border, which sampling would not write
      tokens = self.tokenizer.encode(text)
    return [*tokens[size:], self.tokenizer.end]

  def _begun(self, prompt: Prompt) -> list[int]:
    """Returns the tokens that a response is given, after its prefix."""
    is_begun = isinstance(prompt, Begun) and prompt.text
    return self.encode_response(prompt.text)[:-1] if is_begun else []

  @functools.cached_property
  def _prefix_tokens(self) -> list[int]:
    return self.tokenizer.encode(self.prefix) if self.prefix else []

  def decode_response(self, tokens: Sequence[int]) -> str:
    """Returns the text of a response: what is given, then that of its tokens.

    They are decoded after it: a tokenizer may drop a first token's space.
    """
    given = self.tokenizer.decode(self._prefix_tokens)
    text = self.tokenizer.decode([*self._prefix_tokens, *tokens])
    if not text.startswith(given):
      given, text = '', self.tokenizer.decode(tokens)
    return self.tokenizer.opening + self.prefix + text[len(given) :]

  def row_length(self, longest: int) -> int:
    """Returns the columns of training rows of at most `longest` tokens.

    Raises:
      ValueError: `longest` is more than a prompt and a response may have.
    """
    limits = (*self.lengths, self.lengths[-1] + self.max_new_tokens)
    return _smallest(sorted(set(limits)), longest)

  def bind(self, params: Params) -> Generate:
    """Binds parameters: returns the function that samples responses."""

    def generate(prompts, keys, n, max_prompts=0):
      return self._generate(params, prompts, keys, n, max_prompts)

    return distributed.sharing(generate)

  def _generate(
    self, params, prompts: Sequence[Prompt], keys, n: int, max_prompts: int
  ) -> list[list[Generation]]:
    settings = dict(
      eos=np.array(self.tokenizer.eos, np.int32),
      sampling_params=self.sampling_params,
      num_samples=n,
      max_new_tokens=self.max_new_tokens,
    )
    max_prompts = max(max_prompts, len(prompts))
    if self.compile_ahead and max_prompts:
      shape = self.shape(max_prompts, n)._asdict()
      self._compile_ahead(params, keys, **shape, **settings)

    # Refuse prompts that are too long.
    encoded = [self.encode_prompt(prompt) for prompt in prompts]
    fitting = [
      i for i, p in enumerate(encoded) if 0 < len(p) <= self.lengths[-1]
    ]
    results = [
      [Generation(np.array(p, np.int32), *_NOTHING, '', 'prompt')] * n
      for p in encoded
    ]

    # Sample responses to the others.
    for part in self._parts(encoded, fitting, _order(prompts)):
      size = max_prompts if self.compile_ahead else len(part)
      sampled = scheduler.run(
        self.model,
        params,
        {i: encoded[i] for i in part},
        keys,
        columns=_smallest(self.lengths, max(len(encoded[i]) for i in part)),
        **self.shape(size, n)._asdict(),
        **settings,
      )
      for i, samples in sampled.items():
        results[i] = [
          self._generation(encoded[i], samples, row, self._begun(prompts[i]))
          for row in range(n)
        ]
    return results

  def _compile_ahead(self, params, keys, **settings) -> None:
    """Compiles for all columns, once for each n and number of lanes."""
    shape = tuple(settings[x] for x in ('num_samples', 'num_lanes', 'num_rows'))
    if shape not in self._compiled:
      compile_one = functools.partial(
        scheduler.compile_one, self.model, params, keys, **settings
      )
      compilation.ahead(compile_one, self.lengths)
      self._compiled.add(shape)

  @property
  def own_rows(self) -> int:
    """Returns the share of `max_rows` of one process, a power of two."""
    share = max(1, self.max_rows // self.processes)
    return 1 << (share.bit_length() - 1)

  def shape(self, num_prompts: int, n: int) -> Shape:
    """Chooses lanes, and rows of each, at most `own_rows` in all.

    Where the lanes do not hold all prompts, each has fewer rows than samples:
    half as many, or a quarter, but two at least. Then a long response keeps
    fewer rows waiting, and more prompts are in lanes.

    The number of lanes is the largest possible, or a quarter of it, a
    sixteenth, ...: a stage's number of prompts differs from call to call, and
    each number of lanes is compiled. From 16 lanes down it is halved, as then
    little of the work is padding.

    Args:
      num_prompts: prompts of the call.
      n: samples of each prompt.
    """
    num_rows = min(n, self.own_rows)
    for _ in range(2):
      if num_rows > 2 and num_prompts * num_rows > self.own_rows:
        num_rows = -(-num_rows // 2)
    num_lanes = 2 ** int(math.log2(max(1, self.own_rows // num_rows)))
    if self.compile_ahead:  # all calls have the same number of prompts
      rounded = 1 << (num_prompts - 1).bit_length()
      return Shape(min(num_lanes, rounded), num_rows)
    while num_prompts <= (fewer := num_lanes // (4 if num_lanes > 16 else 2)):
      num_lanes = fewer
    return Shape(num_lanes, num_rows)

  def _parts(self, encoded, numbers, order) -> list[list[int]]:
    """Divides the prompts of these numbers into parts of similar length.

    A part has the columns of its longest prompt, at most twice as many as the
    shortest alone would have. Its prompts are sorted by their `order`.
    """
    columns = {i: _smallest(self.lengths, len(encoded[i])) for i in numbers}
    parts = []
    for i in sorted(numbers, key=lambda i: (columns[i], i)):
      if not parts or columns[i] > 2 * columns[parts[-1][0]]:
        parts.append([])
      parts[-1].append(i)
    return [sorted(part, key=order.__getitem__) for part in parts]

  def _generation(self, prompt, samples, row, begun) -> Generation:
    length = samples.length[row]
    tokens = samples.tokens[row, :length]
    return Generation(
      prompt_tokens=np.array(prompt, np.int32),
      tokens=tokens,
      logprobs=samples.logprobs[row, :length],
      text=self.decode_response([*begun, *tokens]),
      finish='stop' if samples.stopped[row] else 'length',
    )


def _user(content: str) -> dict[str, str]:
  return {'role': 'user', 'content': content}


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
  """Returns the messages that a prompt is: a 'role' and a 'content' each."""
  if isinstance(prompt, str):
    return [_user(prompt)]
  return [
    _user(prompt.asked),
    {'role': 'assistant', 'content': prompt.response.text},
    _user(prompt.message),
  ]


def _order(prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
  """Returns keys that sort prompts, with all that go on after one response.

  Then refinements of a solution and their controls share its beginning.
  """
  first = {}
  return [
    (first.setdefault(id(prompt.response), i), i)
    if isinstance(prompt, Conversation)
    else (i, i)
    for i, prompt in enumerate(prompts)
  ]


_NOTHING = np.zeros(0, np.int32), np.zeros(0, np.float32)


def get_models(models: Mapping[str, LM], *roles: str) -> list[LM]:
  """Returns the LMs of roles.

  Raises:
    ValueError: there is no model of one of them.
  """
  if missing := sorted(set(roles) - set(models)):
    raise ValueError(
      f'models: got {sorted(models)}; expected also {missing}; add a section '
      'of that name to models'
    )
  return [models[role] for role in roles]


def _smallest(limits, size) -> int:
  """Returns the first of ascending limits that holds `size` tokens."""
  for limit in limits:
    if size <= limit:
      return limit
  raise ValueError(f'row: got {size} tokens; expected at most {limits[-1]}')
