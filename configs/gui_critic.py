r"""GUI-Critic-R1 (https://arxiv.org/abs/2506.04614): actions judged beforehand.

S-GRPO's reward in the world of screens: forms in text, and an agent that errs.
A critic reads a goal, a screen and an action that is not done yet, and ends
with a hint, the action to do instead, and a verdict. It learns to compare from
a teacher who always does; then it gets a cold start from one who mostly
guesses, and RL on three rules: form, verdict and suggestion:

  python -m critic_jax.train --config configs/gui_critic.py \
      --workdir runs/gui_critic

  gui_critic  a suggestion is paid if it is the reference
  works       if it, executed, brings the goal nearer, the reference or not
  arms        both, and the verdict alone, from one cold start; for
              experiments/gui_critic.py
  tiny        two steps of RL; for tests

Evaluations count how often a hint is the reference and how often it works, and
go through the agent's episodes: without the critic, with it, and with its
verdicts alone.

The three parts of the reward are the paper's, as others describe it. Their
weights are unknown to us, and 1 here; a model's answers to whether two actions
mean the same are equality here. Group size, learning rates and steps are ours,
and not tuned: only `tiny` was run, and 132 steps of the phase `checks`, whose
loss had then fallen from 6.7 to 0.05, not yet to the 0.02 that ends it.
"""

from configs import common, refcritic, sft


def get_config(arg='gui_critic'):
  makers = dict(
    gui_critic=lambda: only('reference'),
    works=lambda: only('works'),
    arms=arms,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def role() -> dict:
  """A model of the world of screens."""
  return refcritic.tiny_role() | dict(
    tokenizer=dict(module='screens_tokenizer', name='tokenizer'),
    max_new_tokens=64,
    lengths=(64,),
    max_rows=64,
  )


def rewards() -> dict:
  """What each arm pays beside the verdict."""
  form = dict(weight=1.0)
  return dict(
    verdict=dict(form=form),
    reference=dict(form=form, reference=dict(weight=1.0)),
    works=dict(form=form, works=dict(weight=1.0)),
  )


def imitation(check_share, **settings) -> dict:
  """A phase that imitates a teacher who compares in such a share."""
  return common.phase(
    recipe='cold_start',
    train=('critic',),
    optimizer='muon',
    batch_size=64,
    num_solutions=0,  # the data gives actions
    num_critiques=1,
    row_shapes=((22, 288), (26, 288)),
    writer=dict(
      module='screens_critiques', name='critique', check_share=check_share
    ),
    **settings,
  )


def rl(graded) -> dict:
  """A phase of RL on the verdict and these rules."""
  row_shapes = ((32, 448), (32, 576))  # an action and its critiques a row
  return judging(graded=graded, row_shapes=row_shapes)


def judging(**settings) -> dict:
  """A phase of RL on judgements of what the data gives; nothing is refined."""
  section = refcritic.refcritic(
    num_solutions=0, num_refinements=0, num_controls=0, refine_weight=0.0
  )
  section['limits'] = {
    name: bounds
    for name, bounds in section['limits'].items()
    if not name.startswith(('refine/', 'critique/leak'))
  }
  phase = dict(
    recipe='refcritic',
    train=('critic',),
    steps=40,
    batch_size=32,
    records_every=5,
    learning_rate=refcritic.RL_RATE,
  )
  return common.phase(**phase | section | settings)


def episodes(after, follow_hints=True) -> dict:
  """An evaluation of whole episodes of an agent that errs."""
  return common.evaluation(
    after=after,
    data=dict(
      name='screen_episodes', seed=2, error_share=0.3, slack=2, num_test=200
    ),
    num_examples=0,
    batch_size=200,
    sampling=dict(critic=dict(temperature=0.0)),
    num_critiques=1,
    num_refinements=0,
    episodes=dict(
      module='screens_agent', name='advance', follow_hints=follow_hints
    ),
  )


def base():
  """A critic before its RL, and what all are measured by."""
  config = common.base()
  config.data = dict(
    name='screens', seed=2, error_share=0.3, num_train=20_000, num_test=400
  )
  config.models = dict(critic=role())
  config.phases = dict(
    checks=imitation(
      1.0,
      steps=700,
      learning_rate=1.2e-2,
      until={'loss/nll': dict(high=0.02)},
    ),
    cold_start=imitation(0.25, steps=60, learning_rate=4e-3, schedule='linear'),
  )
  config.order = ('checks', 'cold_start')
  config.evals.heldout = common.evaluation(
    num_examples=0,
    num_critiques=2,
    num_refinements=0,
    describe=dict(module='screens_critiques', name='describe'),
  )
  config.evals.episodes = episodes(())
  config.evals.verdict_only = episodes((), follow_hints=False)
  return config


def measured(config):
  """The config with all evaluations after all phases but the first."""
  for evaluation in config.evals.values():
    evaluation.after = config.order[1:]
  return config


def only(name):
  """A critic that is paid by one of the arms' rewards."""
  config = base()
  config.phases.rl = rl(rewards()[name])
  config.order = (*config.order, 'rl')
  return measured(config)


def arms():
  """A critic by each reward, from one cold start and in as many steps."""
  config = base()
  config.models.cold = role()
  for name, graded in rewards().items():
    config.phases[name] = rl(graded)
    is_first = name == 'verdict'
    config.phases[name].copy = (
      dict(cold='critic') if is_first else dict(critic='cold')
    )
    config.order += (name,)
  return measured(config)


def tiny():
  """Two steps by both rewards with the smallest model; for tests."""
  config = only('reference')
  config.data.num_test = 4
  config.order = ('cold_start', 'rl')
  del config.phases.checks, config.evals.verdict_only
  sft.shrink(config)
  config.phases.rl.graded.works = dict(weight=1.0)
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.episodes.data.update(num_test=4, slack=0)
  return measured(config)
