"""The sources of a role's model: nothing, files of others, or another run.

A section of `models` names its `source`:

    ''                   drawn, of a named size and with a named tokenizer
    FOLDER, FILE.gguf, package:NAME, OWNER/NAME, hf://OWNER/NAME
                         weights from elsewhere (pretrained/hf_weights.py), the
                         last two from the hub's cache, or fetched to it; or a
                         folder of adapters (pretrained/peft_adapters.py)
    RUN, RUN:PHASE, RUN:best, RUN:PHASE:ROLE
                         a role that a run has trained (workdir/trained.py): of
                         the same name, or ROLE

A model of a run has the sizes and the tokenizer of its own source there, which
may be a run again, and which must be as they were in training.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.models import layer_stack, lora, quantize, sizes
from critic_jax.models.config import Lora, TransformerConfig
from critic_jax.pretrained import hf_weights, peft_adapters
from critic_jax.text import tokenizer as tokenizer_lib
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.training import inputs
from critic_jax.types import Params
from critic_jax.workdir import trained as trained_lib
from critic_jax.workdir.trained import Trained

_MAX_RUNS = 20  # of which each begins with a model of the next


class TrainedRole(NamedTuple):
  """A role of a run.

  Attributes:
    checkpoint: the run, and when.
    role: the role's name there.
  """

  checkpoint: Trained
  role: str


class AdapterFolder(NamedTuple):
  """A model with adapters in PEFT's format.

  Attributes:
    folder: where the adapters are.
    base: the model that they change.
  """

  folder: str
  base: Origin


# A role of a run, adapters, or a name for hf_weights.
Origin = TrainedRole | AdapterFolder | str


def find(source: str, role: str, folders: Sequence[str] = ()) -> Origin:
  """Returns the origin of a source; equal sources have equal origins.

  Args:
    source: not ''.
    role: the role of the run, where the source names none.
    folders: those of adapters that have led to it.

  Raises:
    ValueError: the run has no such checkpoint; adapters name each other in a
      circle.
  """
  named = trained_lib.find(source)
  if named is None and peft_adapters.is_folder(source):
    if source in folders:
      raise ValueError(
        f'got the adapters {source!r} as the model that they change; expected '
        'a model; write its name to base_model_name_or_path'
      )
    with lookup.naming(source):
      base = peft_adapters.read(source).base
    with _naming_base(source):
      return AdapterFolder(source, find(base, role, (*folders, source)))
  if named is None:
    return source
  return TrainedRole(named[0], named[1] or role)


def load(source: str, role: str) -> tuple[TransformerConfig, Params, Tokenizer]:
  """Reads a model, its parameters on the host, and its tokenizer.

  Args:
    source: not ''.
    role: the role of the run, where the source names none.

  Raises:
    ValueError: a file is missing, or is not as it should be.
  """
  origin = find(source, role)
  if isinstance(origin, str):
    return hf_weights.load(origin)
  config, tokenizer = load_config_and_tokenizer(origin)
  return config, load_weights(origin), tokenizer


def _naming_base(folder: str):
  """Within the block errors are of the model that a folder of adapters names.

  So what they say to write is written there: as `source` of the role it would
  leave the adapters out.
  """
  setting = 'base_model_name_or_path'
  return lookup.naming(f'{folder}/{peft_adapters.CONFIG}: {setting}')


def load_config_and_tokenizer(
  origin: Origin, num_runs: int = 0
) -> tuple[TransformerConfig, Tokenizer]:
  """Reads all of a model but its weights.

  Args:
    origin: the model.
    num_runs: the runs that have led to it.

  Raises:
    ValueError: a file is missing, or is not as it should be; a run's tokenizer
      is not the one that it was trained with; runs name each other in a circle.
  """
  if isinstance(origin, str):
    return hf_weights.load_config_and_tokenizer(origin)
  if isinstance(origin, AdapterFolder):
    with _naming_base(origin.folder):
      return load_config_and_tokenizer(origin.base, num_runs + 1)
  run, role = origin.checkpoint.run, origin.role
  if num_runs > _MAX_RUNS:
    raise ValueError(
      f'{run}: got a run that begins with a run, and so on, {_MAX_RUNS} times; '
      'expected one that begins with weights'
    )
  with lookup.naming(f'{run}: models'):
    models = origin.checkpoint.config['models']
    lookup.check_name('role', role, models)
    section = models[role]
    if not isinstance(section, dict):
      raise ValueError(f'{role}: got {section!r}; expected a section')
  with lookup.naming(f'{run}: models.{role}'):
    for name in ('size', 'source', 'tokenizer'):
      lookup.check_has(name, section, 'model')
    if section['source']:
      config, tokenizer = _load_own(section['source'], role, num_runs + 1)
    else:
      config, tokenizer = from_scratch(section)
    check_tokenizer(origin, tokenizer)
  return config, tokenizer


def _load_own(source: str, role: str, num_runs: int):
  """Reads all of the model that a run began with but its weights."""
  try:
    return load_config_and_tokenizer(find(source, role), num_runs)
  except ValueError as error:
    path = pathlib.Path(source)
    if ':' in source or path.is_absolute() or path.exists():
      raise
    raise ValueError(
      f'{error}; or, as the run names it from the folder that it was trained '
      f'in, start there, and not in {pathlib.Path.cwd()}'
    ) from None


def check_tokenizer(origin: TrainedRole, tokenizer: Tokenizer) -> None:
  """Raises ValueError for a tokenizer that the role was not trained with."""
  run = origin.checkpoint.run
  digests = origin.checkpoint.inputs
  digest = digests.get(f'models.{origin.role}.tokenizer')
  if digest not in (None, inputs.of_tokenizer(tokenizer)):
    raise ValueError(
      f'tokenizer: got another content than {run} was trained with; expected '
      'its files as they were; bring them back'
    )


def from_scratch(
  section: Mapping[str, Any],
) -> tuple[TransformerConfig, Tokenizer]:
  """Makes the config of a named size, and its tokenizer.

  Raises:
    ValueError: there is no such size or tokenizer.
  """
  lookup.check_name('size', section['size'], sizes.SIZES)
  if isinstance(section['tokenizer'], str):
    tokenizer = tokenizer_lib.load(section['tokenizer'])
  else:
    named = section['tokenizer']
    tokenizer = lookup.bind_in('tasks', named, 'tokenizer', ())()
  size = {'vocab_size': tokenizer.vocab_size, **sizes.SIZES[section['size']]}
  return TransformerConfig(**size), tokenizer


def load_weights(origin: Origin) -> Params:
  """Reads the parameters of a model on the host: unrolled; int8 as float32.

  Adapters are added to their matrices, which are float32 then.

  Raises:
    ValueError: a file is missing, or is not as it should be.
  """
  if isinstance(origin, str):
    return hf_weights.load_weights(origin)[1]
  if isinstance(origin, AdapterFolder):
    with lookup.naming(origin.folder):
      config, _ = load_config_and_tokenizer(origin.base)
      read = peft_adapters.read(origin.folder)
      return peft_adapters.merged(config, load_weights(origin.base), read)
  config = origin.checkpoint.config
  with lookup.naming(f'{origin.checkpoint.run}: models'):
    unsaved = unsaved_roles(config)
  if origin.role in unsaved:
    return _load_base(origin)
  params = layer_stack.unstack(origin.checkpoint.read_role(origin.role))
  if lora.has_adapters(params):
    settings = Lora(**config['models'][origin.role]['lora'])
    return lora.merged(lora.join(_load_base(origin), params), settings)
  return _on_host(params)


def load_adapters(
  source: str, role: str
) -> tuple[TransformerConfig, Lora, Params, str]:
  """Reads the adapters of a role of a run.

  Args:
    source: RUN, RUN:PHASE, RUN:best or RUN:PHASE:ROLE.
    role: the role of the run, where the source names none.

  Returns:
    The model's config, the adapters' settings, they themselves on the host, and
    the name of the model that they change.

  Raises:
    ValueError: the role has none.
  """
  origin = find(source, role)
  if not isinstance(origin, TrainedRole):
    raise ValueError(
      f'source: got {source!r}; expected a role of a run, which has adapters'
    )
  config, _ = load_config_and_tokenizer(origin)
  section = origin.checkpoint.config['models'][origin.role]
  if not has_adapters(section):
    raise ValueError(
      f'source: got {source!r}, whose {origin.role} has no adapters; expected '
      'one that was trained with lora.rank'
    )
  params = origin.checkpoint.read_role(origin.role)
  return config, Lora(**section['lora']), params, section['source']


def unsaved_roles(config: Mapping[str, Any]) -> set[str]:
  """Returns the roles of a run that are the base of another one's adapters.

  No phase changes them: they are always as their source is.

  Args:
    config: the config of the run, a ConfigDict or as JSON has it.
  """
  models = config['models']
  adapted = {role for role in models if has_adapters(models[role])}
  if not adapted:
    return set()
  bases = {find(models[role]['source'], role) for role in adapted}
  others = {*models} - changed_roles(config) - adapted
  return {r for r in others if find(models[r]['source'], r) in bases}


def changed_roles(config: Mapping[str, Any]) -> set[str]:
  """Returns the roles without adapters that a phase trains, or copies to.

  Args:
    config: the config of a run, a ConfigDict or as JSON has it.
  """
  changed = touched_roles(config)
  return {r for r in changed if not has_adapters(config['models'].get(r, {}))}


def touched_roles(config: Mapping[str, Any]) -> set[str]:
  """Returns the roles that a phase trains, or copies to, adapters included.

  Args:
    config: the config of a run, a ConfigDict or as JSON has it.
  """
  phases = [config['phases'][name] for name in config['order']]
  return {
    role
    for phase in phases
    for role in (*phase.get('train', ()), *phase.get('copy', ()))
  }


def has_adapters(section: Mapping[str, Any]) -> bool:
  """Whether a role of this section of models has adapters."""
  return bool((section.get('lora') or {}).get('rank'))


def _load_base(origin: TrainedRole) -> Params:
  """Reads the weights of a role's own source, as the role has held them."""
  run, role = origin.checkpoint.run, origin.role
  section = origin.checkpoint.config['models'][role]
  with lookup.naming(f'{run}: models.{role}'):
    own = find(section['source'], role)
    params = load_weights(own)
    digest = origin.checkpoint.inputs.get(f'models.{role}.weights')
    config, _ = load_config_and_tokenizer(own)
    if digest not in (None, inputs.of_weights(config, params)):
      raise ValueError(
        f'source: got other weights at {section["source"]!r} than the adapters '
        'were trained on; expected the same content; bring them back'
      )
  if section['param_dtype'] == 'int8':
    return _on_host(quantize.quantize(params))
  return jax.tree.map(lambda x: x.astype(section['param_dtype']), params)


def _on_host(params) -> Params:
  """Returns numpy arrays, int8 as float32."""
  if quantize.is_quantized(params):
    params = quantize.dequantize(params)
  return jax.tree.map(np.asarray, params)
