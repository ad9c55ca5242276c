"""Critic-V's flow of data: planted errors, critiques, scores, pairs."""

import math
import random

import jax
import numpy as np
import pytest
from loop_helpers import (
  critique,
  grade,
  init,
  make_recipe,
  nano,
  problems,
  scripted,
  settings,
)

from configs import critic_v
from critic_jax.recipes import online_preference
from critic_jax.rewards import verdicts
from critic_jax.tasks import arithmetic_labels

NAMED = ((), (1,), (1, 2), (2, 3))  # the steps that each critique calls wrong


def list_steps(prompt, index):
  steps = NAMED[index]
  if not steps:
    return critique('correct', 'Every step is right.')
  return critique('incorrect', '\n'.join(f'Step {k} is wrong.' for k in steps))


def section(**changes):
  return settings(
    critic_v.online_preference(num_critiques=4, max_pairs=2)
    | dict(batch_size=6),
    **changes,
  )


def make(critic=None, **changes):
  lm = critic or scripted(list_steps, max_new_tokens=64)
  models = {'critic': lm, 'ref': nano(), 'solver': scripted(solve)}
  recipe = make_recipe(online_preference, section(**changes), models, grade)
  return recipe, lm


def solve(prompt, index):
  """Takes the first line of each problem to be 1 more than it is."""
  problem = next(p for p in problems(8) if p.question in prompt)
  first, *_ = problem.solution.split('\n')
  start, result = first.rsplit(' ', 1)
  return f'{start} {int(result) + 1}'


@pytest.fixture(scope='module')
def roles():
  params = init(critic=nano())['critic']
  return {'critic': params, 'ref': params, 'solver': None}


def collect(roles, seed=0, **changes):
  recipe, lm = make(**changes)
  batch, records = recipe.collect(roles, problems(6), jax.random.key(seed))
  return recipe, lm, batch, records


def by_stage(records, stage):
  return [record for record in records if record.stage == stage]


def row_pairs(batch, rows_per_group):
  """Returns the plain rows of each pair, the chosen one first."""
  bits = batch['pairs'].max(axis=1)
  return [
    (row, row - row % rows_per_group + other)
    for row in range(len(bits))
    for other in range(rows_per_group)
    if bits[row] >> other & 1
  ]


def text_in(batch, row, lm):
  return lm.tokenizer.decode(batch['tokens'][row][batch['mask'][row]][:-1])


def test_pairs_are_siblings_and_the_chosen_one_lists_more_of_what_is_wrong(
  roles,
):
  recipe, lm, batch, records = collect(roles, score=dict(
    judge=0.0, overlap=1.0, agreement=0.0
  ))  # fmt: skip
  solutions = by_stage(records, 'solve')
  expected = []
  for solution in solutions:
    marks = arithmetic_labels.step_marks(solution.problem, solution.text)
    assert solution.parsed['marks'] == marks
    wrong = {i + 1 for i, is_wrong in enumerate(marks) if is_wrong}
    scores = [
      len(wrong & {*named}) / len(wrong | {*named}) if wrong or named else 1.0
      for named in NAMED
    ]
    siblings = [c for c in records if c.parent is solution]
    assert [c.scores['overlap'] for c in siblings] == pytest.approx(scores)
    assert [c.scores['reward'] for c in siblings] == pytest.approx(scores)
    gaps = sorted(
      (a - b for a in scores for b in scores if a > b), reverse=True
    )
    expected += gaps[:2]
  assert len(solutions) == 6
  steps = {
    list_steps('', i): {k - 1 for k in named} for i, named in enumerate(NAMED)
  }
  pairs = row_pairs(batch, recipe.rows_per_group)
  assert len(pairs) == len(expected) > 6
  for chosen, rejected in pairs:
    chosen, rejected = (text_in(batch, r, lm) for r in (chosen, rejected))
    assert verdicts.wrong_steps(chosen) == steps[chosen]
    assert chosen != rejected
  # In the order of the solutions, and a response once, however many pairs.
  assert batch['mask'].any(axis=1).sum() == len({*sum(pairs, ())})
  rewards = {
    (c.text, tuple(c.prompt_tokens)): c.scores['reward']
    for c in by_stage(records, 'critique')
  }
  gaps = []
  for pair in pairs:
    scores, prompts = [], []
    for r in pair:
      start = batch['mask'][r].argmax()
      prompts.append(tuple(batch['tokens'][r][:start]))
      scores.append(rewards[text_in(batch, r, lm), prompts[-1]])
    assert prompts[0] == prompts[1], 'of one solution'
    gaps.append(scores[0] - scores[1])
  np.testing.assert_allclose(sorted(gaps), sorted(expected), rtol=1e-6)


def test_other_steps_plant_other_errors(roles):
  texts = [
    [r.text for r in by_stage(collect(roles, seed)[3], 'solve')]
    for seed in (0, 0, 1)
  ]
  assert texts[0] == texts[1] != texts[2]


