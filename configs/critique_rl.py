r"""Critique-RL (https://arxiv.org/abs/2510.24320): to judge, then to help.

The quickstart's base and its cold start; then RL in two stages:

  python -m critic_jax.train --config configs/critique_rl.py --workdir runs/c

  critique_rl  both stages: `discriminate` pays verdicts alone, 1 or -1;
               `help` pays a right answer after refining and 0.2 for a right
               verdict, or -1 for a false one, whatever the refinement is
  arms         the same, and from the same cold start as many steps of either
               reward alone; for experiments/critique_rl.py
  smollm2      both stages of SmolLM2 on GSM8K's problems; not run for longer
               than a test
  tiny         two steps of each phase; for tests

The reward of `help` is `refine_reward`: 'refine' is its code's r_refine,
'delta' r_delta and 'mend' r_correct. Rewards, group size, passes over a batch,
baseline and KL coefficient are as we read them in its code, where the KL is a
part of the reward and one greedy refinement is made. Learning rate, steps and
batch size are the quickstart's.
"""

from configs import common, refcritic, sft


def get_config(arg='critique_rl'):
  makers = dict(critique_rl=critique_rl, arms=arms, smollm2=smollm2, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def verdict_reward(**settings) -> dict:
  """The first stage's reward: 1 for a right verdict, else -1."""
  section = refcritic.refcritic(
    num_critiques=4,
    gate='rightly_judged',
    misjudge_weight=1.0,
    refine_weight=0.0,
    advantage=dict(name='leave_one_out'),
    kl=dict(name='k2', coef=0.01),
  )
  return section | settings


def both_rewards(**settings) -> dict:
  """The second stage's reward: the refinement's, if the verdict is right."""
  section = verdict_reward(judge_weight=0.2, refine_weight=1.0)
  return section | settings


def stage(**settings):
  """A phase of RL with a penalty for leaving the critic that it begins with."""
  return common.phase(
    recipe='refcritic',
    train=('critic',),
    steps=40,
    epochs=2,
    batch_size=32,
    aggregate='sequence',
    copy=dict(ref='critic'),
    records_every=5,
    row_shapes=((32, 208), (40, 208)),
    learning_rate=refcritic.RL_RATE,
    **settings,
  )


def critique_rl():
  """The two stages: verdicts, then refinements; the second keeps the first."""
  config = refcritic.quickstart()
  config.models.ref = refcritic.tiny_role()
  del config.phases.rl
  config.phases.discriminate = stage(**verdict_reward())
  config.phases.help = stage(**both_rewards())
  config.order = ('quiz', 'solver', 'cold_start', 'discriminate', 'help')
  for evaluation in config.evals.values():
    evaluation.after = config.order[2:]
  return config


def arms():
  """Three critics after as many steps of RL from one cold start.

  `help` has been paid in two stages, `judge_only` for verdicts alone and
  `refine_only` for refinements alone.
  """
  config = critique_rl()
  config.models.cold = refcritic.tiny_role()
  phases = config.phases
  phases.discriminate.copy = dict(ref='critic', cold='critic')
  # As many steps as both stages, with a new reference after the first half.
  for name, reward in (
    ('judge_only', verdict_reward),
    ('refine_only', refinement_reward),
  ):
    phases[f'{name}_half'] = stage(**reward())
    phases[f'{name}_half'].copy = dict(critic='cold', ref='cold')
    phases[name] = stage(**reward())
    config.order += f'{name}_half', name
  for evaluation in config.evals.values():
    evaluation.after = (
      'cold_start', 'discriminate', 'help', 'judge_only', 'refine_only'
    )  # fmt: skip
  return config


def refinement_reward() -> dict:
  """The reward of refinements alone, whatever the verdict is."""
  return both_rewards(gate='always', judge_weight=0.0, misjudge_weight=0.0)


def smollm2():
  """SmolLM2-135M-Instruct on GSM8K, from slips that it learns to name."""
  settings = dict(batch_size=4, row_shapes=(), microbatches=4)
  stages = dict(
    cold_start=common.naming_slips(max_slips=1, right_share=0.5),
    discriminate=stage(**verdict_reward()) | settings,
    help=stage(**both_rewards()) | settings,
  )
  return common.real(
    common.files(train=common.GSM8K),
    dict(
      solver=common.smollm2(temperature=0.2),
      critic=common.smollm2(adapters=True, prompts='brief'),
      ref=common.smollm2(adapters=True, prompts='brief'),
    ),
    stages,
  )


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = critique_rl()
  config.order = ('solver', 'discriminate', 'help')
  phases = config.phases
  del phases.quiz, phases.cold_start, config.evals.slips
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # texts are longer with its tokenizer
  for role in config.models:
    config.models[role].max_new_tokens = 48
  for name in config.order[1:]:
    # Rules pay an untrained critic nothing; its form gives it a gradient.
    phases[name].shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.heldout.update(
    after=config.order[1:], num_examples=4, num_critiques=2
  )
  return config
