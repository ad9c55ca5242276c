"""MultiCritique's flow of data: critiques, several refiners, values, pairs."""

import dataclasses
import math
import random

import jax
import pytest
from loop_helpers import (
  ADVICE,
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

from configs import multi_critique as config
from critic_jax.recipes import multi_critique
from critic_jax.rollouts import stage_metrics
from critic_jax.tasks import arithmetic_labels

GOOD = critique('incorrect', ADVICE)
BAD = critique('incorrect', 'Step 2 is wrong. It should be\nStep 2: 8 * 2 = 15')
PRAISE = critique('correct', 'Every step is right.')
SILENT = 'Hm.'
TEXTS = (GOOD, BAD, PRAISE, SILENT)


def follows(prompt, index):
  """Refines rightly by good advice."""
  return RIGHT if ADVICE in prompt else WRONG


def half(prompt, index):
  """Refines rightly every second time, by any advice."""
  return WRONG if index % 2 else RIGHT


def misled(prompt, index):
  """Refines rightly by bad advice."""
  return WRONG if ADVICE in prompt else RIGHT


def collect(
  scripts, texts=TEXTS, solution=WRONG, examples=None, grade=grade, **changes
):
  """Collects a step with refiners who have scripts, by role."""
  models = {role: scripted(script) for role, script in scripts.items()}
  models['solver'] = scripted(lambda prompt, index: solution)
  models['critic'] = scripted(
    lambda prompt, index: texts[index], max_new_tokens=64
  )
  models['ref'] = nano()
  section = settings(
    config.preference(
      refiners=tuple(scripts), num_critiques=len(texts), max_pairs=9
    )
    | dict(batch_size=1),
    **changes,
  )
  recipe = make_recipe(multi_critique, section, models, grade)
  params = init(critic=nano())['critic']
  roles = dict.fromkeys(scripts) | dict(solver=None, critic=params, ref=params)
  batch, records = recipe.collect(
    roles, examples or [PROBLEM], jax.random.key(0)
  )
  return recipe, models, batch, records


def pairs_in(recipe, models, batch):
  """Returns the texts of pairs, the chosen one first."""
  return [
    tuple(text_in(batch, row, models['critic']) for row in pair)
    for pair in row_pairs(batch, recipe.rows_per_group)
  ]


def test_a_critique_is_worth_the_mean_over_refiners():
  recipe, models, batch, records = collect(dict(a=follows, b=half))
  critiques = by_stage(records, 'critique')
  # (2/2 + 1/2) / 2, (0/2 + 1/2) / 2; praise leaves a wrong solution wrong.
  values = [0.75, 0.25, 0.0, 0.0]
  assert [c.scores['value'] for c in critiques] == values
  assert [c.scores['reward'] for c in critiques] == values
  assert [c.scores['hint'] for c in critiques] == [1.0, 0.0, 0.0, 0.0]
  assert sorted(pairs_in(recipe, models, batch)) == sorted(
    [(GOOD, BAD), (GOOD, PRAISE), (GOOD, SILENT), (BAD, PRAISE), (BAD, SILENT)]
  )
  # Of six pairs one is a tie; the hint agrees on the three that it knows.
  metrics = stage_metrics.summary(records)
  assert metrics['critique/tied'] == pytest.approx(1 / 6)
  assert metrics['critique/ordered'] == 1.0
  assert metrics['refine/count'] == 2 * 2 * 2
  assert set(metrics) <= recipe.metrics


def test_refinements_are_numbered_through_and_know_who_refined():
  _, models, _, records = collect(dict(a=follows, b=half))
  refinements = by_stage(records, 'refine')
  parents = [c for c in by_stage(records, 'critique') if c.text in (GOOD, BAD)]
  for parent in parents:
    own = [r for r in refinements if r.parent is parent]
    assert [(r.index, r.parsed['refiner']) for r in own] == [
      (0, 'a'), (1, 'a'), (2, 'b'), (3, 'b')
    ]  # fmt: skip
  ids = [record.id for record in records]
  assert len({*ids}) == len(ids)
  # Both are asked the same, and nobody sees the thinking.
  assert models['a'].prompts == models['b'].prompts != []
  assert not any('Hm.' in prompt for prompt in models['a'].prompts)


def test_the_misled_refiner_is_overruled_by_two_others():
  texts = (GOOD, BAD)
  alone, models, batch, records = collect(dict(a=misled), texts)
  assert pairs_in(alone, models, batch) == [(BAD, GOOD)]
  assert stage_metrics.summary(records)['critique/ordered'] == 0.0
  several, models, batch, records = collect(
    dict(a=misled, b=follows, c=follows), texts
  )
  assert pairs_in(several, models, batch) == [(GOOD, BAD)]
  assert stage_metrics.summary(records)['critique/ordered'] == 1.0


def test_within_the_margin_there_is_no_pair():
  # 0.75 and 0.25, so 0.5 apart.
  for margin, num_pairs in ((0.4, 1), (0.5, 0)):
    recipe, models, batch, records = collect(
      dict(a=follows, b=half), (GOOD, BAD), margin=margin
    )
    assert len(pairs_in(recipe, models, batch)) == num_pairs
    tied = stage_metrics.summary(records)['critique/tied']
    assert tied == 1 - num_pairs


def test_equal_critiques_teach_nothing():
  recipe, _, batch, records = collect(dict(a=half), (GOOD, BAD))
  assert not batch['mask'].any()
  metrics = stage_metrics.summary(records)
  assert metrics['critique/tied'] == 1.0 and 'critique/ordered' not in metrics
  params = {'critic': init(critic=nano())['critic']}
  total, (sums, _) = jax.jit(recipe.loss)(params, batch)
  assert total == 0 and not any(map(float, sums.values()))


def test_a_right_solution_that_is_called_right_stays_right():
  """A false alarm costs what it makes refiners break."""
  recipe, models, batch, records = collect(
    dict(a=half), solution=RIGHT, texts=(BAD, PRAISE)
  )
  values = [c.scores['value'] for c in by_stage(records, 'critique')]
  assert values == [0.5, 1.0]
  assert pairs_in(recipe, models, batch) == [(PRAISE, BAD)]
  # Whoever is asked always may break it, too.
  _, _, _, records = collect(
    dict(a=half), solution=RIGHT, texts=(BAD, PRAISE), gate='always'
  )
  values = [c.scores['value'] for c in by_stage(records, 'critique')]
  assert values == [0.5, 0.5]


def test_a_timeout_of_one_refiner_leaves_the_value_open():
  def grade_in_time(pairs):
    grades = grade(pairs)
    return [
      'timeout' if text.startswith('late') else g
      for (text, _), g in zip(pairs, grades, strict=True)
    ]

  late = dict(
    a=follows,
    b=lambda prompt, index: 'late' if ADVICE in prompt else WRONG,
  )
  recipe, models, batch, records = collect(
    late, (GOOD, BAD, PRAISE), grade=grade_in_time
  )
  good, *others = by_stage(records, 'critique')
  assert 'value' not in good.scores and 'tied' not in good.scores
  assert [c.scores['tied'] for c in others] == [1.0, 1.0]
  assert not batch['mask'].any()


def test_given_solutions_and_nobody_who_knows_the_lines():
  given = arithmetic_labels.solution(PROBLEM, True, random.Random(0))
  given = dataclasses.replace(given, text=WRONG)
  recipe, models, batch, records = collect(
    dict(a=follows), num_solutions=0, examples=[given],
    corrections=dict(module=''),
  )  # fmt: skip
  assert recipe.takes_solutions
  assert [(s.stage, s.role) for s in recipe.sampled] == [
    ('critique', 'critic'), ('refine', 'a')
  ]  # fmt: skip
  assert {(GOOD, BAD), (GOOD, PRAISE)} <= {*pairs_in(recipe, models, batch)}
  assert (
    not {'hint', 'ordered'} & by_stage(records, 'critique')[0].scores.keys()
  )


@pytest.mark.parametrize('row_shapes', [(), ((2, 512),)])
def test_the_loss_begins_at_log_2(row_shapes):
  recipe, _, batch, _ = collect(dict(a=follows), row_shapes=row_shapes)
  params = {'critic': init(critic=nano())['critic']}
  total, (sums, _) = jax.jit(recipe.loss)(params, batch)
  assert total == pytest.approx(math.log(2), rel=1e-4)
  assert sums['preference/margin'] == pytest.approx(0, abs=1e-4)
  assert recipe.scored == ('ref',) and recipe.trained == ('critic',)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(refiners=()), r'refiners: got \(\); expected roles'),
    (dict(refiners=('a', 'a')), r"refiners: got \('a', 'a'\); .* list them"),
    (dict(refiners=('b',)), r"models: got .*; expected also \['b'\]"),
    (dict(gate='rightly_called_wrong'), "gate: got 'rightly_called_wrong'"),
    (dict(margin=1.0), 'margin: got 1.0; expected less than 1'),
    (dict(margin=-0.5), 'margin: got -0.5'),
    (dict(num_critiques=1), 'num_critiques: got 1; .* 2 or more'),
    (dict(num_refinements=0), 'num_refinements: got 0'),
    (dict(max_pairs=0), 'max_pairs: got 0'),
    (dict(num_solutions=-1), 'num_solutions: got -1'),
    (dict(corrections=dict(module='arithmetic', name='work')), 'corrections: '),
    (dict(corrections=dict(module='arithmetic_points', name='correction')),
     "mean 'corrections'"),
    (dict(objective=dict(name='dpo', beta=0.0)), 'objective: beta: got 0.0'),
    (dict(objective=dict(name='sppo', eta=1.0)), "got 'sppo', a game"),
  ],
)  # fmt: skip
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(dict(a=half), **changes)
