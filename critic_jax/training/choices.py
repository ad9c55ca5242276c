"""The choices of a run that no setting says, in a line for each role.

A setting may be 'auto', and then the platform of the mesh decides; and whether
a refinement goes on in the solver's conversation is its chat template's matter.
`train`, `evaluate` and `plan` print these lines before they begin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from critic_jax.models.config import attention_program
from critic_jax.rollouts import rollout
from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import Served
from critic_jax.terminal import Console
from critic_jax.training import model_sources
from critic_jax.training.phases import Phase
from critic_jax.types import THINKING, Conversation, Problem, Prompt

# What is computed on CPUs unless it is set otherwise, of which nothing is said.
_ON_CPUS = 'layers one by one, attention xla'
_THOUGHT = f'{THINKING[0]}\na\n{THINKING[1]}\n\na'  # a solution with thinking
_LAYERS = {'scanned': 'layers as a loop', 'unrolled': 'layers one by one'}


def show(
  config,
  lms: Mapping[str, LM],
  platform: str,
  phases: Sequence[Phase],
  console: Console,
  examples: Mapping[str, Sequence],
) -> None:
  """Prints what a run, or an evaluation, chooses.

  Args:
    config: its config.
    lms: by role.
    platform: one of `models.config.PLATFORMS`.
    phases: those of a run.
    console: where it is printed.
    examples: those of evaluations, as `eval_phases.examples` names them.
  """
  refiners = {
    stage.role
    for phase in phases
    for stage in phase.recipe.sampled
    if stage.stage == 'refine'
  }
  if any(section.num_refinements for section in config.evals.values()):
    refiners.add('solver')
  for line in of_models(config.models, lms, platform):
    console.print(line)
  for line in of_templates(config.models, lms):
    console.print(line)
  for role in sorted(refiners):
    for line in of_refinements(lms, role):
      console.print(line)
  for line in of_examples(config.evals, examples):
    console.print(line)


def of_examples(evals: Mapping, examples: Mapping[str, Sequence]) -> list[str]:
  """Says which evaluations have fewer examples than they ask for.

  Args:
    evals: the sections of the config's evaluations, by name.
    examples: as of `show`.
  """
  return [
    f'{name}: {num} of {section.num_examples} examples, as {section.split!r} '
    'has no more'
    for name, section in evals.items()
    if (num := len(examples[f'evals.{name}'])) < section.num_examples
  ]


def of_models(
  settings: Mapping, lms: Mapping[str, LM], platform: str
) -> list[str]:
  """Says which programs compute the models; those that are alike share a line.

  Args:
    settings: the sections of the config's models, by role.
    lms: the models that were made of them.
    platform: one of `models.config.PLATFORMS`.
  """
  roles: dict[str, list[str]] = {}
  for role, lm in lms.items():
    if isinstance(lm, Served):
      text = f'{lm.name}, as {lm.endpoint.url} serves it; no memory here'
      roles.setdefault(text, []).append(role)
      continue
    config = lm.model.config
    name, reason = attention_program(
      settings[role]['attention'], platform, config
    )
    text = f'{_LAYERS[config.layers]}, attention {name}'
    text += f' ({reason})' if reason else ''
    text += f', adapters of rank {config.lora.rank}' if config.lora else ''
    if platform != 'cpu' or text != _ON_CPUS:
      roles.setdefault(text, []).append(role)
  return [f'{", ".join(names)}: {text}' for text, names in roles.items()]


def of_templates(settings: Mapping, lms: Mapping[str, LM]) -> list[str]:
  """Says which roles have weights from elsewhere without a chat template.

  A model that follows instructions was trained with one, and a folder may have
  lost it; a base model has none.

  Args:
    settings: as of `of_models`.
    lms: as of `of_models`.
  """
  return [
    f'{role}: {source} has no chat template; prompts are plain text'
    for role, lm in lms.items()
    if (source := settings[role]['source'])
    and not isinstance(lm, Served)
    and lm.tokenizer.chat_template is None
    and isinstance(model_sources.find(source, role), str)
  ]


def of_refinements(lms: Mapping[str, LM], role: str) -> list[str]:
  """Says whether refinements go on in the conversation of their solution.

  Where they do, the keys and values of problem and solution are those that the
  solver computed. A style that asks in a prompt of its own has no line.

  Args:
    lms: by role.
    role: the role that solves and refines.
  """
  if isinstance(lms[role], Served):
    return []  # the server's matter
  tokenizer = lms[role].tokenizer
  prompts = [_refinement(lms[role], text) for text in ('a', _THOUGHT)]
  if not all(isinstance(prompt, Conversation) for prompt in prompts):
    return []
  plain, thought = (lms[role].continued(x) is not None for x in prompts)
  go_on = f"{role}: refinements continue their solution's conversation"
  anew = f'{role}: refinements are read anew with problem and solution'
  if plain and thought:
    return [go_on]
  if tokenizer.chat_template is None:
    return [f'{anew}: there is no chat template']
  if plain and not tokenizer.opening:
    return [f'{go_on}, but where thinking is taken out by the chat template']
  return [f'{anew}: the chat template changes earlier turns']


def _refinement(lm: LM, text: str) -> Prompt:
  """Returns the prompt to refine a solution as if the model had sampled it."""
  problem = Problem(id='', question='a', answer='')
  solution = rollout.write(lm.stages.solve, problem, text)
  tokens = lm.encode_response(text)
  prompt_tokens = lm.encode_prompt(lm.stages.solve.prompt(problem))
  solution = dataclasses.replace(
    solution,
    text=lm.decode_response(tokens),
    prompt_tokens=np.array(prompt_tokens, np.int32),
    tokens=np.array(tokens, np.int32),
  )
  critique = rollout.write(lm.stages.critique, solution, 'a')
  return lm.stages.refine.prompt(critique)
