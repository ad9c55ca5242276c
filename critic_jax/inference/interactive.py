"""A solver and a critic that are asked from Python, as in a notebook.

They are asked as in training: by the stages of their prompt style, with the
sampler, and with the settings of the run that trained them. An answer is a
`Record`: `text`, what its parser has read (`parsed`), and its tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax

from critic_jax import lookup
from critic_jax.evals import ranking
from critic_jax.rollouts import rollout
from critic_jax.runtime import compilation, sharding
from critic_jax.sampling.lm import LM
from critic_jax.sampling.served import Served, local
from critic_jax.text.chat_template import DATE
from critic_jax.training import model_sources, served_roles
from critic_jax.training import roles as roles_lib
from critic_jax.types import Params, Problem, Record
from critic_jax.workdir import trained as trained_lib

_MESH = dict(data=-1, fsdp=1, tensor=1, sequence=1)
# The settings of weights that no run has trained.
_SECTION = dict(
  size='',
  tokenizer='',
  head='lm',
  remat='dots_and_attention',
  attention='auto',
  layers='auto',
  prompts='instruct',
  prefix='',
  temperature=1.0,
  top_k=0,
  top_p=1.0,
  max_new_tokens=1024,
  lengths=(512, 1024, 2048),
  max_rows=64,
)


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that can be asked.

  Attributes:
    source: where its weights are from.
    lm: the model without its parameters: prompts, tokenizer, sampling.
    params: its parameters on the devices.
  """

  source: str
  lm: LM | Served = dataclasses.field(repr=False)
  params: Params = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Loop:
  """A solver and a critic; `critic_jax.load` makes one.

  Every method samples `n` answers and returns a list of as many records. The
  same arguments give the same answers; another `seed` gives others. The first
  call with an `n` compiles. A prompt that is longer than the model's `lengths`
  is not answered: `record.refused` is True and its text is ''.

  Attributes:
    critic: writes critiques; None if there is none.
    solver: writes solutions and refinements; None if there is none.
  """

  critic: Model | None
  solver: Model | None

  def solve(
    self, problem: str | Problem, n: int = 1, *, seed: int = 0
  ) -> list[Record]:
    """Samples solutions of a problem.

    Args:
      problem: its text.
      n: the number of solutions.
      seed: of the randomness.

    Returns:
      Records; `parsed['answer']` is the final answer, or None.
    """
    return _ask('solver', self.solver, 'solve', _problem(problem), n, seed)

  def critique(
    self,
    problem: str | Problem,
    solution: str | Record,
    n: int = 1,
    *,
    seed: int = 0,
  ) -> list[Record]:
    """Samples critiques of a solution.

    Args:
      problem: its text.
      solution: a text, or a record of `solve`.
      n: the number of critiques.
      seed: of the randomness.

    Returns:
      Records; `parsed['verdict']` is 'correct', 'incorrect' or None, and
      `parsed['conclusion']` the part that a solver is shown.
    """
    if not isinstance(solution, Record):
      _check_text('solution', solution)
      stage = _given('critic', self.critic).lm.stages.solve
      solution = rollout.write(stage, _problem(problem), solution)
    return _ask('critic', self.critic, 'critique', solution, n, seed)

  def refine(
    self, critique: Record, n: int = 1, *, seed: int = 0
  ) -> list[Record]:
    """Samples better solutions in the light of a critique.

    Args:
      critique: a record of `critique`, which knows problem and solution.
      n: the number of refinements.
      seed: of the randomness.

    Returns:
      Records; `parsed['answer']` is the final answer, or None.
    """
    if not isinstance(critique, Record):
      raise ValueError(
        f'critique: got {critique!r:.60}; expected a record, which knows its '
        'problem and solution; give one of those that `critique` returns'
      )
    return _ask('solver', self.solver, 'refine', critique, n, seed)

  def score(
    self,
    problem: str | Problem,
    solution: str | Record,
    n: int = 8,
    *,
    seed: int = 0,
  ) -> float:
    """Returns the share of `n` critiques that call a solution right, 0 to 1.

    The evaluations rank solutions by it. A critique without a verdict does not
    call it right.

    Args:
      problem: its text.
      solution: a text, or a record of `solve`.
      n: the number of critiques.
      seed: of the randomness.
    """
    critiques = self.critique(problem, solution, n, seed=seed)
    return ranking.score(critiques[0].parent, critiques)


