"""Whether the models of roles fit each other, and the recipe of a phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import local
from critic_jax.types import Params, Recipe


def check_copy(copies: Mapping[str, str], lms: Mapping[str, LM]) -> None:
  """Checks that a phase copies between roles of one vocabulary.

  Args:
    copies: the source of each target role.
    lms: by role.

  Raises:
    ValueError: two tokenizers differ in the text of a token.
  """
  for target, source in copies.items():
    if not is_same_vocabulary(lms[target].tokenizer, lms[source].tokenizer):
      raise ValueError(
        f'copy: got {target}={source}, whose tokenizers differ; expected roles '
        'of one vocabulary; give both models the same source or tokenizer'
      )


def check_readers(roles: Sequence[str], lms: Mapping[str, LM]) -> None:
  """Checks that roles that read the same rows have one vocabulary.

  Raises:
    ValueError: two tokenizers differ in the text of a token.
  """
  for role in roles[1:]:
    if not is_same_vocabulary(lms[role].tokenizer, lms[roles[0]].tokenizer):
      raise ValueError(
        f'reward_model.roles: got {roles[0]} and {role}, whose tokenizers '
        'differ; expected roles of one vocabulary'
      )


def check_heads(
  models: Mapping[str, Any],
  loaded: Mapping[str, Params],
  phases: Sequence[Any] = (),
) -> None:
  """Checks that no scalar head of a loaded model stays as it was drawn.

  A model of a source whose file lacks the head, as a language model's, gets a
  random one: whoever reads scores or values of it before a phase has trained
  the role, or copied a trained head to it, reads noise.

  Args:
    models: the sections of a run's models, by role.
    loaded: parameters of the roles that have a source.
    phases: in order, with a `config` that copies and a `recipe` that trains.

  Raises:
    ValueError: a head is random at the end of all phases.
  """
  heads = {role: models[role]['head'] for role in models}
  drawn = {
    role
    for role, head in heads.items()
    if head != 'lm' and 'scalar_head' not in loaded.get(role, {})
  }
  for phase in phases:
    copied = {
      target: source in drawn
      for target, source in phase.config.copy.items()
      if heads[source] == heads[target]
    }
    of_drawn = {target for target, is_drawn in copied.items() if is_drawn}
    drawn = (drawn - {*copied} | of_drawn) - {*phase.recipe.trained}
  for role in sorted(drawn & {*loaded}):
    raise ValueError(
      f'models.{role}: got head={heads[role]!r} and the source '
      f'{models[role]["source"]!r}, which lacks that head; it is random, and '
      'no phase trains it; expected a trained one; train it in a phase, or '
      f'set models.{role}.source to RUN:PHASE:ROLE, a role with a trained head'
    )


def check_recipe(recipe: Recipe, lms: Mapping[str, LM]) -> None:
  """Checks that the roles of a recipe can sample, or read, its rows.

  Rows are written in the tokens of the first role that is trained; the others,
  such as a reference or a value model, read the same numbers.

  Args:
    recipe: names the roles that sample, are trained, and only read.
    lms: by role.

  Raises:
    ValueError: a model has no head to sample with, the vocabulary of a reader
      is another, or its model reads fewer tokens than a row may have.
  """
  for stage in recipe.sampled:
    if stage.role not in local(lms):
      continue
    if (head := lms[stage.role].model.config.head) != 'lm':
      raise ValueError(
        f'models.{stage.role}: got head={head!r} for the stage {stage.stage}; '
        "expected 'lm', to sample with"
      )
  writer, *others = recipe.trained
  longest = lms[writer].lengths[-1] + lms[writer].max_new_tokens
  for role in dict.fromkeys([*others, *recipe.scored]):
    if not is_same_vocabulary(lms[role].tokenizer, lms[writer].tokenizer):
      raise ValueError(
        f'models.{role}: got another vocabulary than that of models.{writer}, '
        'whose responses it reads; expected the same tokens; give both the '
        'same source or tokenizer'
      )
    max_len = lms[role].model.config.max_len
    if max_len < longest:
      raise ValueError(
        f'models.{role}: got a model of at most {max_len} tokens for rows of '
        f'models.{writer}, which may have {longest}; expected at least as many;'
        f' lower models.{writer}.lengths or max_new_tokens'
      )


def is_same_vocabulary(ours, theirs) -> bool:
  """Whether each token means the same; their chat templates may differ."""
  if ours is theirs or dict(ours.files) == dict(theirs.files):
    return True
  if ours.vocab_size != theirs.vocab_size:
    return False
  return dict(ours.special) == dict(theirs.special) and all(
    ours.decode_fn([token]) == theirs.decode_fn([token])
    for token in range(ours.vocab_size)
  )
