"""Annotation: attempts, who is helped, what is kept and from which prompt."""

import dataclasses
import itertools
import random

import jax
import numpy as np
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
  problems,
  scripted,
  settings,
)
from test_cold_start_recipe import rows

from configs import persona_chat, sciglm
from critic_jax.recipes import annotation
from critic_jax.rollouts import stage_metrics
from critic_jax.types import Problem

HINT = 'Step 1 is wrong.'
HINTED = critique('incorrect', HINT)
ANSWER = 'The answer is \\boxed{14}.'
# The right answer by wrong lines: what one derives who is told.
FORGED = f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 14\n{ANSWER}'


def solver(first=WRONG, reflected=WRONG, told=FORGED):
  """Makes a script: what it writes at first, after a hint, and when told."""

  def write(prompt, index):
    if not prompt.endswith('Refined solution:'):
      text = first
    else:
      text = told if ANSWER in prompt.split('Critique:')[-1] else reflected
    return text if isinstance(text, str) else text[index % len(text)]

  return write


def collect(
  script, examples=None, criticise=lambda *_: HINTED, grade=grade, **changes
):
  own = sciglm.annotation(told=changes.pop('told', False), num_solutions=2)
  models = {
    'solver': scripted(script),
    'critic': scripted(criticise, max_new_tokens=64),
  }
  section = own | dict(batch_size=4, aggregate='sequence')
  recipe = make_recipe(annotation, settings(section, **changes), models, grade)
  batch, records = recipe.collect(
    dict.fromkeys(models), examples or [PROBLEM], jax.random.key(0)
  )
  assert set(stage_metrics.summary(records)) <= recipe.metrics
  return models, batch, records


def learned(models, batch):
  return [text for _, text in rows(batch, models['solver'])]


def of_stage(records, stage):
  return [record for record in records if record.stage == stage]


ALL = dict(told=True, min_scores=(0.0, 0.0, 0.0))


def test_a_solved_problem_needs_no_help():
  models, batch, records = collect(solver([WRONG, RIGHT]), **ALL)
  assert learned(models, batch) == [RIGHT]
  assert {r.stage for r in records} == {'solve'}
  scores = [r.scores for r in of_stage(records, 'solve')]
  assert [s['kept'] for s in scores] == [0.0, 1.0]
  assert [s['covered'] for s in scores] == [1.0, 1.0]
  assert 'quality' not in scores[0] and scores[1]['quality'] == 1.0


def test_what_is_not_solved_is_reflected_on_and_then_told():
  models, batch, records = collect(solver(reflected=RIGHT), **ALL)
  assert learned(models, batch) == [RIGHT]
  assert [len(of_stage(records, s)) for s in ('critique', 'refine')] == [2, 2]
  assert not of_stage(records, 'refine_2')
  models, batch, records = collect(solver(), **ALL)
  assert learned(models, batch) == [FORGED]
  stages = 'solve', 'critique', 'refine', 'critique_2', 'refine_2'
  assert [len(of_stage(records, s)) for s in stages] == [2] * 5
  # The last attempt is of the newest answers.
  told = of_stage(records, 'refine_2')[0]
  assert told.parent.parent.stage == 'refine'


def test_answers_are_learned_without_what_led_to_them():
  """The true answer, and the critique, stand in no prompt that is learned."""
  models, batch, _ = collect(solver(), **ALL)
  [(prompt, text)] = rows(batch, models['solver'])
  assert text == FORGED
  assert prompt.strip() == models['solver'].stages.solve.prompt(PROBLEM)
  assert '14' not in prompt and 'Critique' not in prompt
  asked = models['solver'].prompts
  assert any(ANSWER in prompt for prompt in asked)
  assert sum(HINT in prompt for prompt in asked) == 2


def test_a_right_answer_by_wrong_lines_is_measured_and_filtered_if_asked():
  _, _, records = collect(solver(), **ALL)
  metrics = stage_metrics.summary(records)
  assert metrics['refine_2/correct'] == 1.0
  assert metrics['refine_2/faithful'] == 0.0
  assert metrics['solve/covered'] == 1.0
  strict = dict(told=True, num_reviews=2, min_scores=(0.0, 0.0, 1.0))
  models, batch, records = collect(solver(), **strict)
  assert not batch['mask'].any()
  # Two reviews of each of two derivations, and of nothing else.
  reviews = of_stage(records, 'review')
  assert [r.parent.stage for r in reviews] == ['refine_2'] * 4
  metrics = stage_metrics.summary(records)
  assert metrics['solve/covered'] == 0.0 == metrics['refine_2/kept']
  assert metrics['refine_2/approval'] == 0.0


