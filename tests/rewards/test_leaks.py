"""Answers in critiques, by tables of texts."""

import time

import numpy as np
import pytest

from critic_jax.execution import code
from critic_jax.rewards import leaks
from critic_jax.types import Problem, Record


def critique(conclusion, answer, question='', solution=''):
  """Makes a critique with this conclusion, of a problem with this answer."""
  no_tokens = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
  problem = Problem('p', question, answer)
  parent = None
  if solution:
    parent = Record(problem, 'solve', None, 0, *no_tokens, solution)
  parsed = {'conclusion': conclusion}
  return Record(problem, 'critique', parent, 0, *no_tokens, '', 'stop', parsed)


QUESTION = 'Ann has 8 boxes of 6 pens and sells 5 pens. How many are left?'
SOLUTION = 'Step 1: 8 * 6 = 46\nStep 2: 46 - 5 = 41\nThe answer is 41.'
# Names of 42 (and of others below) that a reader understands.
NAMES = [
  '42', '42.0', '42.', '_42_', '**42**', '*42*', '`42`', '$42$', '\\$42', '42%',
  'fortytwo', 'fourty two', 'four-two',
  '42cm', '42 cm', '\uff14\uff12', '4\\!2', '4{}2', '4\u200b2', '4_2', '4 2',
  '\u0664\u0662', '\u32b7', 'forty-two', 'Forty two', '40+2', '40 + 2', '84/2',
  '84 / 2', '6 \u22c5 7', '6 x 7', '6*7', '2(21)', '(42)', '{42}', '[42]',
  '\\boxed{42}', '\\text{42}', '\\mathbf{42}', '\\left(42\\right)',
  '2 \\times 21',
  '\\frac{84}{2}', '\\dfrac{84}{2}', '6^2+6', '41 - -1', '42!', '=42', 'x=42',
  'a_{42}', 'n42', 'answer42', '40 plus 2', 'forty plus two', '6 times seven',
  '84 divided by 2', '40 pens + 2 pens', '43\u22121', '36, 37, 40, 42, 44',
  '\\sqrt{1764}', '4.2e1', '#42', '~42', '"42"', '42/1', '\u2074\u00b2',
]  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_a_name_of_the_answer_is_seen_and_masked(name):
  for text in (name, f'So it is {name} then.', f'One.\n{name}\nTwo.'):
    named = critique(text, '42', QUESTION, SOLUTION)
    assert leaks.leaks(named)
    masked_text = leaks.masked(named)
    assert '?' in masked_text
    assert not leaks.leaks(critique(masked_text, '42', QUESTION, SOLUTION))


@pytest.mark.parametrize(
  ('answer', 'names'),
  [
    ('1234', ['1{,}234', '1,234', '1 234', '1\\,234', '1234.00', '1_234']),
    ('1/2', [r'\frac{1}{2}', r'\frac12', '0.5', '.5', '\u00bd', r'\dfrac 1 2']),
    (r'\frac{1}{2}', ['1/2', '1 / 2', '0.50', '2/4', '50%']),
    (r'\infty', ['infinity', '\u221e', r'$\infty$']),
    (r'\emptyset', ['the empty set', '\u2205', r'\varnothing']),
    ('-5', ['negative 5', '\u22125', '\u20135', '-5', '$-5$', '2-7']),
    ('5/2', ['2\u00bd', '2 1/2', r'2\frac{1}{2}', '2.5']),
    (r'2\sqrt{3}', [r'\sqrt{12}', r'2 \sqrt3', '2\u221a3']),
    ('50%', ['0.5', '50', '1/2', r'50\%']),
    ('(1, 2)', ['(1,2)', '(1, 2)', 'x = 1 and y = 2', r'\left(1,2\right)']),
    ('1, 2', ['1, 2', 'x=2 or x=1', '2 and 1']),
    ('x^2+1', ['x^2 + 1', '$x^2+1$', 'x\u00b2+1', 'x^2+ 1.']),
    (r'\text{(B)}', ['(B)', 'B', 'option B.', 'B)', '(b)', 'option b']),
    ('Evelyn', ['Evelyn', 'evelyn', '**Evelyn**', r'\text{Evelyn}']),
    ('yes', ['yes', 'Yes.', 'YES']),
  ],
)
def test_spellings_of_other_answers(answer, names):
  for name in names:
    for text in (name, f'It should be: {name}'):
      named = critique(text, answer)
      assert leaks.leaks(named), name
      masked_text = leaks.masked(named)
      assert not leaks.leaks(critique(masked_text, answer)), name


