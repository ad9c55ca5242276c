"""Answers before and after critiques, on handmade records."""

import numpy as np
import pytest

from critic_jax.evals import refinement_metrics
from critic_jax.types import Problem, Record


def record(problem, stage, parent, index, parsed):
  empty = np.zeros(0, np.int32)
  logprobs = np.zeros(0, np.float32)
  return Record(
    problem, stage, parent, index, empty, empty, logprobs, '', 'stop', parsed
  )


def solved(problem, stage, parent, index, answer):
  right = answer == problem.answer
  parsed = {
    'answer': answer,
    'correct': right,
    'grade': 'right' if right else 'wrong',
  }
  return record(problem, stage, parent, index, parsed)


def tree(answer, *critiques, reference='12', name='p'):
  """Makes a solution; per critique (verdict, refined answers, conclusion)."""
  problem = Problem(name, '', reference)
  solution = solved(problem, 'solve', None, 0, answer)
  records = [solution]
  for index, (verdict, refined, *conclusion) in enumerate(critiques):
    parsed = {
      'verdict': verdict,
      'status': 'ok' if verdict else 'missing',
      'conclusion': conclusion[0] if conclusion else None,
    }
    critique = record(problem, 'critique', solution, index, parsed)
    records.append(critique)
    for number, text in enumerate(refined):
      records.append(solved(problem, 'refine', critique, number, text))
  return records


def values(records):
  return {k: e.value for k, e in refinement_metrics.metrics(records).items()}


def test_a_refinement_that_timed_out_is_no_wrong_answer():
  records = tree('5', ('incorrect', ['12', '7']), ('incorrect', ['7']))
  for timed_out in (records[3], records[5]):
    timed_out.parsed['grade'] = 'timeout'
  got = values(records)
  assert got['refinement_accuracy_wrong'] == 1 / 2  # the second is unrefined
  assert got['correction_accuracy'] == 1


def test_solutions_of_which_only_the_first_wrong_step_is_known():
  """Files give them without grade and answer; they stay as they are."""
  records = [*tree('5', ('correct', [])), *tree('12', ('correct', []))]
  for solution, label in zip(records[::2], (1, -1), strict=True):
    solution.parsed.clear()
    solution.parsed['first_error'] = label
  got = values(records)
  assert got['accuracy_before'] == got['accuracy_after'] == 1 / 2
  assert got['changed'] == 0 and got['wrong_to_wrong'] == 1 / 2


def test_by_hand():
  records = [
    # Wrong: called wrong, one of two refinements right; missed; silent.
    *tree('5', ('incorrect', ['12', '7']), ('correct', []), (None, [])),
    # Right: spoilt once in two; accepted.
    *tree('12', ('incorrect', ['12', '9']), ('correct', [])),
  ]
  got = values(records)
  assert got['accuracy_before'] == pytest.approx(2 / 5)
  # After: 1/2, 0, 0 of the wrong one; 1/2, 1 of the right one.
  assert got['accuracy_after'] == pytest.approx(2 / 5)
  assert got['refinement_accuracy_wrong'] == pytest.approx(0.5 / 3)
  assert got['right_to_right'] == pytest.approx(1.5 / 5)
  assert got['right_to_wrong'] == pytest.approx(0.5 / 5)
  assert got['wrong_to_right'] == pytest.approx(0.5 / 5)
  assert got['wrong_to_wrong'] == pytest.approx(2.5 / 5)
  # Changed: 5 -> 12 and 5 -> 7 (all of one critique), 12 -> 9 (half of one).
  assert got['changed'] == pytest.approx(1.5 / 5)
  assert got['answer_leak'] == 0
  assert refinement_metrics.metrics(records)['refinement_accuracy_wrong'].n == 3


def test_transitions_add_up_and_give_both_accuracies():
  records = [
    *tree('5', ('incorrect', ['12', '7', '5'])),
    *tree('12', ('incorrect', ['1', '12', '12'])),
  ]
  got = values(records)
  parts = [got[f'{a}_to_{b}'] for a in ('right', 'wrong') for b in ('right', 'wrong')]  # fmt: skip  # noqa: E501
  assert sum(parts) == pytest.approx(1)
  assert parts[0] + parts[1] == pytest.approx(got['accuracy_before'])
  assert parts[0] + parts[2] == pytest.approx(got['accuracy_after'])


def test_refinements_of_an_accepted_solution_do_not_count():
  # A recipe may refine everything; the verdict says which answer stands.
  got = values(tree('5', ('correct', ['12'])))
  assert got['accuracy_after'] == 0 and got['changed'] == 0
  assert values(tree('12', ('correct', ['5'])))['accuracy_after'] == 1


def test_a_critique_without_its_refinements_changes_nothing():
  records = tree('5', ('incorrect', []))
  got = values(records + tree('5', ('incorrect', ['12']), name='q'))
  assert got['accuracy_after'] == 0.5 and got['wrong_to_wrong'] == 0.5
  assert refinement_metrics.metrics(records) == {}, 'nobody refined'


def test_two_right_answers_are_the_same_answer():
  records = tree('12', ('incorrect', ['12.0']))
  records[-1].parsed['correct'] = True
  assert values(records)['changed'] == 0


def test_leaks_are_counted_on_wrong_solutions():
  records = [
    *tree('5', ('incorrect', ['12'], 'It is 12.')),
    *tree('5', ('incorrect', ['12'], 'Line 2 is wrong.')),
    *tree('5', ('incorrect', ['7'], 'Line 2 is wrong.')),
    *tree('12', ('correct', [], 'Indeed 12.')),  # it says what it read
  ]
  got = values(records)
  assert got['answer_leak'] == pytest.approx(1 / 3)
  assert got['refinement_accuracy_wrong'] == pytest.approx(2 / 3)
  assert got['refinement_accuracy_unleaked'] == pytest.approx(1 / 2)


def test_compare():
  before = tree('5', ('correct', [])) + tree('5', ('correct', []), name='q')
  after = tree('5', ('incorrect', ['12']))
  after += tree('5', ('incorrect', ['12']), name='q')
  got = refinement_metrics.compare(before, after)
  assert got['accuracy_after'].value == 1
  assert got['accuracy_before'][:3] == (0, 0, 0)


def test_corrections_are_those_of_all_critiques():
  records = tree('5', ('incorrect', ['12', '7']))
  records += tree('12', ('correct', ['12']))  # CriticBench refines these too
  got = values(records)
  assert got['correction_accuracy'] == pytest.approx(2 / 3)
  assert got['accuracy_after'] == pytest.approx((0.5 + 1) / 2)
