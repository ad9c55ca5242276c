"""Timo's pairs: a solver's own solutions, by what it says of them itself."""

import math

import jax
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)
from test_online_preference import by_stage, row_pairs, text_in

from configs import timo
from critic_jax.recipes import self_critic
from critic_jax.rollouts import pairing, stage_metrics

# Other texts of the right answer and of wrong ones; the critic knows them.
CALM = RIGHT.replace('Step 2', 'Step  2')
LATE = 'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\nThe answer is \\boxed{15}.'
TEXTS = (RIGHT, WRONG, CALM, LATE)
NONE = dict(approval=0.0, confidence=0.0, agreement=0.0)


def approves(*texts):
  """Makes a critic that calls these texts right."""

  def say(prompt, index):
    is_liked = any(f'\n{text}\nCritique:' in prompt for text in texts)
    return critique('correct' if is_liked else 'incorrect')

  return say


def refuse(prompt, index):
  return critique('incorrect')


def collect(texts=TEXTS, criticise=refuse, grade=grade, **changes):
  def write(prompt, index):
    is_asked = prompt.endswith('Critique:')
    return criticise(prompt, index) if is_asked else texts[index]

  lm = scripted(write, max_new_tokens=64)
  section = timo.self_critic(num_solutions=len(texts)) | dict(batch_size=2)
  recipe = make_recipe(
    self_critic, settings(section, **changes), {'solver': lm, 'ref': nano()},
    grade,
  )  # fmt: skip
  params = init(solver=nano())['solver']
  batch, records = recipe.collect(
    {'solver': None, 'ref': params}, [PROBLEM], jax.random.key(0)
  )
  assert set(stage_metrics.summary(records)) <= recipe.metrics
  pairs = [
    tuple(text_in(batch, row, lm) for row in pair)
    for pair in row_pairs(batch, recipe.rows_per_group)
  ]
  return recipe, batch, records, pairs


APPROVAL = dict(num_critiques=1, score=NONE | dict(approval=1.0))


def test_the_best_right_one_is_chosen_over_the_wrong_one_that_convinces():
  _, _, records, pairs = collect(criticise=approves(CALM, LATE), **APPROVAL)
  assert pairs == [(CALM, LATE)]
  solutions = by_stage(records, 'solve')
  assert [r.scores['approval'] for r in solutions] == [0.0, 0.0, 1.0, 1.0]
  critiques = by_stage(records, 'critique')
  assert [c.parent for c in critiques] == solutions


def test_what_the_critic_says_never_makes_a_wrong_answer_the_chosen_one():
  """A hard negative is one that is liked."""
  _, _, _, pairs = collect(criticise=approves(WRONG, LATE), **APPROVAL)
  assert pairs == [(RIGHT, WRONG)]


def test_without_weights_pairs_are_the_first_and_so_at_random():
  _, _, records, pairs = collect()
  assert pairs == [(RIGHT, WRONG)]
  assert not by_stage(records, 'critique')
  assert [r.scores['plausible'] for r in records] == [0.0] * 4


def test_confidence_is_the_mean_log_probability():
  # Scripts have -1 for every token: equal, so that the first are taken.
  _, _, records, pairs = collect(score=NONE | dict(confidence=1.0))
  assert pairs == [(RIGHT, WRONG)]
  assert [r.scores['confidence'] for r in records] == [-1.0] * 4


def test_agreement_takes_the_answer_that_is_given_most():
  _, _, records, pairs = collect(
    (RIGHT, WRONG, LATE, LATE), score=NONE | dict(agreement=1.0)
  )
  assert pairs == [(RIGHT, LATE)]
  assert [r.scores['agreement'] for r in records] == [0.25, 0.25, 0.5, 0.5]


def test_more_pairs_take_the_next_and_nothing_twice():
  _, _, _, pairs = collect(
    criticise=approves(CALM, LATE), max_pairs=9, **APPROVAL
  )
  assert pairs == [(CALM, LATE), (RIGHT, WRONG)]


@pytest.mark.parametrize('texts', [(RIGHT, CALM), (WRONG, LATE)])
def test_a_problem_of_one_kind_makes_no_pair(texts):
  recipe, batch, _, pairs = collect(texts)
  assert pairs == [] and not batch['mask'].any()
  total, _ = jax.jit(recipe.loss)(init(solver=nano()), batch)
  assert total == 0


def test_a_grade_that_is_open_is_not_rejected():
  def grade_in_time(pairs):
    return [
      'timeout' if text == WRONG else mark
      for (text, _), mark in zip(pairs, grade(pairs), strict=True)
    ]

  _, _, records, pairs = collect(grade=grade_in_time)
  assert pairs == [(RIGHT, LATE)]
  assert 'plausible' not in records[1].scores


@pytest.mark.parametrize('row_shapes', [(), ((2, 512),)])
def test_the_loss_begins_at_log_2(row_shapes):
  recipe, batch, _, _ = collect(row_shapes=row_shapes)
  total, (sums, _) = jax.jit(recipe.loss)(init(solver=nano()), batch)
  assert total == pytest.approx(math.log(2), rel=1e-4)
  assert recipe.scored == ('ref',) and recipe.trained == ('solver',)


def test_the_hardest_pair_has_the_highest_sum_of_scores():
  """Of all pairs of a right and a wrong one; by trying them all."""
  _, _, records, _ = collect(criticise=approves(CALM, LATE), **APPROVAL)
  solutions = by_stage(records, 'solve')
  [(chosen, rejected)] = pairing.hard_pairs(solutions, 1)

  def total(pair):
    return sum(r.scores['plausible'] for r in pair)

  others = [
    (a, b) for a in solutions for b in solutions
    if a.scores['reward'] > b.scores['reward']
  ]  # fmt: skip
  assert total((chosen, rejected)) == max(map(total, others))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(texts=(RIGHT,)), 'num_solutions: got 1; .* 2 or more'),
    (dict(max_pairs=0), 'max_pairs: got 0'),
    (dict(num_critiques=-1), 'num_critiques: got -1'),
    (dict(num_critiques=1), 'num_critiques: got 1 with score.approval=0'),
    (dict(score=NONE | dict(approval=1.0)), 'num_critiques: got 0'),
    (dict(score=dict(approval=1.0)), r"score: score: got \['approval'\]"),
    (dict(score=NONE | dict(aproval=1.0)), "did you mean 'approval'"),
    (dict(objective=dict(name='dpo', beta=0.0)), 'objective: beta: got 0.0'),
  ],
)
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(**changes)
