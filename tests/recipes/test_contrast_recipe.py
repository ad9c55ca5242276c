"""MMC's training of a critic: paths, contrasts, what is kept and counted."""

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  init,
  make_recipe,
  nano,
  problems,
  scripted,
  settings,
)
from test_cold_start_recipe import rows

from configs import mmc
from critic_jax.recipes import contrast
from critic_jax.rollouts import stage_metrics

CONTRASTED = dict(module='arithmetic_contrasts', name='contrasted')
ALONE = dict(module='arithmetic_contrasts', name='alone', hard_share=0.2)
# As WRONG has it, but for the second step.
LATE = 'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\nThe answer is \\boxed{15}.'


def solve(prompt, index):
  """Solves every second problem, by two of four paths; the others never."""
  if PROBLEM.question in prompt:
    return [RIGHT, WRONG, LATE, RIGHT][index]
  problem = next(p for p in problems(8) if p.question in prompt)
  number = int(problem.id.split('-')[-1])
  return problem.solution if number % 2 and index % 2 else WRONG


def collect(solve=solve, seed=0, examples=None, max_new_tokens=96, **changes):
  own = mmc.contrast(CONTRASTED) | dict(batch_size=8, aggregate='sequence')
  models = {
    'solver': scripted(solve),
    'critic': nano(max_new_tokens=max_new_tokens),
  }
  recipe = make_recipe(contrast, settings(own, **changes), models, grade)
  batch, records = recipe.collect(
    {'solver': None, 'critic': None}, examples or [PROBLEM],
    jax.random.key(seed),
  )  # fmt: skip
  return recipe, models['critic'], batch, records


def of_stage(records, stage):
  return [record for record in records if record.stage == stage]


def test_each_path_is_criticised_where_it_leaves_a_right_one():
  _, critic, batch, records = collect()
  solutions = of_stage(records, 'solve')
  critiques = of_stage(records, 'critique')
  assert [c.parent for c in critiques] == solutions
  assert [c.parsed['step'] for c in critiques] == [None, 0, 1, None]
  assert 'It should be\nStep 2: 7 * 2 = 14' in critiques[2].text
  assert [c.scores for c in critiques] == [
    {'judge': 1.0, 'locate': 1.0, 'reward': 1.0}
  ] * 4
  texts = rows(batch, critic)
  assert sorted(text for _, text in texts) == sorted(c.text for c in critiques)
  for prompt, text in texts:
    # The critic reads the path alone: it has no right one later.
    assert (RIGHT in prompt) == text.endswith('Verdict: correct')
  np.testing.assert_allclose(batch['weights'].sum(), 1.0, rtol=1e-6)


def test_paths_of_a_problem_that_none_solves_are_counted_and_not_criticised():
  recipe, critic, batch, records = collect(
    examples=problems(8), batch_size=32, first_error=dict(module='')
  )
  assert len(of_stage(records, 'solve')) == 8 * 4
  critiques = of_stage(records, 'critique')
  assert len(critiques) == 4 * 4 == len(rows(batch, critic))
  assert all('locate' not in c.scores for c in critiques)
  metrics = stage_metrics.summary(records)
  # Of 4 * 2 + 4 * 4 wrong paths, those of the problems that are solved.
  assert metrics['solve/contrasted'] == pytest.approx(8 / 24)
  assert metrics['solve/count'] == 32 and metrics['critique/count'] == 16
  assert set(metrics) <= recipe.metrics


def test_without_a_right_path_nothing_is_learned():
  _, _, batch, records = collect(lambda prompt, index: WRONG)
  assert not batch['mask'].any() and not of_stage(records, 'critique')
  assert stage_metrics.summary(records)['solve/contrasted'] == 0.0


def test_without_a_wrong_path_nothing_is_learned():
  """It would learn to say that all is right."""
  recipe, _, batch, records = collect(lambda prompt, index: RIGHT)
  assert not batch['mask'].any() and len(of_stage(records, 'critique')) == 4
  metrics = stage_metrics.summary(records)
  assert 'solve/contrasted' not in metrics and set(metrics) <= recipe.metrics


def test_a_wrong_label_is_measured_and_kept():
  """The right answer after the same slip is nearer than the right path."""
  lucky = WRONG.replace('16', '14')
  _, critic, batch, records = collect(
    lambda prompt, index: [RIGHT, WRONG, lucky, WRONG][index]
  )
  critiques = of_stage(records, 'critique')
  assert [c.parsed['step'] for c in critiques] == [None, 1, None, 1]
  assert [c.scores['locate'] for c in critiques] == [1, 0, 0, 0]
  assert [c.scores['reward'] for c in critiques] == [1] * 4
  assert len(rows(batch, critic)) == 4


def test_who_reads_a_path_alone_has_the_same_paths():
  by_writer = [
    of_stage(collect(examples=problems(8), writer=writer)[3], 'critique')
    for writer in (CONTRASTED, ALONE)
  ]
  parents = [[c.parent.id for c in critiques] for critiques in by_writer]
  assert parents[0] == parents[1] and len(parents[0]) == 16
  assert [c.scores['judge'] for c in by_writer[0]] == [1.0] * 16
  judged = [c.scores['judge'] for c in by_writer[1]]
  assert 0 < sum(judged) < 16


def test_a_critique_that_the_outcome_refutes_is_not_kept():
  for seed in range(3):
    _, critic, batch, records = collect(
      seed=seed, examples=problems(8), writer=ALONE, batch_size=32
    )
    kept = rows(batch, critic)
    right = [c for c in of_stage(records, 'critique') if c.scores['judge']]
    assert 2 <= len(kept) <= len(right) < 16
    for prompt, text in kept:
      assert (WRONG in prompt) == text.endswith('incorrect')


def test_a_critique_that_does_not_fit_takes_no_place():
  _, critic, batch, records = collect(max_new_tokens=16)
  assert all(c.refused for c in of_stage(records, 'critique'))
  assert not batch['mask'].any()


@pytest.mark.parametrize('writer', [CONTRASTED, ALONE])
def test_the_key_decides_what_is_written_and_kept(writer):
  changes = dict(examples=problems(8), writer=writer)
  tokens = [
    collect(seed=s, **changes)[2]['tokens'].tobytes() for s in (0, 0, 1)
  ]
  assert tokens[0] == tokens[1] != tokens[2]


def test_the_loss_is_the_negative_log_probability_of_the_kept():
  recipe, critic, batch, _ = collect()
  total, (sums, _) = jax.jit(recipe.loss)(init(critic=critic), batch)
  assert abs(float(total) - np.log(640)) < 2
  assert float(sums['loss/nll']) == float(total)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_solutions=1), 'num_solutions: got 1; expected an integer of 2'),
    (dict(num_solutions=0), 'num_solutions: got 0'),
    (dict(batch_size=1), 'batch_size: got 1'),
    (dict(writer=dict(module='')), 'writer: '),
    (dict(writer=CONTRASTED | dict(name='contrast')), "mean 'contrasted'"),
    (dict(writer=CONTRASTED | dict(hard_share=0.2)), "got 'hard_share'"),
    (dict(writer=dict(module='lessons', name='reference')),
     r'writer: got reference\(problem, rng\)'),
    (dict(first_error=dict(module='arithmetic', name='work')), 'first_error'),
  ],
)  # fmt: skip
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(**changes)