def test_the_solver_s_own_errors_are_marked_too(roles):
  recipe, _, batch, records = collect(
    roles, writer=dict(module=''), max_pairs=1
  )
  solutions = by_stage(records, 'solve')
  assert {tuple(s.parsed['marks'][:2]) for s in solutions} == {(True, True)}
  assert [s.role for s in recipe.sampled] == ['solver', 'critic']
  # (1, 2) is chosen over (): it is all that is wrong.
  assert batch['mask'].any(axis=1).sum() == 2 * 6


def test_given_solutions_are_critiqued_as_they_are(roles):
  recipe, _ = make(num_solutions=0)
  given = [
    arithmetic_labels.solution(problem, bool(i % 2), random.Random(i))
    for i, problem in enumerate(problems(6))
  ]
  batch, records = recipe.collect(roles, given, jax.random.key(0))
  solutions = by_stage(records, 'solve')
  assert [s.text for s in solutions] == [s.text for s in given]
  assert [sum(s.parsed['marks']) for s in solutions] == [0, 1] * 3
  assert [s.role for s in recipe.sampled] == ['critic']
  assert recipe.takes_solutions and batch['mask'].any()


def test_equal_critiques_make_no_pair(roles):
  critic = scripted(lambda prompt, index: list_steps(prompt, 1))
  recipe, _, batch, _ = collect(roles, critic=critic)
  assert not batch['mask'].any()
  total, (sums, _) = jax.jit(recipe.loss)({'critic': roles['critic']}, batch)
  assert total == 0 and not any(map(np.any, sums.values()))


def test_the_best_plays_against_the_worst_by_three_raters(roles):
  """Win rates by hand, of rules that need not agree; then DNO's first loss."""
  rules = ('judge', 'overlap', 'agreement')
  recipe, lm, batch, records = collect(
    roles, max_pairs=1, score=dict.fromkeys(rules, 1.0),
    preference=dict(name='raters'), objective=dict(name='dno', eta=0.1),
  )  # fmt: skip
  gaps = []
  for solution in by_stage(records, 'solve'):
    siblings = [c for c in records if c.parent is solution]
    rates = []
    for one in siblings:
      wins = [
        (one.scores[rule] > c.scores[rule])
        + (one.scores[rule] == c.scores[rule]) / 2
        for c in siblings
        if c is not one
        for rule in rules
      ]
      rates.append(sum(wins) / len(wins))
    assert [c.scores['reward'] for c in siblings] == pytest.approx(rates)
    assert sum(rates) == pytest.approx(len(rates) / 2)
    gaps.append(max(rates) - min(rates))
  rewards = np.where(batch['mask'], batch['rewards'], 0).sum(axis=1)
  pairs = row_pairs(batch, recipe.rows_per_group)
  actual = [rewards[chosen] - rewards[rejected] for chosen, rejected in pairs]
  np.testing.assert_allclose(actual, [gap for gap in gaps if gap], rtol=1e-5)
  # Nothing but the critic is read, and it is where it sampled.
  assert recipe.scored == ('critic',)
  total, (sums, _) = jax.jit(recipe.loss)({'critic': roles['critic']}, batch)
  assert total == pytest.approx(math.log(2), rel=1e-5)
  assert sums['preference/margin'] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('row_shapes', [(), ((6, 512),)])
def test_the_loss_begins_at_log_2(roles, row_shapes):
  """Also where pairs are packed behind their prompts, in two parts."""
  recipe, _, batch, _ = collect(roles, row_shapes=row_shapes, microbatches=2)
  assert ('segments' in batch) == bool(row_shapes)
  total, _ = jax.jit(recipe.loss)({'critic': roles['critic']}, batch)
  assert total == pytest.approx(math.log(2), rel=1e-4)
  assert recipe.num_rows == 4 * 6 and recipe.rows_per_group == 4
  assert recipe.scored == ('ref',) and recipe.corrects_staleness


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_critiques=1), 'num_critiques: got 1; .* 2 or more'),
    (dict(max_pairs=0), 'max_pairs: got 0'),
    (dict(step_marks=dict(module='')), 'score: got .* without marks'),
    (dict(step_marks=dict(module='arithmetic', name='first_error'),
          writer=dict(module='lessons', name='referenc')), "'reference'"),
    (dict(score=dict(judge=0.0, overlap=0.0, agreement=0.0)), 'no weight'),
    (dict(score=dict(judge=1.0, overlap=0.0)), 'agreement'),
    (dict(score=dict(judg=1.0, overlap=0.0, agreement=0.0)), "mean 'judge'"),
    (dict(score=dict(judge='1', overlap=0.0, agreement=0.0)), 'judge: got'),
    (dict(objective=dict(name='dpo', beta=0.0)), 'objective: beta: got 0.0'),
    (dict(objective=dict(name='sppo')), "got 'sppo', a game .* set the pref"),
    (dict(preference=dict(name='raters'), objective=dict(name='inpo', eta=0.0)),
     'objective: eta: got 0.0'),
    (dict(preference=dict(name='bradley_terry', temperature=-1.0)),
     'preference: temperature: got -1.0'),
    (dict(microbatches=24), 'microbatches: got 24; .* groups of 4'),
  ],
)  # fmt: skip
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)
