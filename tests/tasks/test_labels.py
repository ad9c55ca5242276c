import random

import numpy as np
import pytest

from critic_jax.rewards import leaks, refinement, verdicts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import instruct
from critic_jax.tasks import labels
from critic_jax.types import Problem, Record


def given(**parsed):
  none = np.zeros(0, np.int32)
  return Record(
    Problem('p', '6 * 7?', '42'), 'solve', None, 0, none, none,
    none.astype(np.float32), '6 * 7 = 42', parsed=parsed,
  )  # fmt: skip


@pytest.mark.parametrize(
  ('parsed', 'advice', 'verdict', 'step'),
  [
    (dict(correct=True), 'I find no mistake.', 'correct', None),
    (dict(first_error=-1), 'I find no mistake.', 'correct', None),
    (dict(correct=False), 'There is a mistake.', 'incorrect', None),
    (dict(first_error=0), 'Step 1 is wrong.', 'incorrect', 0),
    (dict(correct=False, first_error=11), 'Step 12 is wrong.', 'incorrect', 11),
    (dict(correct=False, first_error=-1), 'There is a mistake.', 'incorrect',
     None),
  ],
)  # fmt: skip
@pytest.mark.parametrize('verdict_first', [True, False])
def test_a_label_is_a_critique_that_is_paid(
  parsed, advice, verdict, step, verdict_first
):
  solution = given(**parsed)
  text = labels.critique(
    solution, random.Random(0), verdict_first=verdict_first
  )
  lines = [advice, f'Verdict: {verdict}']
  assert text.split('\n') == (lines[::-1] if verdict_first else lines)
  written = rollout.write(instruct.STAGES.critique, solution, text)
  assert written.parsed['verdict'] == verdict
  assert written.parsed['step'] == step == verdicts.parse(text)['step']
  assert refinement.judge(written, []) == 1.0


def test_a_right_answer_by_a_wrong_step_is_not_imitated():
  solution = given(correct=True, first_error=1)
  text = labels.critique(solution, random.Random(0), verdict_first=False)
  assert text == 'Step 2 is wrong.\nVerdict: incorrect'
  written = rollout.write(instruct.STAGES.critique, solution, text)
  assert refinement.judge(written, []) == 0.0


@pytest.mark.parametrize('is_right', [True, False])
def test_a_leaked_answer_is_a_leak_and_a_label_is_none(is_right):
  solution, rng = given(correct=is_right), random.Random(0)
  leaked = labels.leaked_answer(solution, rng)
  label = labels.critique(solution, rng, verdict_first=False)
  for text, is_leak in ((leaked, True), (label, False)):
    written = rollout.write(instruct.STAGES.critique, solution, text)
    assert refinement.judge(written, []) == 1.0
    assert leaks.leaks(written) == is_leak


def test_a_second_look_is_the_label_in_the_critiques_form():
  solution = given(correct=False, first_error=1)
  for text in ('Verdict: correct', 'Well.\nStep 1 is wrong.'):
    critique = rollout.write(instruct.STAGES.critique, solution, text)
    assert labels.second_look(critique, random.Random(0)) == (
      'Step 2 is wrong.\nVerdict: incorrect'
    )
