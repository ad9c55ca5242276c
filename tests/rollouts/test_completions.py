"""Monte-Carlo values of prefixes, beside the exact truth of the world."""

import dataclasses
import random

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  finish,
  grade,
  problems,
  scripted,
  solution,
)

from critic_jax.rewards import step_values
from critic_jax.rollouts import completions
from critic_jax.tasks import arithmetic, arithmetic_labels


def evaluate(lm, solutions, n=1, max_steps=9, grade=grade):
  return completions.evaluate(
    solutions, lm.stages.solve, lm.bind(None), jax.random.key(0), grade,
    n=n, max_steps=max_steps,
  )  # fmt: skip


def given(count, **settings):
  """Returns solutions of the world, with up to three slips, and their truth."""
  rng, solutions = random.Random(0), []
  for problem in problems(count):
    text = arithmetic_labels.plant(
      problem, rng, max_slips=3, right_share=0.3, **settings
    )
    record = arithmetic_labels.solution(problem, False, rng)
    right = text == problem.solution
    parsed = {'correct': right, 'grade': 'right' if right else 'wrong'}
    solutions.append(dataclasses.replace(record, text=text, parsed=parsed))
  truths = [arithmetic.first_error(s.problem, s.text) for s in solutions]
  return solutions, truths


def test_prefixes_are_of_0_steps_to_all_but_one():
  lm = scripted(finish)
  parent = solution(lm)
  steps = WRONG.split('\n')
  prefixes = completions.prefixes(parent)
  assert [p.text for p in prefixes] == ['', steps[0], '\n'.join(steps[:2])]
  assert [p.id for p in prefixes] == [
    f'sum-0/solve.0/prefix.{t}' for t in range(3)
  ]
  assert all(p.parent is parent for p in prefixes)
  assert completions.prefixes(solution(lm, '  \n\n')) == []


def test_steps_are_those_that_were_published():
  steps = ['a\n\nb ', 'c', 'c']
  text = 'a\n\nb\n\nc\n\nc'
  lm = scripted(finish)
  record = solution(lm, text, steps=steps)
  assert completions.step_ends(record) == [4, 7, 10]
  assert completions.step_ends(solution(lm, text)) == [1, 4, 7, 10]
  with pytest.raises(ValueError, match="got the step 'a'.*in order"):
    completions.step_ends(solution(lm, 'a\nc', steps=['c', 'a', 'c']))


