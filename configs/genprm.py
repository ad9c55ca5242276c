r"""GenPRM (https://arxiv.org/abs/2504.00891): checks that are executed.

The quickstart's base; then a critic imitates a teacher who works out every
line, and says which is wrong. It is measured as it is, and with its checks
executed: it goes on with the results, and not with its own:

  python -m critic_jax.train --config configs/genprm.py --workdir runs/genprm

  genprm  also on longer problems, and on operands that nobody was taught
  smollm2 SmolLM2 on MR-GSM8K, a check is an equation of the solution, which is
          imitated where people's labels agree; not run for longer than a test
  tiny    two steps of each phase; for tests

There is no RL, as in the paper. There a critic judges step by step, a check is
a program, and what is imitated was filtered by a second model; here it judges
whole solutions line by line, and a check is the line that it quotes.
"""

from configs import common, refcritic, sft

CHECKS = dict(
  module='arithmetic_reviews', name='execute_check', max_turns=8
)  # one for each line of the longest solutions


def get_config(arg='genprm'):
  makers = dict(genprm=genprm, smollm2=smollm2, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def genprm():
  """A critic who checks every line, with and without execution."""
  config = refcritic.quickstart()
  phases = config.phases
  del phases.rl, config.evals.heldout
  phases.cold_start.steps = 100  # as many as the quickstart's, RL's included
  phases.cold_start.writer.update(
    check_share=1.0, correct_share=0.15, point_share=0.85
  )
  config.order = ('quiz', 'solver', 'cold_start')
  worlds = dict(
    slips=dict(),
    longer=dict(min_steps=5, max_steps=6),
    unseen=dict(unseen=True),
  )
  for name, world in worlds.items():
    for suffix, checks in (('', None), ('_executed', CHECKS)):
      section = refcritic.slips(('cold_start',), **world)
      section['num_critiques'] = 4
      section['first_error'] = dict(module='arithmetic', name='first_error')
      section['checks'] = checks or section['checks']
      config.evals[name + suffix] = dict(section)
  return config


def smollm2():
  """SmolLM2-135M-Instruct imitates checks; measured with them executed."""
  writer = dict(module='equations', name='write_checks')
  return common.real(
    common.solutions(train=common.MR_GSM8K),
    dict(critic=common.smollm2(adapters=True, max_new_tokens=256)),
    dict(
      cold_start=common.phase(
        recipe='cold_start',
        train=('critic',),
        steps=100,
        learning_rate=1e-3,
        batch_size=16,
        microbatches=4,
        num_solutions=0,
        num_critiques=1,
        writer=writer,
      )
    ),
    num_refinements=0,
    checks=dict(module='equations', name='execute_check', max_turns=8),
  )


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = genprm()
  config.order = ('solver', 'cold_start')
  del config.phases.quiz
  for name in set(config.evals) - {'slips_executed'}:
    del config.evals[name]
  sft.shrink(config)
  config.phases.solver.lessons.max_steps = 4  # longer texts do not fit
  config.evals.slips_executed.num_examples = 4
  for role in config.models:
    config.models[role].max_new_tokens = 48
  return config
