r"""RefCritic (https://arxiv.org/abs/2507.15024).

  python -m critic_jax.train --config configs/refcritic.py:quickstart \
      --workdir runs/quickstart      # everything, from scratch, on a laptop

The paper's gate, weight of the refinement reward and number of refinements
could not be verified by us; the values here are ours.
"""

from configs import common

ARITHMETIC = dict(module='arithmetic', name='tokenizer')
SHARE = 0.12  # of facts that the student has wrong


def get_config(arg='quickstart'):
  makers = dict(quickstart=quickstart)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def refcritic(**settings) -> dict:
  """The recipe's settings."""
  section = common.policy_gradient() | dict(
    num_solutions=1,
    num_critiques=8,
    num_refinements=2,
    gate='rightly_called_wrong',
    judge_weight=1.0,
    refine_weight=1.0,
    shaping={},
  )
  return section | settings


def quickstart():
  config = common.base()
  config.data = dict(
    name='arithmetic', seed=0, min_steps=3, max_steps=4, num_train=30_000,
    num_dev=300, num_test=300,
  )  # fmt: skip
  tiny = dict(
    tokenizer=ARITHMETIC, max_new_tokens=64, lengths=(32, 64, 96, 128)
  )
  config.models = dict(
    solver=common.model('tiny', **tiny), critic=common.model('tiny', **tiny)
  )
  config.phases = dict(
    solver=common.phase(
      'sft', ('solver',), 300, 3e-3, 64, schedule='linear', role='solver',
      lessons=dict(
        module='arithmetic', name='solver_lesson', share=SHARE,
        refine_share=0.5,
      ),
    ),
    cold_start=common.phase(
      'cold_start', ('critic',), 200, 3e-3, 64, schedule='linear',
      num_critiques=2,
      writer=dict(
        module='arithmetic', name='teacher_critique', check_share=0.5,
        correct_share=0.3, point_share=0.35,
      ),
    ),
    rl=common.phase(
      'refcritic', ('critic',), 40, 5e-4, 32, records_every=5, **refcritic()
    ),
  )  # fmt: skip
  config.order = ('solver', 'cold_start', 'rl')
  config.evals.after = ('cold_start', 'rl')
  config.evals.first_error = dict(module='arithmetic', name='first_error')
  return config
