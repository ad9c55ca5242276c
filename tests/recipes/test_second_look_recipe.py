"""DeepCritic's cold start: critiques, second looks, merged texts."""

import jax
import numpy as np
import pytest
from loop_helpers import (
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  nano,
  problems,
  scripted,
  settings,
)
from test_cold_start_recipe import rows, solve_half

from configs import deepcritic
from critic_jax.recipes import second_look
from critic_jax.rollouts import second_looks

BY_CRITIC = dict(module='', name='')


def section(**changes):
  own = deepcritic.second_look() | dict(batch_size=8, aggregate='sequence')
  return settings(own, **changes)


def collect(critic=None, solve=solve_half, seed=0, **changes):
  models = {
    'solver': scripted(solve),
    'critic': critic or nano(max_new_tokens=240),
  }
  recipe = make_recipe(second_look, section(**changes), models, grade)
  roles = {'solver': None, 'critic': None}
  batch, records = recipe.collect(roles, problems(8), jax.random.key(seed))
  return recipe, models['critic'], batch, records


def of_stage(records, stage):
  return [record for record in records if record.stage == stage]


def flips(prompt, text):
  """Whether the judgement of the first critique in a text was wrong."""
  verdict = 'incorrect' if WRONG in prompt else 'correct'
  thoughts = text.split(second_looks.TRANSITION)[0]
  has_step = 'Step 1 is wrong' in thoughts or verdict == 'correct'
  return not (f'Verdict: {verdict}\n' in thoughts and has_step)


def test_doubts_that_put_a_judgement_right_are_imitated_first():
  _, critic, batch, records = collect(batch_size=4, num_critiques=6)
  assert len(of_stage(records, 'critique')) == 8 * 6
  assert len(of_stage(records, 'second_look')) == 8 * 6 * 4
  texts = rows(batch, critic)
  assert len(texts) == 4
  for prompt, text in texts:
    # Right verdicts only, and the first wrong step, which is labelled.
    conclusion = text.split('</think>')[1]
    assert (WRONG in prompt) == text.endswith('incorrect')
    assert ('Step 1 is wrong' in conclusion) == (WRONG in prompt)
  assert all(flips(*row) for row in texts)
  np.testing.assert_allclose(batch['weights'].sum(), 1.0, rtol=1e-6)
  # Where few were put right, others follow.
  _, critic, batch, _ = collect(batch_size=64, num_critiques=6)
  assert len({flips(*row) for row in rows(batch, critic)}) == 2


def test_only_those_are_imitated_if_asked():
  """Nobody is put right by one who agrees with everything."""
  section = deepcritic.second_look()
  who = dict(
    second_writer=section['second_writer'] | dict(check_share=0.0),
    writer=section['writer'] | dict(check_share=1.0, point_share=0.85),
  )
  _, critic, batch, _ = collect(**who, flipped_only=True)
  assert not rows(batch, critic)
  _, critic, batch, _ = collect(**who)
  assert len(rows(batch, critic)) == 8
  assert all('That is so.' in text for _, text in rows(batch, critic))


def test_scores_are_of_the_solution_and_parents_stay():
  _, _, _, records = collect()
  for record in of_stage(records, 'second_look'):
    first = record.parent
    assert first.stage == 'critique' and first in records
    solution = first.parent
    called_right = record.parsed['verdict'] == 'correct'
    if record.parsed['verdict']:
      is_right = solution.parsed['correct'] == called_right
      assert record.scores['judge'] == is_right
    assert {'judge', 'locate'} <= record.scores.keys()


def test_without_labels_of_steps_the_verdict_decides():
  _, critic, batch, records = collect(first_error=BY_CRITIC)
  assert all('locate' not in r.scores for r in records)
  assert any('There is a mistake.' in text for _, text in rows(batch, critic))


def test_the_critic_may_look_for_itself():
  def write(prompt, index):
    if 'Somebody has answered this' in prompt:
      verdict = 'incorrect' if WRONG in prompt else 'correct'
      return ['', critique(verdict, 'So.', 'Back.')][index]
    return critique('correct', 'Fine.', 'Hm.')

  critic = scripted(write, max_new_tokens=120, lengths=(384,))
  recipe, _, batch, records = collect(
    critic, writer=BY_CRITIC, second_writer=BY_CRITIC, num_looks=2,
    first_error=BY_CRITIC, batch_size=16,
  )  # fmt: skip
  assert [s.stage for s in recipe.sampled] == [
    'solve', 'critique', 'second_look',
  ]  # fmt: skip
  assert len(rows(batch, critic)) == 8 and len(critic.prompts) == 16
  assert len(of_stage(records, 'second_look')) == 16


def test_a_merged_text_that_is_too_long_takes_no_place():
  _, critic, batch, _ = collect(nano(max_new_tokens=40), batch_size=16)
  assert not rows(batch, critic) and not batch['weights'].any()


def test_the_key_decides_what_is_written_and_kept():
  tokens = [collect(seed=seed)[2]['tokens'].tobytes() for seed in (0, 0, 1)]
  assert tokens[0] == tokens[1] != tokens[2]


def test_the_loss_is_the_negative_log_probability_of_the_kept():
  recipe, critic, batch, _ = collect()
  total, (sums, _) = jax.jit(recipe.loss)(init(critic=critic), batch)
  assert abs(float(total) - np.log(640)) < 2
  assert float(sums['loss/nll']) == float(total)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_looks=0), 'num_looks: got 0'),
    (dict(batch_size=1), 'batch_size: got 1'),
    (dict(second_writer=deepcritic.second_look()['writer']),
     r'second_writer: got teacher_critique\(solution, rng\)'),
    (dict(first_error=dict(module='arithmetic', name='work')), 'first_error'),
  ],
)  # fmt: skip
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(**changes)