def load(
  source: str,
  *,
  solver: str = '',
  mesh: Mapping[str, int] | None = None,
  **settings: Any,
) -> Loop:
  """Loads a solver and a critic, or one model as both.

  A run's roles have the settings that they were trained with: prompts, lengths,
  temperature, dtypes; one that a server sampled is asked there again, and
  adapters are merged into matrices of the `dtype` of computation. Other
  weights are asked by the prompts for chat models ('instruct'), for at most
  1024 new tokens, in float32 on CPUs and in bfloat16 elsewhere.

  Args:
    source: RUN, RUN:PHASE or RUN:best, a run's critic and solver; or
      RUN:PHASE:ROLE, a Hugging Face folder, a .gguf file, or package:NAME: one
      model, which is both.
    solver: another model as solver, named in the same ways.
    mesh: sizes of a mesh, such as `dict(tensor=8)` for a model that is larger
      than a device; None: each device has a copy.
    **settings: settings of a model that replace the run's, or those above:
      `temperature`, `top_p`, `max_new_tokens`, `prompts`, ... as
      `configs/common.py` lists them.

  Returns:
    A `Loop`.

  Raises:
    ValueError: a name, a setting or a file is wrong.
  """
  mesh = sharding.make_mesh(_MESH if mesh is None else mesh)
  platform = compilation.platform(mesh)
  named = trained_lib.find(source)
  is_one = named is None or bool(named[1])  # not a run with all its roles
  sources = {'critic': source} if is_one else _roles(source, named[0])
  if solver:
    sources['solver'] = solver
  sections, lms = {}, {}
  for role, name in sources.items():
    with lookup.naming(f'{role} {name!r}'):
      section, date = _section(name, role, platform)
      if not served_roles.is_url(section.get('source', '')):
        section = {**section, **settings, 'source': name}
      sections[role] = section
      lms |= roles_lib.make_lms({role: section}, False, date, platform)
      if role not in local(lms):
        continue
      if (head := lms[role].model.config.head) != 'lm':
        raise ValueError(f'got head={head!r}; expected a model that writes')
  loaded = roles_lib.load_params(sections)
  params = roles_lib.init_params(lms, loaded, mesh, jax.random.key(0))
  layouts = roles_lib.sampling_layouts(lms, {}, mesh)
  params = roles_lib.to_sample(params, layouts)
  models = {
    role: Model(name, lms[role], params[role]) for role, name in sources.items()
  }
  critic = models.get('critic')
  return Loop(critic, models.get('solver', critic if is_one else None))


def _roles(source: str, trained: trained_lib.Trained) -> dict[str, str]:
  """Returns a run's name by the roles of it that can be asked."""
  models = trained.config['models']
  roles = [role for role in ('critic', 'solver') if role in models]
  if not roles:
    raise ValueError(
      f'source: got a run of {sorted(models)}; expected one with a critic or a '
      f'solver; name a role, as in {source}:PHASE:{min(models, default="ROLE")}'
    )
  return dict.fromkeys(roles, source)


def _section(source: str, role: str, platform: str):
  """Returns the settings of a model, and the date that it is told.

  Args:
    source: the model.
    role: the role of a run, where the source names none.
    platform: the mesh's.
  """
  named = trained_lib.find(source)
  if named is None:
    floats = 'float32' if platform == 'cpu' else 'bfloat16'
    return {**_SECTION, 'dtype': floats, 'param_dtype': floats}, DATE
  config = named[0].config
  lookup.check_name('role', named[1] or role, config['models'])
  section = config['models'][named[1] or role]
  if model_sources.has_adapters(section):
    # They are read merged into their matrices; int8 would round them away.
    section = {**section, 'param_dtype': section['dtype']}
  section = {name: x for name, x in section.items() if name != 'lora'}
  return section, config.get('date', DATE)


def _ask(role: str, model: Model | None, stage: str, parent, n: int, seed: int):
  """Samples `n` records of a stage in response to a problem or a record."""
  lookup.check_counts(n=n)
  lm = _given(role, model).lm
  generate = lm.bind(model.params)
  key = jax.random.key(seed)
  return rollout.run(getattr(lm.stages, stage), generate, [parent], key, n=n)


def _given(role: str, model: Model | None) -> Model:
  if model is None:
    raise ValueError(
      f'{role}: got none; expected a model; load a run that has one, or, for '
      f"the solver, give load(..., solver='...')"
    )
  return model


def _problem(problem: str | Problem) -> Problem:
  """Makes a problem of a text; equal texts are equal problems."""
  if isinstance(problem, Problem):
    return problem
  _check_text('problem', problem)
  digest = hashlib.sha256(problem.encode(errors='surrogatepass'))
  return Problem(f'asked-{digest.hexdigest()[:8]}', problem, '')


def _check_text(name: str, value: Any) -> None:
  """Raises ValueError for what is no text."""
  if not isinstance(value, str):
    raise ValueError(
      f'{name}: got {value!r:.60}; expected a text; write str(x)'
    )
