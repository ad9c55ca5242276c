r"""SciGLM (https://arxiv.org/abs/2401.07950): a solver annotates its problems.

The quickstart's base, which also learned to derive an answer that it is told,
by force if it must; then it imitates its own right answers to problems that it
solves, those that it solves after a reflection on its error, and those that it
derives from the true answer, if the critic lets them pass:

  python -m critic_jax.train --config configs/sciglm.py --workdir runs/sciglm

  sciglm  all attempts, filtered
  arms    from one base: solutions alone (`solved`, twice as many), with
          reflections (`reflected`), with derivations (`derived`), and with the
          filter of these (`filtered`); for experiments/sciglm.py
  tiny    two steps of each phase; for tests

Another model annotates in the paper, once, and its filter is a classifier; here
the solver annotates anew in each step, and the base, as it was before, is the
critic: it reflects, and reviews derivations twice. Numbers of solutions and of
reviews, the filter's threshold, learning rates and steps are ours, and not
tuned: only `tiny` was run.
"""

from configs import common, refcritic, sft

# Attempts, as far as an arm goes; numbers of sampled tokens are alike.
ARMS = dict(
  solved=dict(num_solutions=4, num_reflections=0, min_scores=(0.0,)),
  reflected=dict(min_scores=(0.0, 0.0)),
  derived=dict(told=True, min_scores=(0.0, 0.0, 0.0)),
  filtered=dict(told=True, num_reviews=2, min_scores=(0.0, 0.0, 1.0)),
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
    num_solutions=2,
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


def phase(copy, **settings) -> dict:
  """Imitation of a solver's own answers."""
  return common.phase(
    recipe='annotation',
    train=('solver',),
    steps=40,
    learning_rate=3e-4,
    batch_size=32,
    copy=copy,
    records_every=5,
    row_shapes=((12, 256), (16, 256)),
    **annotation(**settings),
  )


def base():
  """The quickstart's solver, which learns derivations, too."""
  config = refcritic.quickstart()
  del config.phases.cold_start, config.phases.rl, config.evals.slips
  lessons = config.phases.solver.lessons
  lessons.update(
    module='arithmetic_derivations', name='lesson', derive_share=0.15
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
