"""Answers in critiques, by tables of texts."""

import numpy as np
import pytest

from critic_jax.rewards import leaks
from critic_jax.types import Problem, Record


def critique(conclusion, answer):
  """Makes a critique with this conclusion, of a problem with this answer."""
  no_tokens = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
  parsed = {'conclusion': conclusion}
  problem = Problem('p', '', answer)
  return Record(problem, 'critique', None, 0, *no_tokens, '', 'stop', parsed)


@pytest.mark.parametrize(
  ('answer', 'conclusion', 'is_leak'),
  [
    ('12', 'so x = 12.', True),
    ('12', 'it is $12$, not 13', True),
    ('12', r'\boxed{12}', True),
    ('12', '12', True),
    ('12', 'that is 12%', True),
    ('12', '(12)', True),
    ('12', '112 or 121', False),
    ('12', '12.5', False),
    ('12', '3.12', False),
    ('12', '-12', False),
    ('-12', 'x = -12', True),
    ('12', '5/12 and 12/5', False),
    ('12', '1,012 and 12,000', False),
    ('1200', 'it is 1,200.', True),
    ('1,200', 'it is 1200', True),
    (r'\frac{1}{2}', r'gives $\frac{1}{2}$', True),
    ('12', None, False),
    ('?', 'so it is ?', True),
    ('', 'anything', False),
  ],
)
def test_leaks(answer, conclusion, is_leak):
  assert leaks.leaks(critique(conclusion, answer)) is is_leak


@pytest.mark.parametrize(
  ('answer', 'conclusion', 'masked_text'),
  [
    ('12', 'Step 3: 4 * 3 = 12, so 12.', 'Step 3: 4 * 3 = ?, so ?.'),
    ('12', '112 stays', '112 stays'),
    ('1200', 'it is 1,200.', 'it is ?.'),
    (r'\frac{1}{2}', r'$\frac{1}{2}$', '$?$'),
    ('12', None, ''),
  ],
)
def test_masked(answer, conclusion, masked_text):
  assert leaks.masked(critique(conclusion, answer)) == masked_text