def test_a_completion_begins_with_its_prefix():
  lm = scripted(finish)
  [valued], completed = evaluate(lm, [solution(lm)], n=2)
  # The solver errs no more: only what is wrong already is lost.
  assert valued.parsed['values'] == [1.0, 0.0, 0.0, 0.0]
  assert len(completed) == 3 * 2
  prompt = lm.stages.solve.prompt(PROBLEM)
  prefixes = [p.text for p in completions.prefixes(valued)]
  assert lm.prompts == [prompt + text for text in prefixes]
  for i, record in enumerate(completed):
    assert record.stage == 'complete' and record.parent.parent is valued
    assert record.text.startswith(prefixes[i // 2])
    assert len(arithmetic.read_steps(record.text)) == 2
    assert record.parsed['correct'] == (i < 2)
  # The whole solution is graded, and not completed.
  [right], _ = evaluate(lm, [solution(lm, RIGHT)])
  assert right.parsed['values'] == [1.0, 1.0, 1.0, 1.0]


def test_labels_of_a_solver_that_errs_no_more_are_the_truth():
  """Whatever the rule, and for a wrong answer after right lines, too."""
  lm = scripted(finish)
  solutions, truths = given(60)
  wrong_answer = PROBLEM.solution.replace('boxed{14}', 'boxed{15}')
  solutions.append(solution(lm, wrong_answer))
  truths.append(arithmetic.first_error(PROBLEM, wrong_answer))
  assert len(set(truths)) >= 5 and truths[-1] == 2
  valued, _ = evaluate(lm, solutions)
  values = [np.array(s.parsed['values']) for s in valued]
  rules = dict(
    hard={}, soft={}, penalised={}, ratio=dict(threshold=0.8),
    difference=dict(threshold=-0.5), sustained=dict(least=0.5),
  )  # fmt: skip
  for name, settings in rules.items():
    rule = getattr(step_values, name)
    targets = [rule(v, **settings) for v in values]
    labels = [
      truth if t is None else step_values.first_wrong(t)
      for t, truth in zip(targets, truths, strict=True)
    ]
    assert labels == truths, name
    # Where one slip makes up for another, the wrong step did not fail for good.
    recovers = [np.any(np.diff(v) > 0) for v in values]
    unlabelled = [t is None for t in targets]
    assert unlabelled == [x and name == 'sustained' for x in recovers], name
  assert any(recovers)


def errs(probability, seed=0):
  """Returns a script that slips at any step that is left."""
  rng = random.Random(seed)

  def script(prompt, index):
    begun = prompt.partition('\nSolution:')[2]
    steps = finish(prompt, index)
    num_left = len(arithmetic.read_steps(steps))
    if not num_left or rng.random() < (1 - probability) ** num_left:
      return steps
    # An answer that no slip makes right: the world has none so large.
    return ('\n' if begun else '') + 'The answer is \\boxed{777}.'

  return script


@pytest.mark.parametrize('n', [1, 4])
@pytest.mark.parametrize('probability', [0.1, 0.4])
def test_label_errors_are_as_many_as_the_solver_makes(n, probability):
  """A hard label errs where all completions of a right prefix fail.

  A prefix with m operations left is completed with probability q**m, q being
  the solver's for each; so it is called wrong with (1 - q**m)**n, and a label
  is right if no right prefix is, and the wrong step ends it anyway.
  """
  solutions, truths = given(60)
  solutions, truths = solutions * 5, truths * 5
  solutions = [dataclasses.replace(s) for s in solutions]
  valued, _ = evaluate(scripted(errs(probability)), solutions, n=n)
  labels = [
    step_values.first_wrong(step_values.hard(np.array(s.parsed['values'])))
    for s in valued
  ]
  errors = step_values.label_errors(labels, truths)
  expected = []
  for s, truth in zip(solutions, truths, strict=True):
    num_steps = len(arithmetic.read_program(s.problem).operations)
    num_right = truth if truth >= 0 else num_steps
    left = num_steps - np.arange(1, num_right + 1)
    fails = (1 - (1 - probability) ** left) ** n
    expected.append(np.prod(1 - fails))
  noise = np.sqrt(np.mean(expected) * (1 - np.mean(expected)) / len(expected))
  assert errors['right'] == pytest.approx(np.mean(expected), abs=4 * noise)
  # A wrong step is never called right: its solver recovers from nothing.
  assert errors['late'] == 0 and errors['labelled'] == 1
  assert errors['right'] < (0.97 if n == 1 else 1)


def test_errors_fall_with_more_completions_and_better_solvers():
  solutions, truths = given(60)

  def right(probability, n, rule):
    valued, _ = evaluate(scripted(errs(probability)), solutions, n=n)
    labels = [
      step_values.first_wrong(rule(np.array(s.parsed['values'])))
      for s in valued
    ]
    return step_values.label_errors(labels, truths)['right']

  by_n = [right(0.3, n, step_values.hard) for n in (1, 3, 9, 27)]
  assert by_n == sorted(by_n) and by_n[-1] > by_n[0] + 0.2
  by_solver = [right(p, 3, step_values.hard) for p in (0.6, 0.3, 0.1, 0.0)]
  assert by_solver == sorted(by_solver) and by_solver[-1] == 1.0
  # More completions do not help a rule that asks for more than a success.
  strict = [
    right(0.3, n, lambda v: step_values.ratio(v, threshold=1.5))
    for n in (3, 27)
  ]
  assert max(strict) < by_n[-1]


def test_a_grade_that_timed_out_is_no_failure():
  lm = scripted(finish)
  calls = []

  def every_second(pairs):
    calls.append(len(pairs))
    return ['timeout' if i % 2 else x for i, x in enumerate(grade(pairs))]

  [valued], _ = evaluate(lm, [solution(lm)], n=2, grade=every_second)
  assert valued.parsed['values'] == [1.0, 0.0, 0.0, 0.0] and calls == [6]

  def never(pairs):
    return ['timeout'] * len(pairs)

  [valued], completed = evaluate(lm, [solution(lm)], grade=never)
  assert 'values' not in valued.parsed and len(completed) == 3


def test_solutions_that_get_no_values():
  lm = scripted(finish)
  whole = solution(lm)
  refused = dataclasses.replace(whole, finish='prompt', text='')
  timed_out = solution(lm, grade='timeout')
  long = solution(lm, RIGHT + '\nA fourth line.')
  empty = solution(lm, '')
  solutions = [refused, timed_out, long, empty, whole]
  valued, completed = evaluate(lm, solutions, max_steps=3)
  assert ['values' in s.parsed for s in valued] == [False] * 4 + [True]
  assert valued[:4] == solutions[:4] and len(completed) == 3
  assert evaluate(lm, [refused], max_steps=3)[1] == []
