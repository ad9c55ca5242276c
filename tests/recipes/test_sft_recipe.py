import dataclasses

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  grade,
  init,
  make_recipe,
  nano,
  problems,
  settings,
)

from critic_jax.models import forward
from critic_jax.recipes import sft
from critic_jax.tasks import arithmetic_labels


def section(**changes):
  return settings(
    dict(
      role='solver',
      batch_size=4,
      aggregate='token',
      lessons=dict(module='lessons', name='reference'),
    ),
    **changes,
  )


@pytest.fixture(scope='module')
def lm():
  return nano()


@pytest.fixture(scope='module')
def params(lm):
  return init(solver=lm)


def test_rows_are_the_lessons_after_their_prompts(lm):
  recipe = make_recipe(sft, section(), {'solver': lm}, grade)
  batch, records = recipe.collect({}, problems(3), jax.random.key(0))
  assert [r.problem for r in records] == problems(3)
  for row, (problem, record) in enumerate(
    zip(problems(3), records, strict=True)
  ):
    prompt = lm.encode_prompt(lm.stages.solve.prompt(problem))
    answer = lm.encode_response(problem.solution)
    mask = batch['mask'][row]
    assert batch['tokens'][row, : len(prompt)].tolist() == prompt
    assert batch['tokens'][row][mask].tolist() == answer
    assert np.flatnonzero(mask)[0] == len(prompt)
    assert record.text == problem.solution
  assert not batch['mask'][3].any()  # batch_size is 4
  np.testing.assert_allclose(batch['weights'].sum(), 1.0, rtol=1e-6)


def test_the_loss_is_the_mean_negative_log_probability(lm, params):
  recipe = make_recipe(sft, section(), {'solver': lm}, grade)
  batch, _ = recipe.collect({}, problems(3), jax.random.key(0))
  total, (metrics, _) = jax.jit(recipe.loss)(params, batch)
  logits = np.asarray(
    jax.jit(forward.logits, static_argnums=0)(
      lm.model, params['solver'], batch['tokens']
    ),
    np.float64,
  )
  nll = count = 0.0
  for b, t in zip(*np.nonzero(batch['mask']), strict=True):
    row = logits[b, t - 1]
    nll -= row[batch['tokens'][b, t]] - np.log(np.exp(row).sum())
    count += 1
  assert float(total) == pytest.approx(nll / count, rel=1e-5)
  assert float(metrics['loss/nll']) == float(total)
  # An untrained model of 640 tokens is about as good as a guess.
  assert abs(float(total) - np.log(640)) < 2


def test_a_refinement_is_learned_after_the_whole_conversation(lm):
  lessons = dict(
    module='arithmetic_lessons',
    name='solver_lesson',
    hard_share=0.3,
    refine_share=1.0,
  )
  recipe = make_recipe(sft, section(lessons=lessons), {'solver': lm}, grade)
  batch, records = recipe.collect({}, problems(4), jax.random.key(0))
  for row, record in enumerate(records):
    assert [r.stage for r in record.chain] == ['refine', 'critique', 'solve']
    prompt = batch['tokens'][row][: np.flatnonzero(batch['mask'][row])[0]]
    text = lm.tokenizer.decode(prompt)
    assert record.parent.parsed['conclusion'] in text
    assert record.parent.parent.text in text
    trained = batch['tokens'][row][batch['mask'][row]]
    assert lm.tokenizer.decode(trained[:-1]) == record.text


def test_a_quiz_is_learned_as_a_critique(lm):
  lessons = dict(module='arithmetic_lessons', name='quiz_lesson', max_lines=3)
  recipe = make_recipe(sft, section(lessons=lessons), {'solver': lm}, grade)
  batch, records = recipe.collect({}, problems(4), jax.random.key(0))
  for row, record in enumerate(records):
    assert [r.stage for r in record.chain] == ['critique', 'solve']
    prompt = batch['tokens'][row][: np.flatnonzero(batch['mask'][row])[0]]
    assert lm.tokenizer.decode(prompt).rstrip().endswith('Critique:')
    trained = batch['tokens'][row][batch['mask'][row]]
    assert lm.tokenizer.decode(trained[:-1]) == record.text


def test_lessons_are_seeded_by_the_key(lm):
  lessons = dict(
    module='arithmetic_lessons', name='solver_lesson', hard_share=0.3
  )
  recipe = make_recipe(sft, section(lessons=lessons), {'solver': lm}, grade)

  def tokens(seed):
    return recipe.collect({}, problems(4), jax.random.key(seed))[0]['tokens']

  np.testing.assert_array_equal(tokens(0), tokens(0))
  assert len({tokens(seed).tobytes() for seed in range(4)}) > 1


