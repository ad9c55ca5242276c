r"""CriticLean (https://arxiv.org/abs/2507.06181): is a statement the problem's?

A critic reads a problem and a formal statement of it, and says whether the one
means the other. Statements are of a small language, a fragment of Lean 4, and
are drafted by a rule that errs; a checker finds errors of syntax and types, and
the critic is for all others. It learns to compare from a teacher who always
does; then it gets a cold start from one who mostly guesses, and RL on the
lesser of two rules, its verdict and its form:

  python -m critic_jax.train --config configs/critic_lean.py \
      --workdir runs/critic_lean

  critic_lean  min(verdict, form)
  lean         the same with 2,000 statements, checked by `lake env lean` in the
               folder `lean` before the first step; nobody has run it
  tiny         two steps of RL; for tests

Evaluations say where the verdicts lie beside the curve of the cold start's
(critic_jax/evals/operating_points.py), and what a gate of checker and critic
accepts (critic_jax/tasks/formal_trials.py).

The reward is the paper's, as others display it; group size, learning rates and
steps are ours, and the form. Its data of other tasks, three for each of its
own, are not here.
"""

from configs import common, gui_critic, refcritic, sft


def get_config(arg='critic_lean'):
  makers = dict(critic_lean=critic_lean, lean=lean, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def role() -> dict:
  """A model of the world of statements."""
  return refcritic.tiny_role() | dict(
    tokenizer=dict(module='formal_tokenizer', name='tokenizer'),
    max_new_tokens=64,
    lengths=(96,),
    max_rows=64,
  )


def imitation(check_share, **settings) -> dict:
  """A phase that imitates a teacher who compares in such a share."""
  return common.phase(
    recipe='cold_start',
    train=('critic',),
    batch_size=64,
    num_solutions=0,  # the data gives statements
    num_critiques=1,
    row_shapes=((22, 288), (26, 288)),
    writer=dict(
      module='formal_critiques', name='critique', check_share=check_share
    ),
    **settings,
  )


def rl(**settings) -> dict:
  """A phase of RL on verdicts in form."""
  section = dict(
    judge_weight=0.0,  # it is logged, and a part of what is paid
    graded=dict(judged_in_form=dict(weight=1.0)),
    row_shapes=((32, 384), (32, 512)),  # a statement and its critiques a row
  )
  return gui_critic.judging(**section | settings)


def statements(refused_share, **settings) -> dict:
  """Given statements, of whose wrong ones a checker refuses a share."""
  return dict(
    name='statements',
    seed=2,
    refused_share=refused_share,
    checker=dict(),
    **settings,
  )


def trials(after) -> dict:
  """An evaluation of a gate: draft, check, criticise, try again."""
  return common.evaluation(
    after=after,
    data=dict(
      name='statement_trials',
      seed=2,
      error_share=0.6,
      refused_share=0.3,
      max_tries=8,
      checker=dict(),
      num_test=200,
    ),
    num_examples=0,
    batch_size=200,
    sampling=dict(critic=dict(temperature=0.0)),
    num_critiques=1,
    num_refinements=0,
    episodes=dict(module='formal_trials', name='advance'),
  )


def critic_lean():
  """A critic that learns to compare, then to glance, and then by RL."""
  config = common.base()
  config.data = statements(0.25, num_train=20_000)
  config.models = dict(critic=role())
  config.phases = dict(
    checks=imitation(
      1.0,
      steps=300,
      learning_rate=3e-3,
      schedule='linear',
    ),
    cold_start=imitation(0.25, steps=60, learning_rate=1e-3, schedule='linear'),
    rl=rl(),
  )
  config.order = ('checks', 'cold_start', 'rl')
  # A checker would accept all of these.
  config.evals.heldout = common.evaluation(
    after=('cold_start', 'rl'),
    data=statements(0.0, num_test=300),
    num_examples=0,
    num_critiques=8,
    num_refinements=0,
  )
  config.evals.trials = trials(('cold_start', 'rl'))
  return config


def lean():
  """The same with Lean as the checker."""
  config = critic_lean()
  checker = dict(
    command=('lake', 'env', 'lean'), deadline_s=60.0, folder='lean'
  )
  for section in (config, *config.evals.values()):
    section.data.checker = dict(checker)
  config.data.num_train = 2000  # some seconds each
  return config


def tiny():
  """Two steps with the smallest model; for tests."""
  config = critic_lean()
  config.order = ('cold_start', 'rl')
  del config.phases.checks
  sft.shrink(config)
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.heldout.data.num_test = 4
  config.evals.heldout.num_critiques = 2
  config.evals.trials.data.update(num_test=4, max_tries=2)
  return config
