"""The settings of a role that a server samples -> a `Served`.

Its `source` is the server's URL, and `served` has the model's name there and
how it is asked. Of a model's other settings those of prompts and of sampling
apply. What would change its texts, and only weights of our own could obey, is
refused; how arrays are laid out and computed here (`lengths`, `dtype`, ...) is
not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critic_jax import lookup
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.rollouts import stages
from critic_jax.sampling.endpoint import Endpoint
from critic_jax.sampling.served import Served

# What a served role can not have, by the value that it has instead.
_ABSENT = {'head': 'lm', 'prefix': ''}


def is_url(source: str) -> bool:
  """Whether a source is that of a served role."""
  return source.startswith(('http://', 'https://'))


def make(role: str, section: Mapping[str, Any]) -> Served | None:
  """Makes the model of a role if it is served; nothing is asked of the server.

  Args:
    role: its name.
    section: its section of a config's models.

  Returns:
    None if its source is no URL.

  Raises:
    ValueError: a setting is wrong, or can not be obeyed.
  """
  settings = section.get('served') or {}
  if not is_url(section['source']):
    if name := settings.get('model'):
      raise ValueError(
        f'served.model: got {name!r} with source={section["source"]!r}; '
        'expected the URL of its server as source, such as '
        'http://127.0.0.1:8000/v1'
      )
    return None
  for name, value in _ABSENT.items():
    if section[name] != value:
      raise ValueError(
        f'{name}: got {section[name]!r} for a model that is served; expected '
        f'{value!r}; the server has its own'
      )
  if rank := section['lora']['rank']:
    raise ValueError(
      f'lora.rank: got {rank} for a model that is served; expected 0; the '
      'server has its own adapters'
    )
  check_names(settings)
  with lookup.naming('served'):
    check_served(**settings)
  names = SamplingParams._fields
  params = SamplingParams(*(section[name] for name in names)).check()
  lookup.check_counts(max_new_tokens=section['max_new_tokens'])
  return Served(
    role=role,
    endpoint=Endpoint(
      section['source'],
      **{k: v for k, v in settings.items() if k != 'model'},
    ),
    name=settings['model'],
    stages=stages.make_stages(section['prompts']),
    sampling_params=params,
    max_new_tokens=section['max_new_tokens'],
  )


def check_names(settings: Mapping[str, Any]) -> None:
  """Raises ValueError for a setting that `check_served` has not, or lacks."""
  with lookup.naming('served'):
    lookup.check_settings(check_served, settings, 'a served model')


def check_served(
  *, model: str, num_requests: int, timeout_s: float, deadline_s: float
) -> None:
  """Checks the settings of a server; its parameters are all.

  Args:
    model: the model's name there.
    num_requests: those in flight at once.
    timeout_s: seconds for one of them.
    deadline_s: seconds for a response, all attempts together.

  Raises:
    ValueError: a value is out of its range.
  """
  if not model:
    raise ValueError('model: got none; expected its name at the server')
  lookup.check_counts(num_requests=num_requests)
  lookup.check_numbers(0, timeout_s=timeout_s, deadline_s=deadline_s)
  if not timeout_s:
    raise ValueError('timeout_s: got 0; expected more')
