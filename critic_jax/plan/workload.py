"""What a phase samples and learns from, read off its settings.

A problem is taken to be as long as the first column of `lengths`, a response as
its limit times `length_share`, a later prompt as what it holds: the problem and
the responses above it, up to the last column. Every critique is refined.
"""

from __future__ import annotations

from typing import NamedTuple

from critic_jax.sampling.lm import LM


class Sampled(NamedTuple):
  """One stage of sampling.

  Attributes:
    stage: its name in records.
    role: whose model writes it.
    prompts: how many.
    samples: responses to each.
    prompt: tokens of each prompt.
    new: tokens of each response.
  """

  stage: str
  role: str
  prompts: int
  samples: int
  prompt: int
  new: int


class Learned(NamedTuple):
  """The batch of an update: rows, columns, and whether they are packed."""

  rows: int
  columns: int
  packed: bool


def sampled(
  section, lms: dict[str, LM], length_share: float = 1.0
) -> list[Sampled]:
  """The stages of a phase in order.

  Args:
    section: of the phase.
    lms: by role.
    length_share: mean length of responses over their limit.
  """

  def stage(name, role, prompts, samples, prompt):
    lm = lms[role]
    new = max(1, round(lm.max_new_tokens * length_share))
    prompt = min(prompt, lm.lengths[-1])
    stages.append(Sampled(name, role, prompts, samples, prompt, new))
    return prompt + new

  stages = []
  if not {'num_solutions', 'num_critiques'} & set(section):
    return stages
  num = section.get('num_solutions', 1)
  problem = lms['solver'].lengths[0]
  seen = stage('solve', 'solver', section.batch_size, num, problem)
  written = section.get('writer', {}).get('module')
  if 'num_critiques' in section and not written:
    num *= section.batch_size
    seen = stage('critique', 'critic', num, section.num_critiques, seen)
    num *= section.num_critiques
    if section.get('refine_weight') and section.num_refinements:
      stage('refine', 'solver', num, section.num_refinements, seen)
  return stages


def scored(section) -> list[str]:
  """The roles that only read the batch's rows."""
  roles = ['ref'] if section.get('kl', {}).get('coef') else []
  return roles + [role for role in section.train if role == 'value']


def learned(section, lms: dict[str, LM]) -> Learned:
  """The largest batch that the phase packs, or its plain rows."""
  if section.row_shapes:
    return Learned(*section.row_shapes[-1], packed=True)
  rows = section.batch_size * section.get('num_solutions', 1)
  if 'num_solutions' in section:
    rows *= section.get('num_critiques', 1)
  columns = max(
    lm.lengths[-1] + lm.max_new_tokens
    for lm in (lms[role] for role in section.train)
  )
  return Learned(rows, columns, packed=False)
