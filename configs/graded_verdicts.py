r"""Rewards between right and wrong: FAPO's, DeepSeekMath-V2's, and ECHO's.

The quickstart's base and its cold start; then RL by another reward each:

  python -m critic_jax.train --config configs/graded_verdicts.py:fapo \
      --workdir runs/fapo

  fapo          the first wrong step by its distance (arxiv 2510.22543)
  deepseekmath  a verdict, as far as its reasons are so (arxiv 2511.22570)
  echo          what refining changes, the more the less there is to improve
                (arxiv 2601.06794)
  arms          all of them, and what each is compared with, from one cold
                start; for experiments/graded_verdicts.py
  tiny          two steps by all of them at once; for tests

The first two rewards are as others describe the papers; whether their critics
are also paid otherwise, learning rate, group size and steps are ours. Of ECHO
we know its abstract: the formula is ours, and the solver learns in echo.py.
"""

from configs import common, refcritic, sft


def get_config(arg='fapo'):
  makers = dict(
    fapo=lambda: only('distance'),
    deepseekmath=lambda: only('reviewed'),
    echo=lambda: only('gain'),
    arms=arms,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def rewards() -> dict:
  """What each arm pays for, in the place of RefCritic's two rewards."""
  reviewer = dict(module='arithmetic_reviews', name='review', slip_share=0.5)
  reviewed = dict(weight=1.0, flawed_score=0.5, reviewer=reviewer)
  measure = dict(module='arithmetic_labels', name='share_right')
  refined = dict(refine_weight=1.0, gate='always')
  return dict(
    judge_only=dict(judge_weight=1.0),
    hit=dict(step_weight=1.0),
    distance=dict(graded=dict(distance=dict(weight=1.0))),
    reviewed=dict(graded=dict(reviewed=reviewed)),
    delta=dict(refine_reward='delta', **refined),
    gain=dict(
      refine_reward='gain',
      refine_settings=dict(eps=0.1, measure=measure),
      **refined,
    ),
  )


def phase(**settings) -> dict:
  """A phase of RL that is paid by these settings alone."""
  unpaid = dict(judge_weight=0.0, refine_weight=0.0)
  return common.phase(
    recipe='refcritic',
    train=('critic',),
    steps=40,
    batch_size=32,
    records_every=5,
    row_shapes=((64, 208), (80, 208)),
    learning_rate=refcritic.RL_RATE,
    **refcritic.refcritic(
      first_error=dict(module='arithmetic', name='first_error'),
      **unpaid | settings,
    ),
  )


def only(name):
  """The quickstart with one of these rewards."""
  config = refcritic.quickstart()
  config.phases.rl = phase(**rewards()[name])
  return config


def arms():
  """A critic by each reward, from one cold start and in as many steps."""
  config = refcritic.quickstart()
  config.models.cold = refcritic.tiny_role()
  del config.phases.rl
  config.order = ('quiz', 'solver', 'cold_start')
  for name, settings in rewards().items():
    config.phases[name] = phase(**settings)
    is_first = len(config.order) == 3
    config.phases[name].copy = (
      dict(cold='critic') if is_first else dict(critic='cold')
    )
    config.order += (name,)
  for evaluation in config.evals.values():
    evaluation.after = config.order[2:]
  return config


def tiny():
  """Two steps by all rewards with the smallest models; for tests."""
  config = only('gain')
  rules = rewards()
  config.order = ('solver', 'rl')
  phases = config.phases
  del phases.quiz, phases.cold_start, config.evals.slips
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # texts are longer with its tokenizer
  phases.rl.graded = rules['distance']['graded'] | rules['reviewed']['graded']
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(
    after=config.order[1:], num_examples=4, num_critiques=2
  )
  return config