def test_a_digit_does_not_hide_in_a_name():
  for name in ('v_7', 'v7', 'v_{7}', 'v_ 7', 'x^7', 'x^{7}', 'v\u2077'):
    assert '7' not in leaks.masked(critique(name, '7', QUESTION, SOLUTION))
  # Names and numbers of the question.
  for name in ('x_7', 'x7', 'x^7', 'a 5 cm'):
    known = critique(name, '7', 'What is x_7 and x7, and x^7? It has 5 cm.')
    assert leaks.masked(known) == name


KINDS = {
  'number': ['42', '7', '41', '48', '-3', '0.5', '1/2', r'\frac{3}{7}', '2^10',
             '1,234', r'\$40', r'42 \text{ cm}', '12%', r'2\sqrt{3}', r'\pi/4'],
  'formula': ['x^2+1', '2x', '(1, 2)', r'\{1,2\}', '1, 2', r'x \le 5'],
  'choice': ['A', '(B)', 'C', r'\text{(D)}', r'\textbf{(E)}'],
  'truth': ['yes', 'No', r'\text{true}', 'False'],
  'words': ['Evelyn', 'Tuesday', r'\text{even}', 'hyperbola',
            'not enough information'],
  'none': ['', code.reference(['assert f(1) == 2'])],
}  # fmt: skip
ORACLES = [
  ' '.join(map(str, range(-9, 60))),
  '\n'.join(f'It may be {number}.' for number in range(-3, 50)),
  'A B C D E', '(A)\n(B)\n(C)', 'yes no true false',
  'odd even hyperbola circle',
  'Evelyn, Ann, Bob, Tuesday, Monday', '(1, 2) or (2, 1) or 1, 2 or {1, 2}',
  'x^2+1 x^2-1 2x 3x+1', '0.5 1/2 3/7 4/7 1,234 40 + 2 twelve',
  r'\pi/4 2\sqrt{3}',
  *NAMES,
]  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_what_is_masked_does_not_tell_the_reference(kind):
  for text in ORACLES:
    masked_texts = {
      leaks.masked(critique(text, answer, question, solution))
      for answer in KINDS[kind]
      for question, solution in [(QUESTION, SOLUTION)]
    }
    assert len(masked_texts) == 1, text
  assert {leaks.kind_of(answer) for answer in KINDS[kind]} == {kind}


def test_a_list_of_candidates_is_a_leak_and_none_is_left():
  text = 'One of ' + ', '.join(map(str, range(36, 48)))
  named = critique(text, '42', QUESTION, SOLUTION)
  assert leaks.leaks(named)
  # 41 and 46 stand in the solution.
  assert leaks.masked(named) == 'One of ?, ?, ?, ?, ?, 41, ?, ?, ?, ?, 46, ?'


@pytest.mark.parametrize(
  ('conclusion', 'masked_text'),
  [
    ('Step 1 is wrong. It is 8 * 6 = 48, not 46.',
     'Step 1 is wrong. It is 8 * 6 = ?, not 46.'),
    ('Take 8 boxes of 6, less 5.', 'Take 8 boxes of 6, less 5.'),
    ('48 - 5', '?'), ('8 + 5', '?'), ('5 * 8', '?'),
    # Steps, items of a list, names of variables.
    ('Steps 1 and 2, the 3rd one', 'Steps 1 and 2, the 3rd one'),
    ('1. Fine.\n2. Wrong.', '1. Fine.\n2. Wrong.'),
    ('Step 43 is wrong, and steps 1, 43', 'Step ? is wrong, and steps 1, ?'),
    ('42. Fine.\n43. Wrong.', '?. Fine.\n?. Wrong.'),
    # Known numbers, but called the answer.
    ('The answer is 5.', 'The answer is ?.'),
    (r'So \boxed{46}.', r'So \boxed{?}.'),
    ('#### 41', '#### ?'),
    ('Total: 6 pens', 'Total: ? pens'),
    ('one of the two steps', 'one of the two steps'),
  ],
)  # fmt: skip
def test_what_the_solver_has_before_its_eyes_stays(conclusion, masked_text):
  named = critique(conclusion, '43', QUESTION, SOLUTION)
  assert leaks.masked(named) == masked_text