def test_the_first_attempts_are_not_filtered_with_the_last():
  strict = dict(told=True, num_reviews=2, min_scores=(0.0, 0.0, 1.0))
  models, batch, records = collect(solver(first=[RIGHT, WRONG]), **strict)
  assert learned(models, batch) == [RIGHT]
  assert not of_stage(records, 'review')


def test_reviews_are_of_the_newest_answer_and_split_votes_are_a_share():
  votes = itertools.cycle([critique('correct'), critique('incorrect')])

  def review(prompt, index):
    return next(votes) if FORGED in prompt else HINTED

  strict = dict(told=True, num_reviews=2, mixture='mean')
  for least, kept in ((0.5, [FORGED]), (0.6, [])):
    models, batch, records = collect(
      solver(), criticise=review, min_scores=(0.0, 0.0, least), **strict
    )
    assert learned(models, batch) == kept
    derived = of_stage(records, 'refine_2')
    assert [r.scores['approval'] for r in derived] == [0.5, 0.5]


def test_an_open_grade_is_no_error_and_no_answer():
  def grade_in_time(pairs):
    return [
      'timeout' if text == FORGED else mark
      for (text, _), mark in zip(pairs, grade(pairs), strict=True)
    ]

  models, batch, records = collect(
    solver(first=[FORGED, WRONG]), grade=grade_in_time, **ALL
  )
  # Only the one that is known to be wrong is criticised.
  parents = [r.parent.text for r in of_stage(records, 'critique')]
  assert parents == [WRONG] and not batch['mask'].any()


def test_problems_that_come_twice_are_two():
  models, batch, records = collect(
    solver(first=[RIGHT, WRONG]), [PROBLEM, PROBLEM]
  )
  assert learned(models, batch) == [RIGHT] * 2


def test_texts_that_are_equal_are_kept_once():
  other = RIGHT.replace('Step 2', 'Step  2')
  script = solver(first=[RIGHT, RIGHT, other, RIGHT])
  for num_kept, texts in ((1, [RIGHT]), (3, [RIGHT, other])):
    models, batch, _ = collect(script, num_solutions=4, num_kept=num_kept)
    assert learned(models, batch) == texts


def test_what_was_cut_is_not_kept_though_its_answer_is_right():
  long = RIGHT + '\nStep' * 60
  _, batch, records = collect(
    solver(first=long), experts={}, is_checked=False, num_reflections=0,
    min_scores=(0.0,),
  )  # fmt: skip
  assert all(r.truncated for r in records) and not batch['mask'].any()


def test_a_refused_prompt_is_asked_for_nothing_more():
  long = Problem('long', 'Zoe counts. ' * 60, '1')
  models, batch, records = collect(solver(first=RIGHT), [long, PROBLEM], **ALL)
  assert learned(models, batch) == [RIGHT]
  assert not of_stage(records, 'critique')


# ------------------------------------------------------- mixtures of experts


def generate(problem, rng):
  """Writes a solution with one of three defects, or without."""
  steps = problem.solution.split('\n')
  kind = rng.randrange(4)
  if kind == 1:  # its sum
    first, result = steps[0].rsplit(' ', 1)
    return '\n'.join([f'{first} {int(result) + 1}', *steps[1:]])
  if kind == 2:  # a line of the story is missing
    return '\n'.join(steps[:-2] + steps[-1:])
  return '\n'.join(steps[:-1] + ['The answer is \\boxed{99}.'] * (kind == 3)
                   + steps[-1:] * (kind == 0))  # fmt: skip


def mixed(mixture, least, error=0.0, num_kept=4):
  """Returns kept texts with their problems, of many problems."""
  rng, examples = random.Random(0), problems(16)
  texts = {p.question: [generate(p, rng) for _ in range(4)] for p in examples}

  def write(prompt, index):
    question = prompt.removeprefix('Problem: ').split('\nSolution:')[0]
    return texts[question][index]

  return collect(
    write, examples, num_solutions=4, num_reflections=0, is_checked=False,
    experts=persona_chat.experts(error), mixture=mixture, min_scores=(least,),
    num_kept=num_kept, batch_size=16,
  )  # fmt: skip


