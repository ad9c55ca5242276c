r"""ECHO (https://arxiv.org/abs/2601.06794): a critic and its solver together.

The quickstart's base and its cold start; then both learn in one phase:

  python -m critic_jax.train --config configs/echo.py --workdir runs/echo

  echo   critic and solver
  alone  the critic alone, with as many sampled tokens
  arms   both of them and the solver alone, from one start; for
         experiments/echo.py
  tiny   two steps with the smallest models; for tests

Only the abstract was read: that both are trained, by group-relative advantages
of each, and that a gain is worth more near saturation. The formula of the gain,
groups, learning rate and steps are ours.
"""

from configs import common, graded_verdicts, refcritic, sft

COUNTS = dict(num_solutions=4, num_critiques=4, num_refinements=2)


def get_config(arg='echo'):
  makers = dict(
    echo=lambda: only('echo'),
    alone=lambda: only('critic_alone'),
    arms=arms,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def co_evolution(**settings) -> dict:
  """The recipe's settings."""
  return (
    common.policy_gradient()
    | dict(
      num_controls=0,
      judge_weight=0.0,
      **graded_verdicts.rewards()['gain'],
      **COUNTS,
      limits=common.policy_limits() | common.critique_limits(),
    )
    | settings
  )


def phases() -> dict:
  """The arms: 8 problems a step, with 416 responses of them."""
  loop = dict(
    steps=40,
    learning_rate=refcritic.RL_RATE,
    batch_size=8,
    records_every=5,
  )
  alone = graded_verdicts.phase(
    **graded_verdicts.rewards()['gain'], **COUNTS, num_controls=0
  )
  grpo = common.policy_gradient() | common.solver_rewards()
  return dict(
    echo=common.phase(
      recipe='co_evolution',
      train=('solver', 'critic'),
      row_shapes=((160, 208), (208, 208)),
      **loop,
      **co_evolution(),
    ),
    critic_alone=alone | dict(batch_size=8),
    solver_alone=common.phase(
      recipe='grpo',
      train=('solver',),
      row_shapes=((40, 416), (56, 416)),
      **loop,
      num_solutions=52,
      **grpo,
    ),
  )


def only(name):
  """The quickstart with one of the arms."""
  config = refcritic.quickstart()
  config.phases.rl = phases()[name]
  return config


def arms():
  """All of them from one start."""
  config = refcritic.quickstart()
  del config.phases.rl
  for role in ('start', 'cold'):
    config.models[role] = refcritic.tiny_role()
  config.order = ('quiz', 'solver', 'cold_start', *phases())
  for name, section in phases().items():
    config.phases[name] = section
    config.phases[name].copy = dict(solver='start', critic='cold')
  config.phases.echo.copy = dict(start='solver', cold='critic')
  for evaluation in config.evals.values():
    evaluation.after = config.order[2:]
  return config


def tiny():
  """Two steps with the smallest models; for tests."""
  config = only('echo')
  config.order = ('solver', 'rl')
  del config.phases.quiz, config.phases.cold_start, config.evals.slips
  sft.shrink(config)
  # Texts are longer with its tokenizer: those of more steps do not fit.
  config.phases.solver.lessons.max_steps = 4
  config.phases.rl.update(num_solutions=2, num_critiques=2)
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(
    after=config.order[1:], num_examples=4, num_critiques=2
  )
  return config
