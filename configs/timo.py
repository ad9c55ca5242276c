r"""Timo (https://arxiv.org/abs/2406.14192): pairs by a solver's own critique.

The quickstart's base; then the solver learns by DPO from pairs of its own
solutions, the right one and the wrong one that it finds best itself:

  python -m critic_jax.train --config configs/timo.py --workdir runs/timo

  timo  pairs by what the solver says of its solutions
  arms  from one base: pairs by its critiques (`approval`), by how likely it
        finds them (`confidence`), at random (`random`), and imitation of the
        right ones (`imitated`); for experiments/timo.py
  tiny  two steps of each phase; for tests

The paper samples 5 answers at a temperature of 0.8 and has the model grade
right and wrong ones by two rubrics, 0 to 5; here critiques are of the base's
form, one of each of 4 solutions, or 9 solutions without any, as many tokens.
Beta is the paper's, learning rate and steps are ours: only `tiny` was run.
"""

from configs import common, refcritic, sciglm

_NO_SCORE = dict(approval=0.0, confidence=0.0, agreement=0.0)
ARMS = dict(
  approval=dict(
    num_solutions=4, num_critiques=1, score=_NO_SCORE | dict(approval=1.0)
  ),
  confidence=dict(score=_NO_SCORE | dict(confidence=1.0)),
  random=dict(score=_NO_SCORE),
  imitated=dict(num_solutions=9, num_reflections=0, min_scores=(0.0,)),
)


def get_config(arg='timo'):
  makers = dict(timo=timo, arms=arms, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def self_critic(**settings) -> dict:
  """The recipe's settings."""
  section = dict(
    num_solutions=9,
    num_critiques=0,
    score=_NO_SCORE,
    max_pairs=1,
    objective=dict(name='dpo', beta=0.1, label_smoothing=0.0),
    aggregate='sequence',
    # A chosen response may become less likely too, but not by far.
    limits={'preference/chosen': dict(low=-20.0)},
  )
  return section | settings


def phase(name, copy) -> dict:
  """An arm."""
  if name == 'imitated':
    return sciglm.phase(copy, batch_size=32, **ARMS[name])
  return common.phase(
    recipe='self_critic',
    train=('solver',),
    steps=10,
    learning_rate=1e-4,
    batch_size=32,
    copy=copy,
    records_every=5,
    row_shapes=((16, 256), (20, 256)),
    **self_critic(**ARMS[name]),
  )


def arms(names=tuple(ARMS)):
  """The quickstart's base, then each of these arms from it."""
  config = refcritic.quickstart()
  del config.phases.cold_start, config.phases.rl, config.evals.slips
  del config.models.critic
  config.models.ref = refcritic.tiny_role()
  for i, name in enumerate(names):
    copy = dict(solver='ref') if i else dict(ref='solver')
    config.phases[name] = phase(name, copy)
  config.order = ('quiz', 'solver', *names)
  config.evals.heldout = sciglm.solved(names)
  return config


def timo():
  """Pairs by the solver's own critiques."""
  return arms(('approval',))


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = timo()
  config.order = config.order[1:]
  del config.phases.quiz
  config.phases.approval.num_solutions = 2
  return sciglm.shrink(config)
