"""The models of a run: a config -> LMs and their parameters, by role."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from critic_jax import lookup
from critic_jax.models import layer_stack, quantize, transformer
from critic_jax.models import lora as lora_lib
from critic_jax.models.config import attention_program, concrete
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts import stages
from critic_jax.runtime import distributed, sharding
from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import local
from critic_jax.text.chat_template import DATE
from critic_jax.training import adapters, model_sources, served_roles
from critic_jax.types import Params, Roles

# What is cast to the dtype of computation wherever it is used.
_CAST = ('kernel', 'embedding', 'bias', lora_lib.A, lora_lib.B)
HEADS = ('lm_head', 'scalar_head')


def make_lms(
  settings: Mapping,
  compile_ahead: bool = False,
  date: str = DATE,
  platform: str = 'cpu',
  processes: int = 1,
) -> dict[str, LM]:
  """Makes the LMs of a run by role; no weights are read.

  Args:
    settings: by role, the sections that `configs/common.model` makes.
    compile_ahead: whether the sampler compiles all shapes at its first call.
    date: the day that chat templates are told that ask for today's.
    platform: the mesh's (`compilation.platform`), which decides what 'auto' is.
    processes: number of processes that sample.

  Raises:
    ValueError: a setting, a name or a file is wrong.
  """
  lms, read = {}, {}
  for role, section in settings.items():
    with lookup.naming(f'models.{role}'):
      lookup.check_settings(check_section, section, 'a model')
      source = section['source']
      if served := served_roles.make(role, section):
        lms[role] = served
        continue
      if not source:
        config, tokenizer = model_sources.from_scratch(section)
      else:
        origin = model_sources.find(source, role)
        if origin not in read:
          read[origin] = model_sources.load_config_and_tokenizer(origin)
        config, tokenizer = read[origin]
      check_section(**section)
      tokenizer = dataclasses.replace(tokenizer, date=date)
      lm = make_lm(config, tokenizer, section, platform)
      lms[role] = dataclasses.replace(
        lm, compile_ahead=compile_ahead, processes=processes
      )
  return lms


def load_params(settings: Mapping) -> dict[str, Params]:
  """Loads the parameters of the roles that have a source, on the host.

  Args:
    settings: by role, the sections that `configs/common.model` makes.

  Raises:
    ValueError: a file is not as it should be.
  """
  params, read = {}, {}
  for role, section in settings.items():
    if not section['source'] or served_roles.is_url(section['source']):
      continue
    with lookup.naming(f'models.{role}'):
      origin = model_sources.find(section['source'], role)
      if origin not in read:
        read[origin] = model_sources.load_weights(origin)
      params[role] = read[origin]
  return params


def check_section(
  *,
  size: str,
  source: str,
  tokenizer: str | Mapping,
  head: str,
  dtype: str,
  param_dtype: str,
  remat: str,
  attention: str,
  layers: str,
  prompts: str,
  prefix: str,
  temperature: float,
  top_k: int,
  top_p: float,
  max_new_tokens: int,
  lengths: Sequence[int],
  max_rows: int,
  lora: Mapping | None = None,
  served: Mapping | None = None,
) -> None:
  """Checks the settings of a role that `LM` does not; its parameters are all.

  Args:
    size: a name in models/sizes.py, if there is no source.
    source: a Hugging Face folder, a .gguf file, package:NAME, RUN:PHASE, or
      the URL of a server.
    tokenizer: for a size, a folder or a function of critic_jax.tasks.
    head: 'lm', 'value' or 'reward'.
    dtype: the type of computation.
    param_dtype: the type of parameters; int8 for roles not trained.
    remat: what the backward pass keeps, in `transformer.REMAT_POLICIES`.
    attention: the program for attention in long rows: 'xla', 'splash' (TPUs),
      'cudnn' (NVIDIA's GPUs), or 'auto', the one of the mesh's platform where
      that can compute the model.
    layers: 'scanned', compiled once for all, 'unrolled', or 'auto': as is
      better for the devices, see `config.AUTO`.
    prompts: a module of critic_jax.rollouts.styles.
    prefix: how every response begins.
    temperature: logits are divided by it; 0 is greedy.
    top_k: only the k likeliest tokens are sampled; 0 is all.
    top_p: only the likeliest tokens that have this probability; 1 is all.
    max_new_tokens: the most tokens of a response.
    lengths: columns that prompts and rows are padded to, ascending.
    max_rows: responses that all processes sample at once, a power of two.
    lora: `rank`, `alpha`, `targets`, `dropout` of adapters, which are trained
      in the place of the model (`models.config.Lora`); of rank 0: none.
    served: how a server is asked, if the source is its URL (served_roles.py).

  Raises:
    ValueError: a value is out of its range.
  """
  del size, tokenizer, dtype, remat, attention, layers, prompts, prefix
  adapters.check(lora, source, head, param_dtype)
  if served is not None:  # a run of an older version has none
    served_roles.check_names(served)
  SamplingParams(temperature, top_k, top_p).check()
  lookup.check_counts(max_new_tokens=max_new_tokens, max_rows=max_rows)
  if not isinstance(lengths, list | tuple):
    raise ValueError(f'lengths: got {lengths!r}; expected some numbers')
  for length in lengths:
    lookup.check_counts(lengths=length)


def make_lm(config, tokenizer, section, platform) -> LM:
  """Makes the LM of a role's section for sizes, a tokenizer and a platform."""
  config = dataclasses.replace(
    config,
    head=section['head'],
    dtype=section['dtype'],
    param_dtype=section['param_dtype'],
    remat=section['remat'],
    lora=adapters.make(section.get('lora')),
    **concrete(section, platform),
  )
  program, _ = attention_program(section['attention'], platform, config)
  config = dataclasses.replace(config, attention=program)
  return LM(
    model=Transformer(config),
    tokenizer=tokenizer,
    stages=stages.make_stages(section['prompts']),
    sampling_params=SamplingParams(
      section['temperature'], section['top_k'], section['top_p']
    ),
    max_new_tokens=section['max_new_tokens'],
    lengths=tuple(section['lengths']),
    max_rows=section['max_rows'],
    prefix=section['prefix'],
  )


def sampling_layouts(lms, mesh_sizes, mesh) -> dict[str, Any] | None:
  """Returns the dtypes and layouts of each role's parameters for sampling.

  Args:
    lms: by role.
    mesh_sizes: sizes by axis of a mesh of this process's devices; if all are 0,
      that of `sharding.sampling_shape`.
    mesh: the mesh of the training.

  Returns:
    By role a tree of ShapeDtypeStruct with shardings; None if parameters are
    sampled with as they are trained.

  Raises:
    ValueError: sizes that do not fit the devices or a model.
  """
  with lookup.naming('sample_mesh'):
    mesh = sharding.sampling_mesh(mesh_sizes, mesh)
    if mesh is None:
      return None
    layouts = {
      role: as_sampled(
        lm.model.config,
        sharding.param_forms(transformer.abstract_params(lm.model), mesh),
      )
      for role, lm in local(lms).items()
    }
    return dict.fromkeys(lms, {}) | layouts  # {}: a served role


def as_sampled(config, shapes):
  """Returns shapes of parameters in the dtypes that they are sampled with.

  Matrices and biases are cast to the dtype of computation wherever they are
  used; cast once, they are less to send, to hold and to read for each token,
  and no result changes. Norms are computed in float32, and int8 matrices have
  float32 scales: both stay.

  Args:
    config: the model's `TransformerConfig`.
    shapes: a tree of ShapeDtypeStruct.
  """
  dtype = jnp.dtype(config.dtype)

  def form(path, x):
    is_cast = path[-1].key in _CAST
    if config.is_int8 or not is_cast or x.dtype.itemsize <= dtype.itemsize:
      return x
    return x.update(dtype=dtype)

  return jax.tree_util.tree_map_with_path(form, shapes)


def to_sample(roles, layouts):
  """Lays roles out as `sampling_layouts` says; None leaves them alone.

  Args:
    roles: parameters by role, all or some of each.
    layouts: those of all.
  """
  if layouts is None:
    return roles
  leaves, structure = jax.tree.flatten(roles)
  forms = jax.tree.leaves(_like_part(layouts, roles))
  # An array that roles share is laid out once.
  places = [(id(x), form) for x, form in zip(leaves, forms, strict=True)]
  first = {place: i for i, place in reversed([*enumerate(places)])}
  moved = sharding.reshard(
    {i: leaves[i] for i in first.values()},
    {i: forms[i] for i in first.values()},
  )
  return distributed.finished(
    structure.unflatten(moved[first[place]] for place in places)
  )


def _like_part(tree, part):
  """Returns the leaves of a tree that have a path in `part`."""
  if not isinstance(part, Mapping):
    return tree
  return {name: _like_part(tree[name], x) for name, x in part.items()}


def init_params(
  lms, loaded, mesh, key, own: Collection[str] = ()
) -> dict[str, Params]:
  """Puts the parameters of every role on the mesh: loaded, or drawn.

  Adapters, and a head that a loaded model lacks (a value head, say), are drawn.
  A role in int8 is quantized from the floats that were loaded or drawn. Roles
  of one source have the same arrays.

  Args:
    lms: by role.
    loaded: parameters on the host of the roles that have a source.
    mesh: the mesh of the training.
    key: consumed. What is drawn for a role depends on its name and on no
      other role.
    own: the roles whose arrays no other role has.
  """
  params: dict[str, Params] = dict.fromkeys(lms, {})  # {}: a served role
  shared: dict[Any, Params] = {}
  for role, lm in sorted(local(lms).items()):
    config = lm.model.config
    forms = sharding.param_forms(transformer.abstract_params(lm.model), mesh)
    rest = _without_heads(loaded.get(role, {}), forms)
    place = id(loaded.get(role)), config.param_dtype, config.layers
    if put := {} if role in own else shared.get(place, {}):
      rest = {name: rest[name] for name in HEADS if name in {*rest} - {*put}}
    if config.is_int8:  # a layer's floats at a time, not those of all
      rest = jax.device_get(quantize.quantize(rest))
    rest = layer_stack.like(rest, forms)
    put = put | jax.tree.map(
      lambda x, form: jax.device_put(x.astype(form.dtype), form.sharding),
      rest,
      _like_part(forms, rest),
    )
    if role in loaded and role not in own:
      shared[place] = put
    put = {name: x for name, x in put.items() if name in forms}
    names = tuple(name for name in forms if name not in put)
    drawn = _chosen(forms, names)
    params[role] = put
    if drawn:
      layout = jax.tree.map(lambda form: form.sharding, drawn)
      draw = jax.jit(_draw, static_argnums=(0, 1), out_shardings=layout)
      params[role] = lora_lib.join(
        put, draw(lm.model, names, _of_role(key, role))
      )
  return params


def _of_role(key, role):
  """Returns a role's own key, by the characters of its name."""
  return jax.random.fold_in(key, zlib.crc32(role.encode()))


def _draw(model, names, key):
  """Draws the parts of these names, and adapters."""
  return _chosen(transformer.init_params(model, key), names)


def _chosen(params, names):
  """Returns the parts of these names, and the adapters of all."""
  parts = {name: params[name] for name in names}
  if not lora_lib.has_adapters(params):
    return parts
  return lora_lib.join(parts, lora_lib.split(params)[0])


def copy_roles(roles: Roles, copies: Mapping[str, str]) -> dict[str, Params]:
  """Makes a phase's copies all at once; returns the roles.

  Every source is read as it was before any copy, so that the order of names
  does not matter: `ref=policy` beside `policy=cold` keeps the old policy.

  Args:
    roles: parameters by role.
    copies: the source of each target role.

  Raises:
    ValueError: a target and its source differ in size.
  """
  copied = {
    target: copy(roles[target], roles[source])
    for target, source in copies.items()
  }
  return {**roles, **copied}


def copy(target: Params, source: Params) -> Params:
  """Copies `source`, but for dtypes and heads that only `target` has.

  A target in int8 is quantized, and a source in int8 dequantized; layers are
  stacked, or not, as the target's.

  Raises:
    ValueError: the two models are not of one size.
  """
  whole = target
  if lora_lib.has_adapters(target):  # of one base (`adapters.check_copies`)
    target, source = (lora_lib.split(x)[0] for x in (target, source))
  trunk = _without_heads(target, source)
  source = _without_heads(source, target)
  ours, theirs = map(quantize.is_quantized, (target, source))
  if ours and not theirs:
    source = quantize.quantize(source)  # before layers are stacked as floats
  source = layer_stack.like(source, target)
  if theirs and not ours:
    source = quantize.dequantize(source)
  if jax.tree.map(jnp.shape, trunk) != jax.tree.map(jnp.shape, source):
    raise ValueError(
      'copy: got two models of different sizes; expected the shapes of one; '
      'give both roles the same size or source'
    )
  copied = jax.tree.map(
    lambda old, x: jax.device_put(
      jnp.array(x, old.dtype, copy=True), old.sharding
    ),
    trunk,
    source,
  )
  return lora_lib.join(whole, copied)


def _without_heads(params, other):
  """Returns `params` without the heads that `other` lacks."""
  return {
    name: part
    for name, part in params.items()
    if name not in HEADS or name in other
  }
