"""A small run's folder, as training would leave it, for tests that read one."""

import numpy as np

from critic_jax.evals import critique_metrics, processbench, refinement_metrics
from critic_jax.types import Problem, Record
from critic_jax.workdir import run_dir

SCRIPT = '<script>alert("x")</script>'


def message(problem, stage, parent=None, index=0, text='', **fields):
  """Makes a record of three prompt and two response tokens."""
  fields = {'num_tokens': 2, 'finish': 'stop'} | fields
  num_tokens = fields.pop('num_tokens')
  return Record(
    problem=problem,
    stage=stage,
    parent=parent,
    index=index,
    prompt_tokens=np.arange(3, dtype=np.int32),
    tokens=np.arange(num_tokens, dtype=np.int32),
    logprobs=np.linspace(-1 / 3, -2, num_tokens).astype(np.float32),
    text=text,
    **fields,
  )


def trees(num_problems=4, caught=True):
  """Makes a right and a wrong solution per problem, two critiques of each.

  Critique 0 accepts the solution; critique 1 rejects it and is refined twice,
  the first time rightly. If not `caught`, both accept.
  """
  records = []
  for number in range(num_problems):
    problem = Problem(f'sum-{number}', f'{number} + 1? {SCRIPT}', 'seven')
    for index, right in enumerate((True, False)):
      answer = 'seven' if right else 'six'
      solution = message(
        problem,
        'solve',
        None,
        index,
        f'I count.\n\nSo it is {answer}.',
        parsed={
          'answer': answer,
          'correct': right,
          'grade': 'right' if right else 'wrong',
          'first_error': -1 if right else 1,
        },
      )
      records.append(solution)
      for critique_index in range(2):
        records += _critique(solution, critique_index, caught)
  return records


def _critique(solution, index, caught):
  verdict = 'incorrect' if index == 1 and caught else 'correct'
  conclusion = f'Look at line 2. Verdict: {verdict}'
  record = message(
    solution.problem,
    'critique',
    solution,
    index,
    f'Let me think. {SCRIPT}\n</think>\n{conclusion}',
    parsed={
      'verdict': verdict,
      'status': 'ok',
      'conclusion': conclusion,
      'step': 1 if verdict == 'incorrect' else None,
    },
    scores={'judge': 1.0, 'refine': 0.5, 'reward': 1.5},
    num_tokens=10,
  )
  refinements = [
    message(
      solution.problem,
      'refine',
      record,
      number,
      'Again.',
      parsed={'answer': answer, 'correct': answer == 'seven'},
    )
    for number, answer in enumerate(('seven', 'nine'))
    if verdict == 'incorrect'
  ]
  return [record, *refinements]


def write(path, seed=0):
  """Writes three logged steps of two phases, records of two, and results."""
  config = {'recipe': 'refcritic', 'seed': seed}
  before, after = trees(caught=False), trees()
  with run_dir.open_run(path, config, devices='cpu x1') as run:
    run.log_metrics(0, {'loss/nll': 2.0}, 'sft')
    for step in (1, 2):
      values = {'loss/nll': 0.1, 'critique/judge': 0.5 * step}
      run.log_metrics(step, values, 'rl')
      run.write_records(step, trees(), 'records/rl')
    score = {'eval/critique/balanced_accuracy': float('nan')}
    run.log_metrics(2, score, 'rl')
    run.write_records('before', before, 'eval/refcritic')
    columns = {
      'before': critique_metrics.metrics(before) | processbench.metrics(before),
      'RL': refinement_metrics.metrics(after) | critique_metrics.metrics(after),
      'difference': critique_metrics.compare(before, after),
    }
    run.write_results('results/sums', {'columns': columns})
  return path