def test_a_veto_keeps_what_has_no_defect_and_a_mean_what_has_one():
  models, batch, records = mixed('minimum', 1.0)
  kept = [r for r in records if r.scores['kept']]
  assert kept and all(r.scores['faithful'] for r in kept)
  assert len(learned(models, batch)) == len(kept)
  _, _, records = mixed('mean', 0.6)
  by_mean = [r for r in records if r.scores['kept']]
  assert len(by_mean) > len(kept)
  worst = [
    sum(1 - r.scores[name] for r in by_mean) / len(by_mean)
    for name in ('sums', 'story', 'ending')
  ]
  assert max(worst) > 0  # the defect that is let through most


def test_experts_need_no_answers():
  """What is kept is the same if all references are wrong."""
  kept = []
  for answer in (PROBLEM.answer, '-1'):
    examples = [dataclasses.replace(PROBLEM, answer=answer)]
    _, _, records = collect(
      solver(first=[WRONG, RIGHT]), examples, num_reflections=0,
      is_checked=False, experts=persona_chat.experts(0.0), min_scores=(1.0,),
    )  # fmt: skip
    kept.append([r.scores['kept'] for r in records])
  assert kept == [[0.0, 1.0]] * 2


def test_experts_that_err_let_defects_through():
  _, _, records = mixed('minimum', 1.0, error=0.3)
  kept = [r for r in records if r.scores['kept']]
  assert 0 < sum(r.scores['faithful'] for r in kept) < len(kept)


def test_equal_solutions_are_not_diverse():
  _, _, records = collect(solver(first=RIGHT), num_solutions=4)
  # Each bigram is there four times.
  words = RIGHT.split()
  grams = [*itertools.pairwise(words)]
  assert records[0].scores['distinct'] == len({*grams}) / (4 * len(grams))


# -------------------------------------------------------------- loss, sampled


def test_the_loss_is_the_negative_log_probability_of_the_kept():
  lm = nano()
  recipe = make_recipe(
    annotation,
    settings(sciglm.annotation() | dict(batch_size=2, aggregate='sequence')),
    {'solver': scripted(solver(first=RIGHT)), 'critic': lm},
    grade,
  )
  roles = {'solver': None, 'critic': None}
  batch, _ = recipe.collect(roles, [PROBLEM], jax.random.key(0))
  total, (sums, _) = jax.jit(recipe.loss)(init(solver=lm), batch)
  assert abs(float(total) - np.log(640)) < 2
  assert float(sums['loss/nll']) == float(total)


def test_it_samples_what_it_states_if_nothing_is_solved():
  own = sciglm.annotation(
    told=True, num_solutions=2, num_reviews=2, min_scores=(0.5, 0.5, 0.5)
  )
  models = {
    'solver': scripted(solver()), 'critic': scripted(lambda *_: HINTED)
  }  # fmt: skip
  section = settings(own | dict(batch_size=1, aggregate='token'))
  recipe = make_recipe(annotation, section, models, grade)
  _, records = recipe.collect(
    dict.fromkeys(models), [PROBLEM], jax.random.key(0)
  )
  sampled = {s.stage: s.num_prompts * s.num_samples for s in recipe.sampled}
  reviews = sampled.pop('review')
  assert len(of_stage(records, 'review')) <= reviews == 3 * 2 * 2
  assert {s: len(of_stage(records, s)) for s in sampled} == sampled
  assert 'critique_2' not in sampled  # a rule writes it


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_solutions=0), 'num_solutions: got 0'),
    (dict(num_kept=0), 'num_kept: got 0'),
    (dict(num_reflections=-1), 'num_reflections: got -1'),
    (dict(min_scores=(0.0,)), r'min_scores: got \(0.0,\); expected 2 numbers'),
    (dict(min_scores=(0.0, 2.0), num_reviews=1), 'expected at most 1'),
    (dict(min_scores=(0.0, -0.1)), 'min_scores: got -0.1'),
    (dict(min_scores=(0.0, 0.5)), 'expected a least score, and who scores'),
    (dict(num_reviews=1), 'expected a least score, and who scores'),
    (dict(is_checked=False), 'is_checked: got False with 1 rounds'),
    (dict(critic='judge'), "critic: got 'judge'; expected one of"),
    (dict(mixture='median'), "mixture: got 'median'"),
    (dict(teller=dict(module='labels', name='leaked')), 'teller: .*did you'),
    (dict(experts=dict(sums=dict(module='arithmetic', name='work'))),
     'experts.sums: got work'),
    (dict(experts=dict(kept=persona_chat.experts()['sums']),
          min_scores=(0.0, 1.0)), r"experts: got \['kept'\], names of other"),
  ],
)  # fmt: skip
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(solver(), **changes)
