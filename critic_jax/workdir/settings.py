"""A config as JSON has it: its settings by dotted names, and differences."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_SHOWN = 10  # settings that a refusal names
ABSENT = object()  # the value of a setting that one of two configs lacks
# Settings of how a run is computed, whose values change none of its numbers
# (layouts: but for rounding). With them a run that had too little memory, or
# has other devices, goes on.
_LAYOUTS = ('mesh', 'sample_mesh')
_LAYOUTS_OF_PHASES = ('microbatches',)  # parts that a batch is cut into
_LAYOUTS_OF_MODELS = (
  'layers',  # in a loop or not: checkpoints of either form are read
  'attention',  # the program, as other devices have another
  'remat',  # what is kept for the backward pass
  'max_rows',  # responses sampled at once
  'served.num_requests',  # patience with a server
  'served.timeout_s',
  'served.deadline_s',
)
_OPERATIONAL = (
  'keep_checkpoints',  # what is deleted
  'compilation_cache',  # where programs are kept
  'trackers',  # who is told
  'graders.num_workers',  # a grade does not depend on its worker
)
_OPERATIONAL_OF_PHASES = (
  'records_every',  # what is written
  'record_tokens',
  'checkpoint_minutes',
  'limit_action',  # when a run warns and ends
  'max_ratio_error.float32',
  'max_ratio_error.bfloat16',
  'max_skipped',
)
# Settings of data/sources.py that say where a file or a folder is.
_PLACES = ('paths', 'data_dir')
_SPLITS = ('train', 'dev', 'test')  # that may have a path each
# Not operational: `compile_ahead` pads the sampler's calls to one shape, which
# rounds otherwise; `best_metric` gives checkpoints their saved values.


def plain(value: Any) -> Any:
  """Returns `value` as JSON has it: dicts with string keys, lists, scalars.

  Raises:
    ValueError: something in it has no such form.
  """
  if hasattr(value, '_asdict'):  # a NamedTuple, e.g. an Estimate
    value = value._asdict()
  if hasattr(value, 'items'):  # a mapping or a ConfigDict
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if hasattr(value, 'tolist'):  # numpy and jax arrays and scalars
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, Path):
    return str(value)
  if value is None or isinstance(value, (str, bool, int, float)):
    return value
  raise ValueError(
    f'value: got {value!r} of type {type(value).__name__}; expected what JSON '
    'has: None, bool, int, float, str, lists and dicts of them'
  )


def differences(ours: Any, saved: Any) -> dict[str, tuple[Any, Any]]:
  """Returns the settings in which two configs differ: both values by name.

  The value of a setting that a config lacks is `ABSENT`.
  """
  ours, saved = dict(leaves(ours)), dict(leaves(saved))
  pairs = {
    name: (ours.get(name, ABSENT), saved.get(name, ABSENT))
    for name in sorted(ours.keys() | saved.keys())
  }
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def leaves(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the settings of a config as JSON has it: dotted names, values."""
  if isinstance(value, dict) and value:
    for key, child in value.items():
      yield from leaves(child, f'{name}.{key}' if name else key)
  else:
    yield name, value


def flat(config: Any) -> dict[str, Any]:
  """Returns the settings of a config by dotted names; lists are texts."""
  return {
    name: json.dumps(value) if isinstance(value, list | dict) else value
    for name, value in leaves(plain(config))
  }


def operational(config: Any) -> set[str]:
  """Returns the dotted names of settings that may change in a continued run.

  All other settings define the run: another value would give other numbers.
  `steps` is not among these: `changes` says when it may grow.

  >>> config = {'phases': {'rl': {'checkpoint_every': 50, 'staleness': 1}}}
  >>> 'phases.rl.checkpoint_every' in operational(config)
  False

  Args:
    config: a config as JSON has it.
  """
  names = {*_OPERATIONAL}
  names |= {
    f'models.{role}.{name}'
    for role in config.get('models', {})
    for name in _LAYOUTS_OF_MODELS
  }
  for phase, section in config.get('phases', {}).items():
    in_phase = _OPERATIONAL_OF_PHASES + _LAYOUTS_OF_PHASES
    names |= {f'phases.{phase}.{name}' for name in in_phase}
    # A stale phase collects its first batch after a checkpoint afresh.
    if not section.get('staleness'):
      names.add(f'phases.{phase}.checkpoint_every')
  return names


