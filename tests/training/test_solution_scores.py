"""Scores of an evaluation's solutions, by scores of models made by hand."""

import dataclasses

import numpy as np
import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG, nano, solution

from critic_jax.data import batching
from critic_jax.loss_fns import scoring
from critic_jax.rollouts import rollout
from critic_jax.training import solution_scores
from critic_jax.types import Problem

ROLES = ('low', 'high')
# A model's score of a response is its own number and 1 for each token.
PARAMS = dict(low=0.0, high=10.0)


@pytest.fixture
def lms(monkeypatch):
  def score(statistic, scorer, batch, *, microbatches):
    assert statistic is scoring.Scorer.scores and microbatches == 1
    return scorer.params + batch['mask'].sum(axis=1).astype(np.float32)

  monkeypatch.setattr(scoring, 'score', score)
  lm = dataclasses.replace(
    nano(max_new_tokens=64, head='reward'), max_rows=2
  )  # in parts
  return dict.fromkeys(ROLES, lm) | {'solver': nano()}


def bind(lms, roles=ROLES, **rule):
  section = dict(reward_model=dict(roles=roles, **rule or dict(name='average')))
  return solution_scores.bind(section, lms)(PARAMS)


def num_tokens(lms, text):
  return len(lms['low'].encode_response(text))  # with its end


def test_scores_are_of_each_solution_in_its_place(lms):
  texts = RIGHT, WRONG, 'Hm.'
  solutions = [solution(lms['solver'], text) for text in texts]
  scored = bind(lms, ('low',))(solutions)
  for record, before, text in zip(scored, solutions, texts, strict=True):
    expected = num_tokens(lms, text)
    assert record.scores == {'score': expected, 'reward': expected}
    assert record.parsed == before.parsed | {'score': expected}
    assert record.text == text and len(record.tokens) == len(before.tokens)
  assert len({record.scores['score'] for record in scored}) > 1


@pytest.mark.parametrize(
  ('rule', 'more'),
  [
    (dict(name='average'), 5),
    (dict(name='worst_case'), 0),
    # The variance of n and n + 10 is 25.
    (dict(name='uncertainty_weighted', coef=0.1), 5 - 2.5),
  ],
)
def test_several_models_are_one_by_a_rule(lms, rule, more):
  [record] = bind(lms, **rule)([solution(lms['solver'], RIGHT)])
  assert record.scores['score'] == pytest.approx(num_tokens(lms, RIGHT) + more)


def test_a_solution_that_was_cut_is_read_without_an_end(lms):
  whole = solution(lms['solver'], RIGHT)
  cut = dataclasses.replace(whole, finish='length')
  scores = [r.scores['score'] for r in bind(lms, ('low',))([whole, cut])]
  assert scores == [num_tokens(lms, RIGHT), num_tokens(lms, RIGHT) - 1]


def test_what_cannot_be_read_has_no_score(lms):
  long = Problem('long', 'Zoe counts.' * 100, '1')
  refused = dataclasses.replace(solution(lms['solver'], ''), finish='prompt')
  solutions = [
    solution(lms['solver'], RIGHT, long),
    solution(lms['solver'], 'So ' * 99),
    refused,
    solution(lms['solver'], RIGHT),
  ]
  *unread, read = bind(lms, ('low',))(solutions)
  assert [record.scores for record in unread] == [{}] * 3
  assert read.scores['score'] == num_tokens(lms, RIGHT)
  assert [record.problem for record in unread] == [long, PROBLEM, PROBLEM]


def test_critiques_are_read_behind_their_own_prompt(lms):
  parent = solution(lms['solver'], RIGHT)
  texts = 'Verdict: correct', 'Hm.'
  stage = lms['solver'].stages.critique
  critiques = [
    rollout.write(stage, parent, text, i) for i, text in enumerate(texts)
  ]
  score = bind(lms, ('low',), name='average', stage='critique')
  expected = [num_tokens(lms, text) for text in texts]
  assert [c.scores['score'] for c in score(critiques)] == expected
  [(_, [read, _], _)] = batching.reread_batches(critiques, lms['low'])
  prompt = lms['low'].encode_prompt(stage.prompt(parent))
  assert read.prompt_tokens.tolist() == list(prompt)
  # Records of another stage stay as they are.
  assert score([parent]) == [parent] and not parent.scores
  assert bind(lms, ('low',))(critiques) == critiques and score([]) == []


def test_nobody_scores_if_nobody_is_asked(lms):
  assert solution_scores.bind({}, lms)(PARAMS) is None
  assert bind(lms, ()) is None


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    (
      dict(
        reward_model=dict(roles=('low',), name='average'),
        step_scores=dict(role='high', aggregate='minimum'),
      ),
      'expected one kind of score',
    ),
    (dict(reward_model=dict(roles=('low',), name='mean')), "got 'mean'"),
    (
      dict(reward_model=dict(roles=('low',), name='average', stage='refine')),
      "reward_model: stage: got 'refine'",
    ),
    (
      dict(reward_model=dict(roles=('solver',), name='average')),
      "models.solver: got head='lm'",
    ),
  ],
)
def test_wrong_settings(lms, section, message):
  with pytest.raises(ValueError, match=message):
    solution_scores.bind(section, lms)
