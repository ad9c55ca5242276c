r"""Critique-Coder (https://arxiv.org/abs/2509.22824): to solve, and to judge.

The quickstart's solver, which was shown how to mark solutions; then GRPO with
and without a fifth of its problems to judge instead of to solve:

  python -m critic_jax.train --config configs/critique_coder.py \
      --workdir runs/critique_coder

  critique_coder  of 20 problems 4 come with a solution, half of them with a
                  slip; then, from the same start, GRPO that solves all 20
  tiny            two steps with the smallest models; for tests

Here are word problems and not programs. The share is the paper's; learning
rate, batches, steps and who writes the solutions are ours.
"""

from configs import common, refcritic, sft


def get_config(arg='critique_coder'):
  makers = dict(critique_coder=arms, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def critique_coder(**settings) -> dict:
  """The recipe's settings."""
  slips = dict(max_slips=1, right_share=0.5)
  section = common.policy_gradient() | dict(
    num_samples=8,
    num_given=4,
    writer=dict(module='arithmetic_labels', name='plant', **slips),
  )
  section['limits'] = common.policy_limits() | {
    'critique/called_wrong': dict(low=0.02, high=0.98),
    'critique/missing': dict(high=0.5),
    'critique/truncated': dict(high=0.5),
  }
  return section | settings


def phase(recipe, **section) -> dict:
  """A phase from the solver as it was before both."""
  return common.phase(
    recipe=recipe,
    train=('solver',),
    steps=40,
    learning_rate=3e-4,
    batch_size=20,
    copy=dict(solver='start'),
    records_every=10,
    row_shapes=((15, 416), (22, 416)),
    **section,
  )


def arms():
  """Both from one start."""
  config = refcritic.quickstart()
  config.models.start = refcritic.tiny_role()
  phases = config.phases
  del phases.cold_start, phases.rl, config.evals.slips
  phases.critique_coder = phase('critique_coder', **critique_coder())
  phases.critique_coder.copy = dict(start='solver', critic='solver')
  section = common.policy_gradient() | common.solver_rewards()
  phases.grpo = phase('grpo', num_solutions=8, **section)
  config.order = ('quiz', 'solver', 'critique_coder', 'grpo')
  # The critic stays as the solver was: solutions alone are measured.
  config.evals.heldout = common.evaluation(
    after=config.order[1:], num_solutions=4, num_critiques=0, num_refinements=0
  )
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = arms()
  config.order = ('solver', 'critique_coder')  # the others are elsewhere
  phases = config.phases
  del phases.quiz, phases.grpo
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # longer texts do not fit
  phases.critique_coder.update(num_samples=2, num_given=1)
  config.evals.heldout.update(
    after=('critique_coder',), num_examples=4, num_solutions=2
  )
  for role in config.models:
    config.models[role].max_new_tokens = 48
  return config
