"""Served: a model that a server samples, in the place of an `LM`.

It writes texts alone: there are no tokens, no log-probabilities and no weights
here, so that a served role is never trained, nor read for a loss. Each response
is a request with a seed of its own, which follows from the run's key; whether
a server's text follows from it is the server's matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from critic_jax import files
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.rollouts.stages import Stages
from critic_jax.runtime import distributed
from critic_jax.sampling.endpoint import Answer, Endpoint
from critic_jax.sampling.lm import LM, messages_of
from critic_jax.types import Generate, Generation, Params

_NO_TOKENS, _NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float32)


@dataclasses.dataclass(frozen=True)
class Served:
  """A model of a server.

  Attributes:
    role: the role that it has here.
    endpoint: the server.
    name: the model's name there.
    stages: the prompts to solve, to critique and to refine, and their parsers.
    sampling_params: temperature and top-p of its responses.
    max_new_tokens: the most tokens of a response.
  """

  role: str
  endpoint: Endpoint
  name: str
  stages: Stages
  sampling_params: SamplingParams
  max_new_tokens: int

  def __post_init__(self):
    if self.sampling_params.top_k:
      raise ValueError(
        f'top_k: got {self.sampling_params.top_k} for a model that is served; '
        'expected 0, as the protocol has none; set top_p'
      )

  def _refuse(self):
    raise ValueError(
      f'models.{self.role}: got a model that is served by '
      f'{self.endpoint.url}; expected weights here, as it is trained, copied, '
      'read for a loss, or goes on with a text that is given; give '
      f'models.{self.role} another source'
    )

  # What needs them can not have a served role, and says so by its own name.
  model = property(_refuse)
  tokenizer = property(_refuse)

  def bind(self, params: Params) -> Generate:
    """Returns the function that asks for responses; it reads no parameters."""
    del params

    def generate(prompts, keys, n, max_prompts=0):
      del max_prompts
      seeds = _seeds(keys, len(prompts), n)
      requests = [
        self._request(messages_of(prompt), seed)
        for prompt, of_prompt in zip(prompts, seeds, strict=True)
        for seed in of_prompt
      ]
      answers = iter(self.endpoint.complete(requests))
      return [[_generation(next(answers)) for _ in range(n)] for _ in prompts]

    return distributed.sharing(generate)

  def _request(self, messages, seed: int) -> dict[str, Any]:
    return {
      'model': self.name,
      'messages': messages,
      'max_tokens': self.max_new_tokens,
      'temperature': self.sampling_params.temperature,
      'top_p': self.sampling_params.top_p,
      'seed': seed,
    }


def _seeds(keys: jax.Array, num_prompts: int, n: int) -> list[list[int]]:
  """Draws a seed of 31 bits for each response from its prompt's key."""
  data = np.asarray(jax.random.key_data(keys))[:num_prompts]
  return [
    [
      int.from_bytes(hashlib.sha256(b'%s %d' % (row, i)).digest()[:4]) >> 1
      for i in range(n)
    ]
    for row in (x.tobytes() for x in data)
  ]


def _generation(answer: Answer) -> Generation:
  return Generation(_NO_TOKENS, _NO_TOKENS, _NO_LOGPROBS, *answer)


def local(lms: Mapping[str, Any]) -> dict[str, LM]:
  """Returns the models by role whose weights are here."""
  return {r: lm for r, lm in lms.items() if not isinstance(lm, Served)}


def keep_answers(lms: Mapping[str, Any], folder: Path) -> None:
  """Keeps the answers of served roles in the folder of a run."""
  for role, lm in lms.items():
    if isinstance(lm, Served):
      lm.endpoint.keep_in(files.inside(folder, f'served/{role}'))