def places(config: Any) -> set[str]:
  """Returns the dotted names of settings that say where an input is.

  >>> sorted(places({'models': {'critic': {}}, 'data': {'paths': 'a.jsonl'}}))
  ['checkpoint', 'data.data_dir', 'data.paths', 'data.paths.dev', \
'data.paths.test', 'data.paths.train', 'models.critic.source', \
'models.critic.tokenizer']

  Args:
    config: a config as JSON has it.
  """
  sections = ['data']
  sections += [f'evals.{name}.data' for name in config.get('evals') or ()]
  models = [f'models.{role}' for role in config.get('models') or ()]
  names = {f'{section}.{name}' for section in sections for name in _PLACES}
  names |= {f'{section}.paths.{s}' for section in sections for s in _SPLITS}
  names |= {f'{m}.{name}' for m in models for name in ('source', 'tokenizer')}
  return {'checkpoint', *names}


def changes(
  ours: Any, saved: Any, path: Path, *, may_move: bool = False
) -> dict[str, tuple[Any, Any]]:
  """Returns the settings that change when a run continues, or refuses them.

  Layouts on devices, operational settings, and the limits at which a run warns
  and ends may. So may the places of inputs, if their contents are compared. The
  last phase may have more `steps`, if the run then equals one that had as many
  from its beginning: its schedule must be constant, as another ends at `steps`;
  and if it is stale, the old `steps` must be a multiple of `checkpoint_every`,
  as its first batch after a checkpoint is fresh.

  Args:
    ours: the config to continue with, as JSON has it.
    saved: the config of the run so far.
    path: the file of `saved`, for the message.
    may_move: whether inputs may be at other places.

  Returns:
    Both values by dotted name, or `ABSENT`.

  Raises:
    ValueError: another setting differs; names the first of them, with both
      values; or the file is of a model.
  """
  if 'model_type' in saved:
    raise ValueError(
      f'workdir: got {path} of a Hugging Face model; expected the folder of a '
      'run, or a new one; give another folder'
    )
  differing = differences(ours, saved)
  may_change, refused = operational(ours), []
  advice = 'restore them or give another folder'
  if may_move:
    may_change |= places(ours)
  for name, (our_value, saved_value) in differing.items():
    parts = name.split('.')
    if name in may_change or parts[0] in _LAYOUTS:
      continue
    if parts[0] == 'phases' and parts[2:3] == ['limits']:
      continue
    reason = ''
    if name == last_steps(ours):
      section = ours['phases'][ours['order'][-1]]
      reason = _steps_problem(section, our_value, saved_value)
      if not reason:
        continue
    if our_value is ABSENT or saved_value is ABSENT:
      advice = (
        'restore them, or give another folder; if another version of the code '
        'made this one, finish it with that (git.txt names the commit)'
      )
    refused.append(
      f'{name}={_show(our_value)} (saved: {_show(saved_value)}{reason})'
    )
  if refused:
    shown = ', '.join(refused[:_MAX_SHOWN])
    if len(refused) > _MAX_SHOWN:
      shown += f' and {len(refused) - _MAX_SHOWN} more settings'
    raise ValueError(
      f'config: got {shown}; expected the values in {path}; {advice}'
    )
  return differing


def phase_ends(config) -> dict[str, int]:
  """Returns the step of the run at which each phase ends, in order."""
  ends, step = {}, 0
  for name in config['order']:
    step += config['phases'][name]['steps']
    ends[name] = step
  return ends


def last_steps(config) -> str:
  """Returns the name of the last phase's `steps`, '' without phases."""
  order = config.get('order') or ['']
  return f'phases.{order[-1]}.steps' if order[-1] else ''


def _steps_problem(section, ours, saved) -> str:
  """Returns why `saved` steps cannot become `ours`, '' if they can."""
  schedule = section.get('optimizer', {}).get('schedule')
  if not all(type(steps) is int for steps in (ours, saved)) or ours < saved:
    return '; a phase can only get more steps'
  if schedule != 'constant':
    return (
      f'; the schedule {schedule!r} ends at `steps`, only constant ones go on'
    )
  if section.get('staleness') and saved % section.get('checkpoint_every', 1):
    return '; a stale phase goes on after a multiple of `checkpoint_every`'
  return ''


def _show(value: Any) -> str:
  return '(absent)' if value is ABSENT else json.dumps(value)
