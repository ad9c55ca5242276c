import jax
import numpy as np
import pytest
from loop_helpers import (
  ADVICE,
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

from critic_jax.recipes import cold_start
from critic_jax.rollouts import balance

TEACHER = dict(
  module='arithmetic_lessons',
  name='teacher_critique',
  check_share=1.0,
  correct_share=0.5,
  point_share=0.25,
)


def section(**changes):
  return settings(
    dict(
      batch_size=4,
      aggregate='sequence',
      num_solutions=1,
      num_critiques=3,
      writer=TEACHER,
    ),
    **changes,
  )


def solve_half(prompt, index):
  """Solves every second problem of the world."""
  problem = next(p for p in problems(8) if p.question in prompt)
  number = int(problem.id.split('-')[-1])
  return problem.solution if number % 2 else WRONG


def collect(critic=None, solve=solve_half, seed=0, count=8, **changes):
  models = {
    'solver': scripted(solve),
    'critic': critic or nano(max_new_tokens=64),
  }
  recipe = make_recipe(cold_start, section(**changes), models, grade)
  roles = {'solver': None, 'critic': None}
  batch, records = recipe.collect(roles, problems(count), jax.random.key(seed))
  return recipe, models['critic'], batch, records


def rows(batch, critic):
  """Returns prompts and texts of the rows that are not empty."""
  records = []
  for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True):
    if mask.any():
      start = np.flatnonzero(mask)[0]
      records.append(
        (
          critic.tokenizer.decode(tokens[:start]),
          critic.tokenizer.decode(tokens[mask][:-1]),
        )
      )
  return records


def test_the_teacher_is_imitated_in_equal_parts():
  _, critic, batch, records = collect()
  assert len([r for r in records if r.stage == 'critique']) == 8 * 3
  rows_trained = rows(batch, critic)
  assert len(rows_trained) == 4
  verdicts = [text.rsplit('Verdict: ', 1)[1] for _, text in rows_trained]
  assert sorted(verdicts) == ['correct', 'correct', 'incorrect', 'incorrect']
  for prompt, text in rows_trained:
    assert prompt.rstrip().endswith('Critique:')
    assert text.startswith('<think>')
    # Right verdicts only: the wrong solution's is 'incorrect'.
    assert (WRONG in prompt) == text.endswith('incorrect')
  np.testing.assert_allclose(batch['weights'].sum(), 1.0, rtol=1e-6)


def test_wrong_verdicts_are_never_kept():
  """A teacher who never checks is right half of the time."""
  writer = TEACHER | dict(check_share=0.0)
  for seed in range(3):
    _, critic, batch, _ = collect(seed=seed, writer=writer, batch_size=24)
    rows_trained = rows(batch, critic)
    assert 4 <= len(rows_trained) < 24
    for prompt, text in rows_trained:
      assert (WRONG in prompt) == text.endswith('incorrect')


def test_what_one_kind_of_solution_lacks_the_other_does_not_fill():
  _, critic, batch, _ = collect(solve=lambda prompt, index: WRONG)
  assert not rows(batch, critic) and not batch['weights'].any()


def test_the_critic_may_write_for_itself():
  def write(prompt, index):
    if index == 2:
      return 'I do not know.'
    return critique('incorrect' if index else 'correct', ADVICE)

  critic = scripted(write, max_new_tokens=64)
  writer = dict(module='', name='')
  _, _, batch, records = collect(critic, writer=writer, batch_size=16)
  # 4 of 8 solutions are wrong; each has one right verdict of three.
  assert len(rows(batch, critic)) == 8
  assert len(critic.prompts) == 8
  critiques = [r for r in records if r.scores.get('judge') == 1.0]
  assert len(critiques) == 8


def test_a_critique_cut_off_is_not_imitated():
  def judge_rightly(prompt, index):
    verdict = 'incorrect' if WRONG in prompt else 'correct'
    return critique(verdict) + '\n' * 1000

  critic = scripted(judge_rightly, max_new_tokens=64)
  _, _, batch, records = collect(critic, writer=dict(module='', name=''))
  critiques = [r for r in records if r.stage == 'critique']
  assert all(r.truncated and r.parsed['status'] == 'ok' for r in critiques)
  assert not batch['mask'].any()


def test_balance_by_hand():
  _, _, _, records = collect()
  critiques = [r for r in records if r.stage == 'critique']
  right = [c for c in critiques if c.parent.parsed['correct']]
  wrong = [c for c in critiques if not c.parent.parsed['correct']]
  for candidates, expected in (
    (right[:5] + wrong[:3], 3),
    (right[:1] + wrong, 1),
    (wrong, 0),
    ([], 0),
  ):
    balanced = balance.balanced(candidates, 100)
    assert len(balanced) == 2 * expected
    assert sum(c.parent.parsed['correct'] for c in balanced) == expected
  # Those that come first are kept.
  balanced = balance.balanced(critiques, 7)
  assert balanced == right[:3] + wrong[:3]


def test_the_key_decides_what_is_written_and_kept():
  tokens = [collect(seed=seed)[2]['tokens'].tobytes() for seed in (0, 0, 1)]
  assert tokens[0] == tokens[1] != tokens[2]


def test_the_loss_is_the_negative_log_probability_of_the_kept():
  recipe, critic, batch, _ = collect()
  params = init(critic=critic)
  grad = jax.jit(jax.value_and_grad(recipe.loss, has_aux=True))
  (total, (metrics, _)), gradient = grad(params, batch)
  assert abs(float(total) - np.log(640)) < 2
  assert float(metrics['loss/nll']) == float(total)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
  # Without a kept critique nothing is learned, and nothing is NaN.
  (total, _), gradient = grad(
    params, {**batch, 'weights': np.zeros_like(batch['weights'])}
  )
  assert float(total) == 0.0
  assert not any(np.any(g) for g in jax.tree.leaves(gradient))


def test_a_batch_of_one_never_has_one_of_each_kind():
  with pytest.raises(ValueError, match='batch_size: got 1'):
    collect(batch_size=1)


def test_wrong_writers_fail_when_the_recipe_is_made():
  models = {'solver': nano(), 'critic': nano()}
  for writer, message in (
    (dict(module='arithmetics', name='x'), "mean 'arithmetic'"),
    (TEACHER | dict(name='teacher'), "got 'teacher'"),
    (TEACHER | dict(check_shar=0.1), "mean 'check_share'"),
  ):
    with pytest.raises(ValueError, match=message):
      make_recipe(cold_start, section(writer=writer), models, grade)
