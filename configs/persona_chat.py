r"""Synthetic-Persona-Chat (https://arxiv.org/abs/2312.10007): many critics.

A generator's outputs are scored by a mixture of experts, each of whom sees one
defect; the best that pass are what the generator learns from next, three
times. Here it writes solutions, without their answers at hand, and imitates:

  python -m critic_jax.train --config configs/persona_chat.py \
      --workdir runs/persona

  persona_chat  every expert has a veto
  arms          from one generator: that (`veto`), the mean of the experts
                (`mean`), and all solutions (`all`); for
                experiments/persona_chat.py
  tiny          two steps of each phase; for tests

The paper's generator is a large model that is shown what was kept, and its
experts are models; these are rules that err in a tenth of their answers. The
number of rounds is the paper's, all others are ours: only `tiny` was run.
"""

from configs import refcritic, sciglm

ROUNDS = 1, 2, 3
ARMS = dict(
  veto=dict(mixture='minimum', min_scores=(1.0,)),
  mean=dict(mixture='mean', min_scores=(0.6,)),  # two of three
  all=dict(experts={}, min_scores=(0.0,)),
)


def get_config(arg='persona_chat'):
  makers = dict(persona_chat=persona_chat, arms=arms, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def experts(error=0.1) -> dict:
  """Who scores solutions; each sees one defect."""
  names = 'sums', 'story', 'ending'
  return {
    name: dict(module='arithmetic_experts', name=name, error=error)
    for name in names
  }


def names(arm) -> tuple:
  """The phases of an arm."""
  return tuple(f'{arm}_{number}' for number in ROUNDS)


def arms(chosen=tuple(ARMS)):
  """A generator, then each of these arms from it."""
  config = refcritic.quickstart()
  phases = config.phases
  del phases.quiz, phases.cold_start, phases.rl, config.evals.slips
  del config.models.critic
  config.models.start = refcritic.tiny_role()
  phases.solver.steps = 400
  config.order = ('solver',)
  for i, arm in enumerate(chosen):
    for name in names(arm):
      copy = {}
      if name == names(arm)[0]:
        copy = dict(solver='start') if i else dict(start='solver')
      settings = dict(
        num_solutions=4,
        num_reflections=0,
        experts=experts(),
        is_checked=False,
        limits={
          'solve/covered': dict(low=0.1),
          # What is kept is more and more alike; half is left, or more.
          'solve/distinct': dict(low=0.5, relative=True),
        },
      )
      phases[name] = sciglm.phase(
        copy, batch_size=32, steps=5, **settings | ARMS[arm]
      )
    config.order += names(arm)
  config.evals.heldout = sciglm.solved(config.order)
  return config


def persona_chat():
  """Three rounds in which every expert has a veto."""
  return arms(('veto',))


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = persona_chat()
  config.order = ('solver', 'veto_1')
  del config.phases.veto_2, config.phases.veto_3
  config.evals.heldout.after = config.order
  config.phases.veto_1.min_scores = (0.1,)
  config.phases.veto_1.mixture = 'mean'  # an untrained solver writes nothing
  return sciglm.shrink(config)
