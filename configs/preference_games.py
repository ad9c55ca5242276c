r"""Preference games: a policy learns to be preferred to itself.

Where several raters look at several things, no single score need say what most
of them prefer. Critics of the embedded world are compared by three: the verdict
is right, the steps that are called wrong overlap with those that are, and each
step is judged rightly. A critique's reward is how often it is preferred to the
others of its solution:

  python -m critic_jax.train --config configs/preference_games.py \
      --workdir runs/games

  inpo        https://arxiv.org/abs/2407.00617: the best against the worst of 8,
              near the start and near the policy that sampled
  dno         https://arxiv.org/abs/2404.03715: soft labels of wins
  sppo        https://arxiv.org/abs/2405.00675: a target for each response
  online_ipo  the loss of EGPO, https://arxiv.org/abs/2503.08942, without its
              half steps
  dpo         no game: the sum of the three scores says which is better
  arms        these five, one after another
  spo         https://arxiv.org/abs/2401.04056: a solver by a policy gradient on
              wins by a reward model's scores and right answers, two raters
  nash_md     https://arxiv.org/abs/2312.00886: the same against a mixture with
              the start, which it pays to stay near
  tiny        two steps of inpo, and of nash_md by right answers; for tests

Critics begin as those of configs/critic_v.py, solvers as those of
configs/reward_model.py. Settings are papers' where they are known, of models of
billions of parameters, or guesses: only `tiny` was run. Each batch is learned
from twice: at the first update a policy is where it sampled.
"""

from configs import common, critic_v, reward_model, sft


def _game(**objective) -> dict:
  return dict(preference=dict(name='raters'), objective=objective)


ARMS = dict(
  inpo=_game(name='inpo', eta=0.0075, tau=0.0025),
  dno=_game(name='dno', eta=0.1),
  sppo=_game(name='sppo', eta=10.0, even=0.5),
  online_ipo=_game(name='online_ipo', beta=0.1),
  dpo={},  # Critic-V's
)
SELF_PLAY = dict(
  spo=dict(share=0.0, tau=0.0), nash_md=dict(share=0.125, tau=0.008)
)


def get_config(arg='inpo'):
  makers = dict(arms=arms, tiny=tiny)
  makers |= {name: lambda name=name: arms((name,)) for name in ARMS}
  makers |= {name: lambda name=name: of_solvers(name) for name in SELF_PLAY}
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def pairs(name) -> dict:
  """The settings of `online_preference`: three raters, and an arm's."""
  score = dict(judge=1.0, overlap=1.0, agreement=1.0)
  return critic_v.online_preference(max_pairs=1, score=score, **ARMS[name])


def arms(names=tuple(ARMS)):
  """Critic-V's critics, from one start."""
  config = critic_v.critic_v()
  phases = config.phases
  for name in names:
    phases[name] = phases.planted.copy_and_resolve_references()
    change(phases[name], epochs=2, **pairs(name))
    phases[name].copy = dict(critic='start', ref='start')
  phases[names[0]].copy = dict(ref='critic', start='critic')
  del phases.own, phases.planted
  config.order = ('quiz', 'solver', 'imitate', *names)
  for evaluation in config.evals.values():
    evaluation.after = ('imitate', *names)
  return config


def change(section, **settings):
  """Sets settings as they are: ConfigDict's update would merge sections."""
  for name, value in settings.items():
    section[name] = value


def of_solvers(name):
  """A reward model's solver, which plays by its scores and by answers."""
  config = reward_model.solutions()
  change(config.phases.rl, **policy_gradient(name))
  if any(SELF_PLAY[name].values()):
    config.models.ref = sft.role()
    config.phases.rl.copy = dict(ref='solver')
  return config


def policy_gradient(name) -> dict:
  """The settings of `grpo`: two raters, and REINFORCE on whole responses."""
  return dict(
    correct_weight=1.0,
    score_weight=1.0,
    preference=dict(name='raters'),
    self_play=SELF_PLAY[name],
    advantage=dict(name='leave_one_out'),
    objective=dict(name='reinforce'),
    aggregate='constant',
  )


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = critic_v.tiny()
  phases = config.phases
  del phases.own, config.models.start
  change(phases.planted, copy=dict(ref='critic'), **pairs('inpo'))
  # An untrained solver is never right: all are alike, but for their KL.
  section = common.policy_gradient() | common.solver_rewards()
  section |= policy_gradient('nash_md') | dict(score_weight=0.0)
  phases.rl = common.phase(
    recipe='grpo',
    train=('solver',),
    steps=2,
    learning_rate=1e-3,
    batch_size=4,
    copy=dict(ref='critic'),
    num_solutions=2,
    **section,
  )
  config.order = ('imitate', 'planted', 'rl')
  return config
