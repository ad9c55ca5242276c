r"""The runs of the experiments in experiments/, which ask the paper's claims.

An experiment trains the runs that it needs, or one is trained by itself:

  python -m critic_jax.launch experiments/rewards.py --workdir runs/evidence
  python -m critic_jax.train --config configs/evidence.py:critics \
      --workdir runs/critics

The variants:

  critics  every critic from one cold start, and every measurement
  sizes    critics of one size after three amounts of RL
  tiny     RL on step labels with the smallest models; for tests
"""

from configs import common, refcritic


def get_config(arg='critics'):
  makers = dict(critics=critics, sizes=sizes, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def critics():
  """Every arm and every measurement of the experiments in experiments/.

  From one cold start: both rewards, the verdict's alone, the refinement's
  alone, RL on step labels, more of the cold start, and imitation of step
  labels. 9 to 15 minutes on 2 cores.
  """
  config = refcritic.ablation()
  arms = config.phases
  arms.refine_only = arms.judge_only.copy_and_resolve_references()
  arms.refine_only.judge_weight = 0.0
  arms.refine_only.refine_weight = 1.0
  arms.step_rl = arms.judge_only.copy_and_resolve_references()
  arms.step_rl.update(judge_weight=0.0, step_weight=1.0)
  arms.step_rl.first_error.update(module='arithmetic', name='first_error')
  arms.more_sft = arms.cold_start.copy_and_resolve_references()
  arms.more_sft.copy = dict(critic='cold')
  arms.step_labels = arms.more_sft.copy_and_resolve_references()
  arms.step_labels.writer = dict(module='arithmetic_labels', name='step_label')
  arms.step_labels.row_shapes = ((14, 192), (16, 192))
  config.order += 'refine_only', 'step_rl', 'more_sft', 'step_labels'
  config.evals.heldout.after = config.order[2:]
  config.evals.selection = common.evaluation(
    after=('cold_start', 'rl'),
    data=dict(name='arithmetic', seed=2, min_steps=5, max_steps=5),
    num_examples=100,
    num_solutions=32,
    num_critiques=1,
    num_refinements=0,
  )
  few = 'cold_start', 'more_sft', 'step_labels', 'rl'
  config.evals.slips = refcritic.slips((*few, 'judge_only', 'step_rl'))
  worlds = dict(
    longer=dict(min_steps=5, max_steps=6),
    longest=dict(min_steps=7, max_steps=8),
    unseen=dict(unseen=True),
  )
  for name, world in worlds.items():
    config.evals[name] = refcritic.slips(few, **world)
  return config


def sizes():
  """The quickstart, its critic measured after 10, 40 and 160 steps of RL.

  `--config.models.solver.size=mini` and of the critic make both smaller.
  """
  config = refcritic.quickstart()
  stages = dict(rl_10=10, rl_40=30, rl_160=120)
  for name, steps in stages.items():
    config.phases[name] = config.phases.rl.copy_and_resolve_references()
    config.phases[name].steps = steps
  del config.phases.rl
  config.order = (*config.order[:-1], *stages)
  critics = config.order[2:]
  config.evals.heldout.after = critics
  worlds = dict(slips=dict(), longer=dict(min_steps=5, max_steps=6))
  for name, world in worlds.items():
    config.evals[name] = refcritic.slips(critics, **world)
  return config


def tiny():
  """RL on step labels, in two steps with the smallest models; for tests."""
  arms, config = critics().phases, refcritic.tiny()
  rl = config.phases.rl
  rl.judge_weight, rl.refine_weight = 0.0, 0.0
  rl.step_weight, rl.first_error = 1.0, arms.step_rl.first_error
  config.order = 'solver', 'cold_start', 'rl'
  config.evals.heldout.after = config.order[1:]
  return config
