r"""Imitation of solutions of which somebody knows how good they are.

A solver of the embedded world learns from the solutions of a student who slips,
as by https://arxiv.org/abs/2302.08582 language models are pretrained on texts
that were rated, and by https://arxiv.org/abs/2302.02676 with hindsight:

  python -m critic_jax.train --config configs/feedback.py --workdir runs/f

  unlikelihood     wrong lines become less likely
  likelihood       all lines are imitated, as if nothing was known of them
  filtered         right solutions only
  conditional      a note in the prompt of wrong solutions
  reward_weighted  right lines weigh exp(2 / beta) times what wrong ones do
  hindsight        right and wrong solutions, each often after one of the other
                   kind, with a note
  implicit         the student's, and then right ones by a divergence that keeps
                   the solver near the student (https://arxiv.org/abs/2507.00018)
  tiny             two steps of both phases of `implicit`, the first by
                   unlikelihood; for tests

The settings are guesses: only `tiny` was run.
"""

from configs import common, sft


def get_config(arg='unlikelihood'):
  makers = dict(
    likelihood=likelihood,
    filtered=filtered,
    conditional=conditional,
    unlikelihood=unlikelihood,
    reward_weighted=reward_weighted,
    hindsight=hindsight,
    implicit=implicit,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def imitation(lesson=None, **objective):
  """Imitation of lessons by an objective, and what was learned.

  Args:
    lesson: settings of a function of arithmetic_feedback; None: rated lines.
    **objective: a name and keywords of objectives/demonstrations.py.
  """
  config = sft.arithmetic()
  phase = config.phases.solver
  rated = dict(name='rated', hard_share=0.3, least=-1.0)  # 1.0: right ones only
  phase.lessons = dict(module='arithmetic_feedback') | (lesson or rated)
  phase.objective = objective
  config.evals.heldout = common.evaluation(
    after=('solver',), num_solutions=4, num_critiques=0, num_refinements=0
  )
  return config


def likelihood():
  """All lines, the wrong ones as well."""
  return imitation(name='likelihood')


def filtered():
  """Solutions without a wrong line."""
  config = likelihood()
  config.phases.solver.lessons.least = 1.0
  return config


def conditional():
  """A note in the prompt of wrong solutions; an evaluation has none."""
  return imitation(
    dict(
      name='noted',
      hard_share=0.3,
      wrong_note='There is a mistake.',
      drop_share=0.01,
    ),
    name='likelihood',
  )


def unlikelihood():
  """Wrong lines become less likely."""
  return imitation(name='unlikelihood', threshold=0.0, coef=1.0)


def reward_weighted():
  """Lines weigh by how good they are."""
  return imitation(name='reward_weighted', beta=1.0, max_weight=1000.0)


def hindsight():
  """Right and wrong solutions, with notes, in chains."""
  config = imitation(
    dict(
      name='hindsight',
      max_slips=3,
      wrong_note='There is a mistake.',
      right_note='Every step is right.',
      wrong_share=0.5,
      chain_share=0.5,
    ),
    name='likelihood',
  )
  config.models.solver.lengths = (32, 64, 96, 144)
  config.phases.solver.row_shapes = ((16, 224), (20, 224))
  return config


def implicit():
  """The student's solutions, then right ones by chi squared."""
  config = likelihood()
  config.models.ref = sft.role()
  config.phases.right = common.phase(
    recipe='sft',
    train=('solver',),
    steps=100,
    learning_rate=3e-4,
    batch_size=32,
    copy=dict(ref='solver'),
    role='solver',
    row_shapes=((6, 224), (8, 224)),
    lessons=dict(module='lessons', name='reference'),
    objective=dict(name='implicit_reward', beta=0.1, divergence='chi_squared'),
  )
  config.order = ('solver', 'right')
  config.evals.heldout.after = ('solver', 'right')
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = implicit()
  config.phases.solver.objective = unlikelihood().phases.solver.objective
  config.evals.heldout.update(num_examples=4, num_solutions=2)
  return sft.shrink(config)
