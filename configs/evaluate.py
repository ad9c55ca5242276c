r"""Benchmarks of critics, on files in their published layouts.

The critic, and where there is one the solver, is SmolLM2-135M-Instruct unless
`--checkpoint` names a run or other weights. Given solutions
are named by `--config.data.paths`, one file or several, a folder or a pattern,
and problems by `--config.data.paths.test`:

  python -m critic_jax.evaluate --config configs/evaluate.py:mr_gsm8k \
      --workdir runs/mr_gsm8k
  python -m critic_jax.evaluate --config configs/evaluate.py:processbench \
      --workdir runs/processbench --checkpoint FOLDER \
      --config.data.paths=gsm8k.json,math.json
  python -m critic_jax.evaluate --config configs/evaluate.py:outputs \
      --workdir runs/outputs --config.data.paths=outputs.csv \
      --config.data.columns='question=prompt,solution=output,answer=label'

  processbench       first wrong steps, greedy; ProcessBench's layout
  processbench_vote  the same, majority of 8 critiques
  mr_gsm8k           processbench on MR-GSM8K in that layout
  triples            verdicts on solutions of several generators
  outputs            verdicts on outputs of your model, which are graded by
                     `correct`, or by `answer`
  criticbench        generate, critique, correct; any problem file
  selection          16 solutions of each problem, filtered by critiques
  ranking            one right solution against many wrong ones; RewardMATH
  run                what the run of `--checkpoint RUN:PHASE` measures itself,
                     with the same noise unless `--config.seed` is another
  filtered           selection on problems of the run's own embedded world
"""

from ml_collections import ConfigDict

from configs import common, evidence, refcritic


def get_config(arg='processbench'):
  makers = dict(
    processbench=processbench,
    processbench_vote=processbench_vote,
    mr_gsm8k=mr_gsm8k,
    triples=triples,
    outputs=outputs,
    criticbench=criticbench,
    selection=selection,
    ranking=ranking,
    run=run,
    filtered=filtered,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def given(name, paths, prompts='instruct', **settings):
  """Critiques of solutions that files give."""
  config = common.base()
  config.checkpoint = ''
  config.data = dict(
    name='solutions',
    paths=paths,
    columns='',
    layout='auto',
    bad_rows='error',
    number=0,
    by='solution',
    seed=0,
  )
  critic = refcritic.smollm2().models.critic
  critic.prompts = prompts
  critic.temperature = 0.0
  critic.max_new_tokens = 96
  critic.lengths = (384, 512, 768, 1024, 2048)
  config.models = dict(critic=critic)
  section = dict(num_examples=0, num_critiques=1, num_refinements=0)
  config.evals = {name: common.evaluation(**section | settings)}
  return config


def processbench():
  """ProcessBench's four parts, greedy."""
  parts = ('gsm8k', 'math', 'olympiadbench', 'omnimath')
  paths = [f'data/processbench/{part}.json' for part in parts]
  return given('processbench', ','.join(paths), 'first_error')


def processbench_vote():
  """ProcessBench by the majority of 8 critiques."""
  config = processbench()
  config.evals.processbench.num_critiques = 8
  config.models.critic.temperature = 1.0
  config.models.critic.top_p = 0.9
  return config


def mr_gsm8k():
  """MR-GSM8K, greedy; the box is opened for a critic that would not write one.

  A 135M model does not follow the format: of 32 critiques it began itself none
  had a box (LOG.md). `--config.models.critic.prefix=''` lets it begin.
  """
  path = '../shared/data/dev_mr_gsm8k.jsonl'
  config = given('mr_gsm8k', path, 'first_error')
  config.models.critic.prefix = 'The first wrong paragraph is \\boxed{'
  config.models.critic.max_new_tokens = 6
  return config


def triples():
  """500 solutions of four generators: verdicts, begun for the critic."""
  config = given('triples', '../shared/data/dev_gsm8k_triples.jsonl')
  config.data.number = 500
  config.models.critic.prefix = 'Verdict:'
  config.models.critic.max_new_tokens = 6
  return config


def outputs():
  """Verdicts on outputs of a model, begun for the critic as for triples."""
  config = given('outputs', 'data/outputs.jsonl')
  config.data.layout = 'outputs'
  config.models.critic.prefix = 'Verdict:'
  config.models.critic.max_new_tokens = 6
  return config


def ranking():
  """RewardMATH: the share of 8 approving critiques as the score."""
  config = given('ranking', 'data/RewardMATH_direct.json')
  config.evals.ranking.num_critiques = 8
  config.models.critic.temperature = 1.0
  return config


def solved(name, **settings):
  """The loop on a file of problems, solver and critic of one size."""
  config = common.base()
  config.checkpoint = ''
  config.data = common.files(
    test='../shared/data/gsm8k_train.jsonl', data_dir=''
  )
  config.models = refcritic.smollm2().models
  config.evals = {name: common.evaluation(**settings)}
  return config


def criticbench():
  """CriticBench: every solution is critiqued, every critique corrected."""
  return solved(
    'criticbench', num_critiques=1, refine='always', num_examples=100
  )


def selection():
  """Majority and critic-filtered majority over 16 solutions."""
  config = solved(
    'selection',
    num_solutions=16,
    num_critiques=1,
    num_refinements=0,
    num_examples=100,
  )
  config.models.solver.temperature = 0.7
  return config


def run():
  """A run's models, data and evaluations, by --checkpoint; its seed, if 0."""
  config = common.base()
  config.checkpoint = ''
  config.data = ConfigDict()
  return config


def filtered():
  """Selection in the embedded world: of `--checkpoint RUN:PHASE`."""
  config = run()
  config.evals = dict(selection=evidence.critics().evals.selection)
  config.evals.selection.after = ()
  return config


def tiny():
  """An untrained critic and slips of the embedded world; for tests."""
  config = given('slips', '')
  config.data = dict(name='arithmetic_slips', num_test=6)
  config.models = refcritic.tiny().models
  config.evals.slips.update(batch_size=4, num_critiques=2)
  return config