CHOICES = 'Which city?\nA. Paris\nB. Rome\nC) 12\n(D) New York'


@pytest.mark.parametrize(
  ('answer', 'conclusion', 'is_leak', 'masked_text'),
  [
    ('A', 'A step is wrong: A is right.', True,
     'A step is wrong: ? is right.'),
    ('B', 'It is Rome, not A.', True, 'It is ?, not ?.'),
    ('D', 'New York', True, '? ?'),
    ('C', 'There are 12.', True, 'There are ?.'),
    ('C', 'A step is wrong.', False, 'A step is wrong.'),
    ('C', '(D)', False, '(?)'),
  ],
)  # fmt: skip
def test_choices_and_the_texts_of_options(
  answer, conclusion, is_leak, masked_text
):
  named = critique(conclusion, answer, CHOICES, 'It is B.')
  assert leaks.leaks(named) is is_leak
  assert leaks.masked(named) == masked_text


def test_steps_are_no_leaks():
  for text in (
    'Step 2 is wrong.', 'Step [2]', 'Bullet 2', 'steps 1 and 2',
    'In the 2nd step', 'Line 2:', 'Step #2', 'x^2 + y^{2} is x\u00b2 + y**2',
    '1. Right.\n2. Wrong.', 'the two steps', 'x_2 is y', 'Step (2)',
  ):  # fmt: skip
    assert not leaks.leaks(critique(text, '2')), text
    assert not leaks.leaks(critique(text, '2', QUESTION, SOLUTION)), text
  # The solution has three lines.
  assert leaks.leaks(critique('Step 41 is wrong', '41', QUESTION, SOLUTION))
  assert leaks.leaks(critique('It is two.', '2'))


@pytest.mark.parametrize('answer', ['42', 'x^2+1', 'B', 'yes', 'Evelyn'])
@pytest.mark.parametrize(
  'unit',
  ['(', '1+', '(1', '-', '1 ', '\\frac', '2^', '((1)', '1(', 'forty ', '1/',
   '{}',
   '*', '_', '\\!', 'A ', 'step 1 and ', 'answer is ', '\\sqrt', '9', '1,',
   '1. ',
   '\u200b', 'x', '\n', ' ', '1)', '!', '%'],
)  # fmt: skip
def test_any_length_is_read_in_linear_time(unit, answer):
  text = unit * (3000 // len(unit))
  start = time.process_time()
  named = critique(text, answer, text, text)
  leaks.leaks(named)
  leaks.masked(named)
  assert time.process_time() - start < 0.7


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
    ('12', '7 + 12 = 19', True),
    ('12', '12-hour day', True),
    ('12', '20-12', True),
    ('12', '1,012 and 12,000', False),
    ('1200', 'it is 1,200.', True),
    ('1,200', 'it is 1200', True),
    (r'\frac{1}{2}', r'gives $\frac{1}{2}$', True),
    ('12', None, False),
    ('x=1, y=2', 'so 1 and 2', True),
    (r'\{1, 2\}', 'so 2 and 1', True),
    ('2x', 'take 2', False),
    ('2x^2', 'it is 2x', False),
    ('2x^2', 'it is 2 x\u00b2', True),
    ('x^2+1', '1 is missing in x^2', False),
    ('?', 'so it is ?', True),
    ('', 'anything', False),
  ],
)
def test_leaks(answer, conclusion, is_leak):
  assert leaks.leaks(critique(conclusion, answer)) is is_leak


@pytest.mark.parametrize(
  ('answer', 'conclusion', 'masked_text'),
  [
    ('12', 'Step 3: 4 * 3 = 12, so 12.', 'Step 3: ? = ?, so ?.'),
    ('12', '112 goes', '? goes'),
    ('1200', 'it is 1,200.', 'it is ?.'),
    (r'\frac{1}{2}', r'$\frac{1}{2}$', '$?$'),
    ('', 'it is 12', 'it is 12'),
    ('12', None, ''),
  ],
)
def test_masked(answer, conclusion, masked_text):
  assert leaks.masked(critique(conclusion, answer)) == masked_text
