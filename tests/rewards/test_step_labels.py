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
