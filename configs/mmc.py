r"""MMC (https://arxiv.org/abs/2504.11009): critiques from contrasted paths.

The quickstart's base; then a critic imitates critiques that are written where
a wrong solution leaves a right one of the same problem, both the solver's. At
test time it criticises refinements, too, until it is satisfied, in three rounds
at most:

  python -m critic_jax.train --config configs/mmc.py --workdir runs/mmc

  mmc   the critic of contrasted paths
  arms  and two others of the same paths: what is wrong is found from a path
        alone, or told by the checker; for experiments/mmc.py
  tiny  two steps of each phase; for tests

All critiques name a step and its right line, and have the same form. In the
paper a search tree gives the paths of a vision-language model, and a larger
model writes the critiques; the number of paths and of steps is ours. The base
was taught to work lines out and to mark them (critic_jax/tasks/README.md): what
imitation leaves of that, and what it adds, is measured.
"""

from configs import common, refcritic, sft


def get_config(arg='mmc'):
  makers = dict(mmc=mmc, arms=arms, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def contrast(writer, **settings) -> dict:
  """The recipe's settings."""
  section = dict(
    num_solutions=4,
    writer=writer,
    first_error=dict(module='arithmetic', name='first_error'),  # to measure
  )
  return section | settings


def phase(name, module='arithmetic_contrasts', **writer) -> dict:
  """Imitation of an annotator, from the base."""
  return common.phase(
    recipe='contrast',
    train=('critic',),
    batch_size=32,
    **refcritic.IMITATION,
    copy=dict(critic='solver'),
    row_shapes=((16, 192), (20, 192)),
    **contrast(dict(module=module, name=name, **writer)),
  )


def mmc():
  """A critic that imitates contrasts."""
  config = refcritic.quickstart()
  del config.phases.cold_start, config.phases.rl
  config.phases.contrasted = phase('contrasted')
  config.order = ('quiz', 'solver', 'contrasted')
  config.evals.heldout.num_rounds = 3
  return measured(config)


def measured(config):
  """The config with its evaluations after each critic."""
  for evaluation in config.evals.values():
    evaluation.after = config.order[2:]
  return config


def arms():
  """Critics of as many critiques of the same paths, from one base."""
  config = mmc()
  config.phases.alone = phase('alone', hard_share=0.2)  # the student's share
  config.phases.supplied = phase(
    'teacher_critique',
    module='arithmetic_lessons',
    check_share=1.0,
    correct_share=1.0,
    point_share=0.0,
  )
  config.order += 'alone', 'supplied'
  return measured(config)


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = mmc()
  config.order = config.order[1:]
  del config.phases.quiz, config.evals.slips
  sft.shrink(config)
  config.phases.solver.lessons.max_steps = 4  # longer texts do not fit
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(
    num_examples=4, num_critiques=2, after=('contrasted',)
  )
  return config
