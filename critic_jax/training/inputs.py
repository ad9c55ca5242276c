"""The inputs of a run, known by their content: weights, tokenizers, examples.

A path says where an input is, not what it is: a file may be replaced, or moved.
So the folder of a run keeps the SHA-256 of what the run has read, and the run
goes on with the same content only, wherever it is now.

What is digested is what was read, not the files: parameters, a tokenizer's
files, and examples, as they are in memory. So nothing is read twice, nothing is
left out, and another form of the same numbers (a GGUF file, other shards) is
the same input. Threads digest arrays at once, about 1 GB/s a core: 30 GB take
some two seconds on 16 cores, far less than it takes to read them. Problems are
known by their ids, too, which may come from a file's name.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from critic_jax.models.config import TransformerConfig
from critic_jax.runtime import distributed
from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import local
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.types import Comparison, Params, Problem, Record
from critic_jax.workdir import settings

# Fields of a model's config that are settings of the run's config, too.
_SETTINGS = (
  'head',
  'dtype',
  'param_dtype',
  'remat',
  'attention',
  'layers',
  'lora',
)


def digests(
  lms: Mapping[str, LM],
  loaded: Mapping[str, Params],
  examples: Mapping[str, Sequence[Problem | Record | Comparison]],
  *,
  checkpoint: str = '',
) -> dict[str, str]:
  """Returns the SHA-256 of each input of a run, by the setting that names it.

  Args:
    lms: by role.
    loaded: parameters on the host of the roles that have a source.
    examples: by the setting that names them.
    checkpoint: the digest of the checkpoint that is measured, if one is.

  Raises:
    ValueError: another process of the run has read something else.
  """
  by_setting, of_params = {}, {}
  for role, lm in local(lms).items():
    by_setting[f'models.{role}.tokenizer'] = of_tokenizer(lm.tokenizer)
    if role in loaded:
      tree = loaded[role]
      if id(tree) not in of_params:  # roles may share a source
        of_params[id(tree)] = of_weights(lm.model.config, tree)
      by_setting[f'models.{role}.weights'] = of_params[id(tree)]
  for name, sequence in examples.items():
    by_setting[name] = of_examples(sequence)
  if checkpoint:
    by_setting['checkpoint'] = checkpoint
  first = distributed.agreed('inputs', by_setting)
  if names := [n for n in by_setting if by_setting[n] != first.get(n)]:
    raise ValueError(
      f'{", ".join(names)}: got another content in process '
      f'{jax.process_index()} than in the first; expected one for all; copy '
      'the same files to all machines'
    )
  return by_setting


def of_weights(config: TransformerConfig, params: Params) -> str:
  """Returns the SHA-256 of a model's sizes and parameters.

  Args:
    config: its config; of the settings of a run nothing counts.
    params: a tree of numpy arrays; their order does not matter.
  """
  values = dataclasses.asdict(config)
  sizes = {
    field.name: values[field.name]
    for field in dataclasses.fields(config)
    if field.name not in _SETTINGS
    and values[field.name] != field.default  # a field to come changes nothing
  }
  paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(params), strict=True)
  with concurrent.futures.ThreadPoolExecutor() as pool:
    of_leaves = pool.map(_of_array, leaves)
    rows = [
      [jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape), digest]
      for path, leaf, digest in zip(paths, leaves, of_leaves, strict=True)
    ]
  return _of_lines([json.dumps(sizes, sort_keys=True), *map(json.dumps, rows)])


def of_tokenizer(tokenizer: Tokenizer) -> str:
  """Returns the SHA-256 of a tokenizer's files, its chat template included."""
  return _of_lines(
    f'{name} {hashlib.sha256(content).hexdigest()}'
    for name, content in sorted(tokenizer.files.items())
  )


def of_examples(examples: Iterable[Problem | Record | Comparison]) -> str:
  """Returns the SHA-256 of examples of any kind, in their order."""
  return _of_lines(map(_line, examples))


def _of_array(array) -> str:
  content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  return hashlib.sha256(content).hexdigest()


def _of_lines(lines: Iterable[str]) -> str:
  digest = hashlib.sha256()
  for line in lines:
    digest.update(line.encode(errors='surrogatepass') + b'\n')
  return digest.hexdigest()


def _line(example: Problem | Record | Comparison) -> str:
  """Returns all that is known of an example as a line of JSON."""
  rows: list[Any] = []
  if isinstance(example, Record):
    names = ('stage', 'index', 'text', 'finish', 'parsed', 'scores')
    rows = [[vars(r)[name] for name in names] for r in example.chain]
    example = example.problem
  if isinstance(example, Comparison):
    names = ('text', 'scores', 'parsed')
    rows = [[vars(r)[name] for name in names] for r in example.responses]
    rows.append([dict(message) for message in example.messages])
    example = example.problem
  problem = {name: value for name, value in vars(example).items() if value}
  return json.dumps(settings.plain([problem, *rows]), sort_keys=True)