def test_a_lesson_too_long_for_the_model_is_left_out(lm):
  few = nano(max_new_tokens=len(lm.encode_response(PROBLEM.solution)))
  recipe = make_recipe(sft, section(), {'solver': few}, grade)
  long = problems(64)
  longest = max(long, key=lambda p: len(few.encode_response(p.solution)))
  batch, records = recipe.collect({}, [PROBLEM, longest], jax.random.key(0))
  assert batch['mask'].any(axis=1).tolist() == [True, False, False, False]
  assert [r.finish for r in records] == ['stop', 'prompt']
  np.testing.assert_allclose(batch['weights'].sum(), 1.0, rtol=1e-6)


RATED = dict(module='arithmetic_feedback', name='rated', hard_share=0.9)


def test_feedback_is_that_of_the_lines(lm):
  objective = dict(name='unlikelihood')
  recipe = make_recipe(
    sft, section(lessons=RATED, objective=objective), {'solver': lm}, grade
  )
  batch, records = recipe.collect({}, problems(3), jax.random.key(0))
  ratings = set()
  for row, record in enumerate(records):
    mask = batch['mask'][row]
    text = lm.tokenizer.decode
    tokens, feedback = batch['tokens'][row][mask], batch['feedback'][row][mask]
    assert set(feedback) <= {1, -1}
    wrong = text(tokens[feedback < 0].tolist())
    marks = arithmetic_labels.step_marks(record.problem, record.text)
    assert wrong.count('Step') == sum(marks)
    ratings.update(feedback)
  assert ratings == {1, -1}
  assert not batch['feedback'][~batch['mask']].any()


def test_a_reference_is_read(lm, params):
  """By the reference itself nothing was learned yet: the loss is 0."""
  objective = dict(name='implicit_reward', beta=0.1)
  recipe = make_recipe(
    sft, section(objective=objective), {'solver': lm, 'ref': lm}, grade
  )
  assert recipe.scored == ('ref',)
  roles = {'solver': params['solver'], 'ref': params['solver']}
  batch, _ = recipe.collect(roles, problems(3), jax.random.key(0))
  total, (metrics, _) = jax.jit(recipe.loss)(params, batch)
  assert abs(float(total)) < 1e-4 < float(metrics['loss/nll'])
  other = {**batch, 'ref_logprobs': batch['ref_logprobs'] - 1.0}
  # u = 0.1: (0.1 - 0.01 / 4) / 0.1.
  total, _ = jax.jit(recipe.loss)(params, other)
  assert float(total) == pytest.approx(-0.975, abs=1e-4)


@pytest.mark.parametrize(
  ('objective', 'message'),
  [
    (dict(name='unlikely'), "objective: .*mean 'unlikelihood'"),
    (dict(name='unlikelihood', coef=-1.0), 'objective: coef: got -1.0'),
    (dict(name='implicit_reward'), "'ref'"),
  ],
)
def test_wrong_objectives_fail_when_the_recipe_is_made(lm, objective, message):
  with pytest.raises(ValueError, match=message):
    make_recipe(sft, section(objective=objective), {'solver': lm}, grade)


def test_an_objective_of_feedback_needs_lessons_that_are_rated(lm):
  objective = dict(name='reward_weighted')
  recipe = make_recipe(sft, section(objective=objective), {'solver': lm}, grade)
  with pytest.raises(
    ValueError, match='^lesson .* choose a lesson that is rat'
  ):
    recipe.collect({}, problems(1), jax.random.key(0))


@pytest.mark.parametrize(
  ('lessons', 'message'),
  [
    (dict(module='lesson', name='reference'), "did you mean 'lessons'"),
    (dict(module='lessons', name='references'), "mean 'reference'"),
    (dict(module='arithmetic_lessons', name='solver_lesson'), 'hard_share'),
  ],
)
def test_wrong_lessons_fail_when_the_recipe_is_made(lm, lessons, message):
  with pytest.raises(ValueError, match=message):
    make_recipe(sft, section(lessons=lessons), {'solver': lm}, grade)


def test_a_problem_without_a_solution_is_named(lm):
  bare = dataclasses.replace(PROBLEM, solution='')
  recipe = make_recipe(sft, section(), {'solver': lm}, grade)
  with pytest.raises(ValueError, match='sum-0: got no solution'):
    recipe.collect({}, [bare], jax.random.key(0))
