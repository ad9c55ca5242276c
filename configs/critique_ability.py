r"""Critique Ability (https://arxiv.org/abs/2310.04815): a solver checks itself.

The quickstart, whose critic begins as a copy of its solver. As it is then, it
criticises 8 solutions of each problem before a vote, and so does the critic
that RL made of it; their verdicts on convincing wrong solutions are measured:

  python -m critic_jax.train --config configs/critique_ability.py \
      --workdir runs/ability

  critique_ability  `ability/...` after each critic
  tiny              two steps of the base and of its copy; for tests

A phase is what copies a model; so `own` is the solver with 10 more batches of
the lessons that it had. Problems have one step more than lessons had on
average: the solver is certain of few. 8 solutions with one critique each are
ours; the paper averages over 8 runs.
"""

from configs import common, refcritic, sft


def get_config(arg='critique_ability'):
  makers = dict(critique_ability=critique_ability, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def critique_ability():
  """The quickstart, and its solver as its own critic."""
  config = refcritic.quickstart()
  own = config.phases.solver.copy_and_resolve_references()
  own.update(train=('critic',), role='critic', steps=10)
  own.copy = dict(critic='solver')
  own.optimizer.update(learning_rate=3e-4, warmup_steps=0)
  config.phases.own = own
  config.order = ('quiz', 'solver', 'own', 'cold_start', 'rl')
  del config.evals.slips
  world = config.data.copy_and_resolve_references()
  world.update(min_steps=4, max_steps=4, num_train=8)
  config.evals.heldout = common.evaluation(
    after=('own', 'cold_start', 'rl'),
    data=world,
    num_solutions=8,
    num_critiques=1,
    num_refinements=0,
  )
  return config


def tiny():
  """Two steps of the base and of its copy; for tests."""
  config = critique_ability()
  config.order = ('solver', 'own')
  phases = config.phases
  del phases.quiz, phases.cold_start, phases.rl
  sft.shrink(config)
  for phase in phases.values():
    phase.lessons.max_steps = 4  # longer texts do not fit
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(after=('own',), num_examples=2, num_solutions=2)
  return config
