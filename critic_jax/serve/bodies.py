"""The bodies of requests: JSON of anybody -> settings, or a ValueError.

A field is known or refused. One of the protocol that is not supported may have
the value by which it does nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from critic_jax import lookup, strict_json
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.sampling.lm import LM

MAX_BYTES = 4_000_000
_MAX_SAMPLES = 128
_MAX_MESSAGES = 256
_MAX_STOPS = 4
# Fields that are not supported, and the values by which they do nothing.
_NEUTRAL = {
  'stream': (False,),
  'logprobs': (False,),
  'presence_penalty': (0,),
  'frequency_penalty': (0,),
  'response_format': ({'type': 'text'},),
}
_SAMPLING = (
  'n', 'temperature', 'top_p', 'top_k', 'max_tokens', 'max_completion_tokens',
  'seed',
)  # fmt: skip
CHAT = ('model', 'messages', 'stop', *_SAMPLING, *_NEUTRAL)
CRITIQUE = ('problem', 'solution', *_SAMPLING)


class Asked(NamedTuple):
  """How to sample.

  Attributes:
    n: responses.
    sampling_params: temperature, top-k and top-p.
    max_new_tokens: of a response.
    seed: of the randomness; drawn where none is asked for.
    stop: texts that a response ends before.
  """

  n: int
  sampling_params: SamplingParams
  max_new_tokens: int
  seed: int
  stop: tuple[str, ...]


def read(content: bytes, names: tuple[str, ...]) -> dict[str, Any]:
  """Returns the fields of a body that are not null.

  Args:
    content: JSON.
    names: those of the fields that it may have.

  Raises:
    ValueError: it is no JSON object of these fields.
  """
  with lookup.naming('body'):
    fields = strict_json.loads(content)
  if not isinstance(fields, dict):
    raise ValueError(f'body: got {_shown(fields)}; expected a JSON object')
  fields = {name: x for name, x in fields.items() if x is not None}
  for name, value in fields.items():
    lookup.check_name('field', name[:100], names)
    if name in _NEUTRAL and value not in _NEUTRAL[name]:
      raise ValueError(
        f'{name}: got {_shown(value)}, which is not supported; expected '
        f'{_NEUTRAL[name][0]!r}; leave it out'
      )
  return fields


def sampling(fields: Mapping[str, Any], lm: LM) -> Asked:
  """Returns how to sample, as the fields say and else as the model does.

  Raises:
    ValueError: a value is out of its range.
  """
  n, seed = fields.get('n', 1), fields.get('seed', secrets.randbits(32))
  lookup.check_counts(n=n)
  if n > _MAX_SAMPLES:
    raise ValueError(f'n: got {n}; expected at most {_MAX_SAMPLES}')
  if type(seed) is not int:
    raise ValueError(f'seed: got {_shown(seed)}; expected an integer')
  default = lm.sampling_params
  params = SamplingParams(
    fields.get('temperature', default.temperature),
    fields.get('top_k', default.top_k),
    fields.get('top_p', default.top_p),
  )
  lookup.check_numbers(0, temperature=params.temperature, top_p=params.top_p)
  lookup.check_counts(0, top_k=params.top_k)
  params.check()
  limits = [fields[x] for x in _SAMPLING[4:6] if x in fields]
  limit = limits[0] if limits else lm.max_new_tokens
  lookup.check_counts(max_tokens=limit)
  if limit > lm.max_new_tokens or limits[1:] not in ([], limits[:1]):
    raise ValueError(
      f'max_tokens: got {limits}; expected one number of at most '
      f'{lm.max_new_tokens}'
    )
  return Asked(n, params, limit, seed % 2**32, _stop(fields.get('stop', [])))


def _stop(value) -> tuple[str, ...]:
  texts = [value] if isinstance(value, str) else value
  if not isinstance(texts, list) or len(texts) > _MAX_STOPS or '' in texts:
    raise ValueError(
      f'stop: got {_shown(value)}; expected a text or at most {_MAX_STOPS}, '
      'none empty'
    )
  return tuple(_text('stop', text) for text in texts)


def messages(fields: Mapping[str, Any]) -> list[dict[str, str]]:
  """Returns the messages of a conversation: a 'role' and a 'content' each.

  Raises:
    ValueError: they have another form.
  """
  value = fields.get('messages')
  if not isinstance(value, list) or not 0 < len(value) <= _MAX_MESSAGES:
    raise ValueError(
      f'messages: got {_shown(value)}; expected a list of 1 to '
      f'{_MAX_MESSAGES}, each with a role and a content'
    )
  return [_message(f'messages[{i}]', x) for i, x in enumerate(value)]


def _message(what: str, value) -> dict[str, str]:
  if not isinstance(value, dict) or set(value) != {'role', 'content'}:
    raise ValueError(
      f"{what}: got {_shown(value)}; expected an object of 'role' and 'content'"
    )
  role, content = value['role'], value['content']
  if not isinstance(role, str) or not re.fullmatch(r'[a-z]{1,20}', role):
    raise ValueError(
      f"{what}.role: got {_shown(role)}; expected 'user', 'assistant' or "
      "'system'"
    )
  if isinstance(content, list):  # in parts, as some clients send it
    kinds = [set(x) == {'type', 'text'} and x['type'] == 'text'
             if isinstance(x, dict) else False for x in content]  # fmt: skip
    if not all(kinds):
      raise ValueError(
        f'{what}.content: got {_shown(content)}; expected texts only'
      )
    texts = [_text(f'{what}.content', x['text']) for x in content]
    content = ''.join(texts)
  return {'role': role, 'content': _text(f'{what}.content', content)}


def text(fields: Mapping[str, Any], name: str) -> str:
  """Returns a field that must be a text.

  Raises:
    ValueError: it is missing, empty or something else.
  """
  if not fields.get(name):
    raise ValueError(f'{name}: got none; expected a text; add it')
  return _text(name, fields[name])


def _text(what: str, value) -> str:
  """Returns a text that UTF-8 can have."""
  if not isinstance(value, str):
    raise ValueError(f'{what}: got {_shown(value)}; expected a text')
  try:
    value.encode()
  except UnicodeEncodeError:
    raise ValueError(
      f'{what}: got half a surrogate pair; expected Unicode'
    ) from None
  return value


def _shown(value) -> str:
  """Returns a value as an error shows it, in a line of its own."""
  shown = ascii(value)
  return shown if len(shown) <= 60 else f'{shown[:60]}...'
