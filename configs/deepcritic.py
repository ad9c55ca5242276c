r"""DeepCritic (https://arxiv.org/abs/2505.00662): second looks, then GRPO.

The quickstart's base; then a critic imitates critiques that were critiqued
themselves, and learns by GRPO to name the first wrong step:

  python -m critic_jax.train --config configs/deepcritic.py --workdir runs/deep

  deepcritic  the labels of the RL are the checker's, as people's would be
  completed   they are Monte-Carlo labels, of the solver's completions
  smollm2     SmolLM2 on solutions of PRM800K and MR-GSM8K, whose first wrong
              steps people labelled; not run for longer than a test
  tiny        two steps of each phase; for tests

The first critique is the quickstart's: its teacher works out a fourth of the
solutions and guesses at the others. The second one works back from the results,
or agrees. On real rows rules stand for models: the first critique works out the
equations that it finds, and the second look at it is the label. The paper's
settings of RL are unknown to us; those here are ours.
"""

from configs import common, refcritic, sft


def get_config(arg='deepcritic'):
  makers = dict(
    deepcritic=deepcritic, completed=completed, smollm2=smollm2, tiny=tiny
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


CHECKER = dict(module='arithmetic', name='first_error')


def second_look(**settings) -> dict:
  """The recipe's settings: two teachers of the embedded world."""
  advice = dict(correct_share=0.15, point_share=0.6)
  section = dict(
    num_solutions=1,
    num_critiques=1,
    num_looks=4,  # the paper has 16
    flipped_only=False,
    writer=dict(
      module='arithmetic_lessons',
      name='teacher_critique',
      check_share=0.25,
      **advice,
    ),
    second_writer=dict(
      module='arithmetic_lessons',
      name='second_look',
      check_share=0.5,
      **advice,
    ),
    first_error=dict(CHECKER),
  )
  return section | settings


def deepcritic():
  """Second looks, then RL on the checker's labels."""
  config = refcritic.quickstart()
  config.models.critic.max_new_tokens = 160  # two critiques in one
  phases = config.phases
  del phases.cold_start
  phases.second_look = common.phase(
    recipe='second_look',
    train=('critic',),
    batch_size=64,
    **refcritic.IMITATION,
    copy=dict(critic='solver'),
    row_shapes=((32, 288), (40, 288)),
    **second_look(),
  )
  phases.rl.update(judge_weight=0.0, refine_weight=0.0, step_weight=1.0)
  phases.rl.first_error.update(**CHECKER)
  phases.rl.row_shapes = ((40, 512), (56, 512))
  config.order = ('quiz', 'solver', 'second_look', 'rl')
  for evaluation in config.evals.values():
    evaluation.after = config.order[2:]
  return config


def completed():
  """The same, with labels that nobody gives; the checker measures them."""
  config = deepcritic()
  config.phases.rl.completions.update(
    num=8, max_steps=6, labels=dict(name='sustained')
  )
  return config


def smollm2():
  """SmolLM2-135M-Instruct: looks again with the labels, then RL on them."""
  looks = second_look(
    num_solutions=0,
    num_looks=1,
    writer=dict(module='equations', name='write_checks'),
    second_writer=dict(module='labels', name='second_look'),
    first_error=dict(module=''),  # the files
  )
  rewards = refcritic.refcritic(
    num_solutions=0,
    num_refinements=0,
    num_controls=0,
    judge_weight=0.0,
    refine_weight=0.0,
    step_weight=1.0,
    balanced=True,
  )
  settings = dict(
    train=('critic',), batch_size=8, microbatches=4, records_every=5
  )
  return common.real(
    common.solutions(train=f'{common.PRM800K},{common.MR_GSM8K}'),
    # A third of PRM800K's prompts have more than 771 tokens.
    dict(
      critic=common.smollm2(
        adapters=True, max_new_tokens=384, lengths=(385, 771, 1542)
      )
    ),
    dict(
      second_look=common.phase(
        recipe='second_look', steps=100, learning_rate=1e-3, **settings, **looks
      ),
      rl=common.phase(
        recipe='refcritic', steps=20, learning_rate=5e-5, **settings, **rewards
      ),
    ),
    num_refinements=0,
  )


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = completed()
  config.order = config.order[1:]
  del config.phases.quiz, config.evals.slips
  sft.shrink(config)
  config.phases.solver.lessons.max_steps = 4
  config.models.solver.max_new_tokens = 48
  config.phases.rl.completions.num = 2
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.heldout.update(num_examples=4, num_critiques=2)
  return config
