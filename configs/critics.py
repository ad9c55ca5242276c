r"""Every system's critic of the embedded world, side by side.

The quickstart's base; then each critic as its own config trains it, from one
cold start where it has none of its own, for experiments/critics.py:

  python -m critic_jax.train --config configs/critics.py --workdir runs/critics

  critics  40 steps of RL with 8 critiques of each solution, or 80 with 4;
           SPC has as many again, in its first round, and GenPRM has no RL
  tiny     two steps of two of them; for tests

Who trains a solver (Critique-GRPO, Critique-Coder) or scores without a text
(process reward models) is not compared here.
"""

from configs import (
  critic_v,
  critique_rl,
  deepcritic,
  genprm,
  graded_verdicts,
  refcritic,
  sft,
  spc,
)

SYSTEMS = (
  'refcritic',
  'fapo',
  'deepseekmath',
  'echo',
  'critique_rl',
  'spc',
  'critic_v',
  'deepcritic',
  'genprm',
)


def get_config(arg='critics'):
  makers = dict(critics=critics, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def critics():
  """All critics, measured on the same problems and planted slips."""
  config = refcritic.quickstart()
  for role in ('cold', 'ref', 'attacker', 'attacker_0'):
    config.models[role] = refcritic.tiny_role()
  # Two critiques in one are DeepCritic's.
  config.models.critic.max_new_tokens = 160
  phases = config.phases
  phases.refcritic = phases.rl
  phases.refcritic.copy = dict(cold='critic')
  del phases.rl
  for name, reward in (
    ('fapo', 'distance'), ('deepseekmath', 'reviewed'), ('echo', 'gain')
  ):  # fmt: skip
    phases[name] = graded_verdicts.only(reward).phases.rl
    phases[name].copy = dict(critic='cold')
  _add_critique_rl(phases)
  _add_spc(phases)
  _add_others(phases)
  config.order = (
    'quiz', 'solver', 'cold_start', *SYSTEMS[:4], 'discriminate', 'critique_rl',
    'attack_start', 'critic_1', 'attacker_1', 'spc', 'errors', 'critic_v',
    'second_look', 'deepcritic', 'genprm',
  )  # fmt: skip
  for evaluation in config.evals.values():
    evaluation.after = ('cold_start', *SYSTEMS)
  return config


def _add_critique_rl(phases):
  """Adds its two stages."""
  stages = critique_rl.critique_rl().phases
  phases.discriminate, phases.critique_rl = stages.discriminate, stages.help
  phases.discriminate.copy = dict(critic='cold', ref='cold')


def _add_spc(phases):
  """Adds a first round, and the critic's part of a second one."""
  rounds = spc.spc().phases
  for name in ('attack_start', 'critic_1', 'attacker_1'):
    phases[name] = rounds[name]
  phases.spc = rounds.critic_2
  phases.critic_1.copy = dict(critic='cold')


def _add_others(phases):
  """Adds critics that begin as the solver and imitate other teachers."""
  pairs = critic_v.critic_v().phases
  phases.errors, phases.critic_v = pairs.imitate, pairs.planted
  phases.critic_v.copy = dict(ref='critic')
  looks = deepcritic.deepcritic().phases
  phases.second_look, phases.deepcritic = looks.second_look, looks.rl
  phases.genprm = genprm.genprm().phases.cold_start


def tiny():
  """Two steps of two of them with the smallest models; for tests."""
  config = critics()
  config.order = ('solver', 'refcritic', 'fapo')
  phases = config.phases
  for name in set(phases) - set(config.order):
    del phases[name]
  for role in set(config.models) - {'solver', 'critic', 'cold'}:
    del config.models[role]
  del config.evals.slips
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # texts are longer with its tokenizer
  for role in config.models:
    config.models[role].max_new_tokens = 48
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  for name in config.order[1:]:
    phases[name].shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.heldout.update(
    after=config.order[1:], num_examples=4, num_critiques=2
  )
  return config
