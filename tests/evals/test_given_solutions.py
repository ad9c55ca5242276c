"""Given solutions that come without a grade are graded when measured."""

import types

import jax

from critic_jax.answers import final_answers
from critic_jax.data import solutions
from critic_jax.evals import critic_loop

ROWS = """question,solution,answer,correct
What is 1 + 1?,It is \\boxed{2}.,2,
What is 1 + 1?,It is \\boxed{3}.,2,
What is 2 + 2?,It is \\boxed{5}.,4,true
"""


def test_outputs_are_graded_unless_the_file_grades_them(tmp_path):
  path = tmp_path / 'outputs.csv'
  path.write_text(ROWS)
  records = solutions.read(path)
  calls = []

  def grade(pairs):
    calls.append(list(pairs))
    return [
      'right' if final_answers.extract(text) == answer else 'wrong'
      for text, answer in pairs
    ]

  critic = types.SimpleNamespace(
    stages=types.SimpleNamespace(critique=types.SimpleNamespace()),
    bind=lambda params: None,
  )
  critic.stages.critique.name, critic.stages.critique.control_of = (
    'critique',
    '',
  )
  graded = critic_loop.collect(
    {'critic': critic},
    {'critic': {}},
    records,
    jax.random.key(0),
    num_solutions=1,
    num_critiques=0,
    num_refinements=0,
    refine='always',
    controls=False,
    grade=grade,
  )
  assert [len(pairs) for pairs in calls] == [2], 'the third has its grade'
  assert [r.parsed['grade'] for r in graded] == ['right', 'wrong', 'right']
  assert [r.parsed['correct'] for r in graded] == [True, False, True]
  assert [r.id for r in graded] == [r.id for r in records]
