import dataclasses

import numpy as np
import pytest

from critic_jax.rewards import step_labels, verdicts
from critic_jax.types import Problem, Record

_NONE = np.zeros(0, np.int32)


def record(stage, text='', parent=None, parsed=(), finish='stop'):
  return Record(
    Problem('p', '6 * 7?', '42'), stage, parent, 0, _NONE, _NONE,
    np.zeros(0, np.float32), text, finish, dict(parsed),
  )  # fmt: skip


def locate(text, label, finish='stop'):
  solution = record('solve', parsed={'first_error': label})
  critique = record('critique', text, solution, verdicts.parse(text), finish)
  return step_labels.locate(critique, [])


@pytest.mark.parametrize(
  'text, by_label',
  [  # what is earned if the first wrong step is none, 0, 1
    ('Every step is right.\nVerdict: correct', (1, 0, 0)),
    ('Step 1 is wrong.\nVerdict: incorrect', (0, 1, 0)),
    ('Step 2 is wrong.\nVerdict: incorrect', (0, 0, 1)),
    # Not one bet but several, or none.
    ('Step 1 is wrong. Step 2 is wrong.\nVerdict: incorrect', (0, 1, 0)),
    ('There is a mistake.\nVerdict: incorrect', (0, 0, 0)),
    ('Step 2 is wrong.\nVerdict: correct', (1, 0, 0)),
    ('Step 2 is wrong.', (0, 0, 0)),
    ('Step 2 is wrong.\nVerdict: incorrect\nVerdict: correct', (0, 0, 0)),
    ('Step 0 is wrong.\nVerdict: incorrect', (0, 0, 0)),
    ('<think>Step 2 is wrong.\nVerdict: incorrect', (0, 0, 0)),
  ],
)
def test_locate(text, by_label):
  assert tuple(locate(text, label) for label in (-1, 0, 1)) == by_label
  assert locate(text, 0, finish='length') == 0


def test_labels_are_needed_and_refused_solutions_have_none():
  solution = record('solve', '6 * 7 = 41')
  refused = dataclasses.replace(solution, finish='prompt')
  critique = record('critique', parent=solution)
  with pytest.raises(ValueError, match='label solutions before scoring'):
    step_labels.locate(critique, [])
  assert step_labels.locate(record('critique', parent=refused), []) is None
  labelled, kept = step_labels.write([solution, refused], lambda p, text: 0)
  assert labelled.parsed == {'first_error': 0}
  assert labelled.text == solution.text and not solution.parsed
  assert kept is refused


def earned(text, marks, rule, finish='stop'):
  solution = record('solve', parsed={'marks': marks})
  critique = record('critique', text, solution, verdicts.parse(text), finish)
  return rule(critique, [])


@pytest.mark.parametrize(
  'text, overlap, agreement',
  [  # of four steps, of which the first and the third are wrong
    ('Step 1 is wrong. Step 3 is wrong.\nVerdict: incorrect', 1, 1),
    ('Step 3 is incorrect.\nStep 1 is wrong.\nVerdict: incorrect', 1, 1),
    ('Step 1 is wrong. Step 1 is wrong.\nVerdict: incorrect', 1 / 2, 3 / 4),
    ('Step 1 is wrong. Step 2 is wrong.\nVerdict: incorrect', 1 / 3, 2 / 4),
    ('Step 2 is wrong. Step 4 is wrong.\nVerdict: incorrect', 0, 0),
    # All that there are, and more.
    (' '.join(f'Step {k} is wrong.' for k in (1, 2, 3, 4))
     + '\nVerdict: incorrect', 2 / 4, 2 / 4),
    (' '.join(f'Step {k} is wrong.' for k in range(1, 101))
     + '\nVerdict: incorrect', 2 / 100, 2 / 100),
    ('Step 1 is wrong. Step 3 is wrong. Step 0 is wrong.\nVerdict: incorrect',
     2 / 3, 4 / 5),
    # The verdict is not what the steps say.
    ('Every step is right.\nVerdict: correct', 0, 2 / 4),
    ('There is a mistake.\nVerdict: incorrect', 0, 0),
    ('Step 1 is wrong. Step 3 is wrong.\nVerdict: correct', 0, 0),
    ('Step 1 is wrong. Step 3 is wrong.', 0, 0),
    ('<think>Step 1 is wrong. Step 3 is wrong.\nVerdict: incorrect', 0, 0),
    ('<think>Step 2 is wrong.</think>Step 1 is wrong. Step 3 is wrong.\n'
     'Verdict: incorrect', 1, 1),
  ],
)  # fmt: skip
def test_overlap_and_agreement(text, overlap, agreement):
  marks = [True, False, True, False]
  assert earned(text, marks, step_labels.overlap) == pytest.approx(overlap)
  assert earned(text, marks, step_labels.agreement) == pytest.approx(agreement)
  for rule in (step_labels.overlap, step_labels.agreement):
    assert earned(text, marks, rule, finish='length') == 0


def test_a_right_solution_has_no_step_to_name():
  right = 'Every step is right.\nVerdict: correct'
  wrong = 'Step 2 is wrong.\nVerdict: incorrect'
  for rule, of_wrong in (
    (step_labels.overlap, 0), (step_labels.agreement, 1 / 2)
  ):  # fmt: skip
    assert earned(right, [False, False], rule) == 1
    assert earned(wrong, [False, False], rule) == of_wrong


def test_marks_are_needed_and_refused_solutions_have_none():
  solution = record('solve', '6 * 7 = 41')
  refused = dataclasses.replace(solution, finish='prompt')
  for rule in (step_labels.overlap, step_labels.agreement):
    with pytest.raises(ValueError, match='mark solutions before scoring'):
      rule(record('critique', parent=solution), [])
    assert rule(record('critique', parent=refused), []) is None
  marked, kept = step_labels.write_marks(
    [solution, refused], lambda problem, text: [text != '42']
  )
  assert marked.parsed == {'marks': [True]} and kept is refused


def test_labels_are_read_from_targets_and_not_from_the_truth():
  solutions = [
    record('solve', parsed={'targets': targets, 'first_error': 0})
    for targets in ([1.0, 0.5], [1.0, 0.25], [1.0, None], None)
  ]
  by_text = {
    'Verdict: correct': [1.0, 0.0, 1.0, None],
    'Step 2 is wrong.\nVerdict: incorrect': [0.0, 1.0, 0.0, None],
    'Step 1 is wrong.\nVerdict: incorrect': [0.0, 0.0, 0.0, None],
  }
  for text, earned in by_text.items():
    critiques = [
      record('critique', text, s, verdicts.parse(text)) for s in solutions
    ]
    assert [step_labels.locate(c, []) for c in critiques] == earned
