"""Scores of the steps of an evaluation's solutions."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import random_params
from loop_helpers import PROBLEM, RIGHT, WRONG, grade, nano, solution

from critic_jax.evals import critic_loop, processbench
from critic_jax.models import forward
from critic_jax.rollouts import completions
from critic_jax.training import step_scorers
from critic_jax.types import Problem

MINIMUM = dict(role='steps', aggregate='minimum')


@pytest.fixture(scope='module')
def steps():
  lm = nano(max_new_tokens=64, head='reward')
  lm = dataclasses.replace(lm, max_rows=2)
  return {'steps': lm}, {'steps': random_params(lm.model)}


def score(steps, solutions, **changes):
  lms, roles = steps
  return step_scorers.scorer(MINIMUM | changes, lms, roles)(solutions)


def test_scores_are_read_at_the_ends_of_steps(steps):
  lm, params = steps[0]['steps'], steps[1]['steps']
  solutions = [solution(lm, text) for text in (RIGHT, WRONG, RIGHT)]
  scored = score(steps, solutions)  # in two parts
  for s, record in zip(solutions, scored, strict=True):
    prompt = lm.encode_prompt(lm.stages.solve.prompt(PROBLEM))
    response = lm.encode_response(s.text)
    logits = forward.token_scores(
      lm.model, params, np.array([[*prompt, *response]])
    )[0]
    expected = []
    for end in completions.step_ends(s):
      size = len(lm.encode_response(s.text[:end])) - 1  # without its end
      assert response[:size] == lm.encode_response(s.text[:end])[:-1]
      expected.append(1 / (1 + np.exp(-logits[len(prompt) + size - 1])))
    np.testing.assert_allclose(
      record.parsed['step_scores'], expected, rtol=1e-4
    )
    assert record.scores['score'] == min(record.parsed['step_scores'])
    assert record.text == s.text and 'step_scores' not in s.parsed
  assert scored[0].parsed['step_scores'] == scored[2].parsed['step_scores']
  [record] = score(steps, solutions[:1], aggregate='last')
  assert record.scores['score'] == record.parsed['step_scores'][-1]


def test_what_it_has_no_room_for_has_no_scores(steps):
  long = Problem('long', 'Zoe counts.' * 100, '1')
  lm = steps[0]['steps']
  solutions = [solution(lm, RIGHT, long), solution(lm, RIGHT)]
  assert ['score' in r.scores for r in score(steps, solutions)] == [False, True]


def test_a_half_is_the_threshold_of_its_critiques(steps):
  lm = steps[0]['steps']
  labels = {RIGHT: -1, WRONG: 0}
  given = [
    solution(lm, text, part='a', first_error=label)
    for text, label in labels.items()
  ]
  scores = {-1: [0.9, 0.5, 0.7], 0: [0.9, 0.4, 0.2]}

  def by_hand(solutions):
    return [
      dataclasses.replace(s, parsed={
        **s.parsed, 'step_scores': scores[s.parsed['first_error']]
      }) for s in solutions
    ]  # fmt: skip

  settings = dict(
    num_solutions=1, num_critiques=0, num_refinements=0, refine='always',
    controls=False, grade=grade,
  )  # fmt: skip
  records = critic_loop.collect(
    {}, {}, given, jax.random.key(0), score=by_hand, **settings
  )
  critiques = [r for r in records if r.stage == 'critique']
  assert [processbench.prediction(c) for c in critiques] == [-1, 1]
  assert [c.parent for c in critiques] == records[:2]
  # Without scores of steps there are none.
  records = critic_loop.collect({}, {}, given, jax.random.key(0), **settings)
  assert [r.stage for r in records] == ['solve', 'solve']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(aggregate='worst'), "step_scores: .*'worst'; expected one of"),
    (dict(role='step'), "step_scores: models: got .*'step'"),
    (dict(role='solver'), "step_scores: models.solver: got head='lm'"),
    (dict(rule='last'), "step_scores: .*'rule'"),
  ],
)
def test_wrong_settings(steps, changes, message):
  lms = steps[0] | {'solver': nano()}
  with pytest.raises(ValueError, match=message):
    step_scorers.bind(MINIMUM | changes, lms)
  assert step_scorers.bind(MINIMUM | dict(role=''), lms) is None
