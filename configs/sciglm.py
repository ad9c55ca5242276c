r"""SciGLM (https://arxiv.org/abs/2401.07950): a solver annotates its problems.

The quickstart's base, which also learned to derive an answer that it is told,
by force if it must; then it imitates its own right answers to problems that it
solves, those that it solves after a reflection on its error, and those that it
derives from the true answer, if the critic lets them pass:

  python -m critic_jax.train --config configs/sciglm.py --workdir runs/sciglm

  sciglm  all attempts, filtered
  arms    from one base: solutions alone (`solved`, two of each problem), with
          reflections (`reflected`), with derivations (`derived`), and with the
          filter of these (`filtered`); for experiments/sciglm.py
  tiny    two steps of each phase; for tests

Another model annotates in the paper, once, and its filter is a classifier; here
the solver annotates anew in each step, and the base, as it was before, is the
critic: it reflects, and reviews derivations once. Numbers of solutions and of
reviews, the filter's threshold, learning rates and steps are ours. 10 steps:
after 40 a first run had nothing left to learn in any arm (98 % right).
"""

from configs import common, refcritic, sft

# Attempts, as far as an arm goes, and problems a step: of these, so many that
# all sample about as many tokens.
ARMS = dict(
  solved=dict(
    batch_size=64, num_solutions=2, num_reflections=0, min_scores=(0.0,)
  ),
  reflected=dict(batch_size=84, min_scores=(0.0, 0.0)),
  derived=dict(batch_size=76, told=True, min_scores=(0.0, 0.0, 0.0)),
  filtered=dict(
    batch_size=70, told=True, num_reviews=1, min_scores=(0.0, 0.0, 1.0)
  ),
)


def get_config(arg='sciglm'):
  makers = dict(sciglm=sciglm, arms=arms, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def annotation(told=False, **settings) -> dict:
  """The recipe's settings.

  Args:
    told: whether a teller gives the true answer in the last attempt.
    **settings: others than these.
  """
  teller = dict(module='labels', name='leaked_answer') if told else {}
  section = dict(
    num_solutions=1,
    num_reflections=1,
    teller=teller or dict(module=''),
    critic='critic',
    num_reviews=0,
    experts={},
    mixture='minimum',
    is_checked=True,
    min_scores=(0.0, 0.0),
    num_kept=1,
    first_error=dict(module='arithmetic', name='first_error'),  # to measure
    limits={'solve/covered': dict(low=0.1)},
  )
  return section | settings


def phase(copy, *, batch_size=64, steps=10, **settings) -> dict:
  """Imitation of a solver's own answers."""
  return common.phase(
    recipe='annotation',
    train=('solver',),
    steps=steps,
    learning_rate=3e-4,
    batch_size=batch_size,
    copy=copy,
    records_every=5,
    row_shapes=((16, 256), (20, 256), (24, 256)),
    **annotation(**settings),
  )


def base():
  """The quickstart's solver, which learns derivations, too."""
  config = refcritic.quickstart()
  del config.phases.cold_start, config.phases.rl, config.evals.slips
  lessons = config.phases.solver.lessons
  lessons.update(
    module='arithmetic_derivations',
    name='lesson',
    derive_share=0.3,
    correct_share=0.6,  # who reflects is concrete
    point_share=0.3,
  )
  config.order = ('quiz', 'solver')
  return config


def arms(names=tuple(ARMS)):
  """A base, then each of these arms from it."""
  config = base()
  for i, name in enumerate(names):
    # The critic is the base as it was.
    copy = dict(solver='critic') if i else dict(critic='solver')
    config.phases[name] = phase(copy, **ARMS[name])
  config.order += names
  config.evals.heldout = solved(names)
  return config


def solved(after) -> dict:
  """Measures right answers of a solver to held-out problems."""
  return common.evaluation(
    after=after, num_solutions=4, num_critiques=0, num_refinements=0
  )


def sciglm():
  """All attempts, filtered."""
  return arms(('filtered',))


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = sciglm()
  config.order = config.order[1:]
  del config.phases.quiz
  return shrink(config)


def shrink(config):
  """The config with the smallest models, which solve nothing."""
  sft.shrink(config)
  config.phases.solver.lessons.max_steps = 4  # longer texts do not fit
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(num_examples=4, num_solutions=2)
  return config
