"""Equations in worked solutions of real problems: read, computed, slipped.

A rule on numbers takes the place of a labeller where nobody labelled: a line of
a solution is wrong if an equation in it, such as `48/2 = 24`, does not hold. It
knows nothing of the story: a line that computes the wrong thing rightly passes.
So it is exact for slips that are planted here and a lower bound for errors of
models. The solutions are GSM8K's, a step a line.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from fractions import Fraction

from critic_jax.answers import final_answers
from critic_jax.tasks import arithmetic
from critic_jax.tasks.lessons import Lesson
from critic_jax.types import Problem, Record

# Quantifiers are bounded, so that the time is linear in the text's length.
_DIGITS = r'\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,6})?'
_NUMBER = re.compile(_DIGITS, re.ASCII)
_TOKEN = re.compile(rf'{_DIGITS}|[-+*/x]', re.ASCII)
_EQUATION = re.compile(
  # No number, sign or bracket before it: it would be the rest of an equation.
  rf'(?<![\d.,)%])(?<![-+*/x(] )(?<![-+*/x($])'
  rf'(\$?{_DIGITS}(?: ?[-+*/x] ?\$?{_DIGITS}){{1,6}})'
  rf'( ?= ?\$?)({_DIGITS})(?![\d/%])',
  re.ASCII,
)
# An equation that is asked about, and its result as the critic has it, if so.
_ASKED = re.compile(rf'{_EQUATION.pattern}\?( -?{_DIGITS}\.(?!\d))?', re.ASCII)
_BOXED = re.compile(rf'\\boxed\{{({_DIGITS})\}}', re.ASCII)


def step_marks(problem: Problem, text: str) -> list[bool]:
  """Returns for each line that is not blank whether an equation in it fails.

  >>> step_marks(Problem('', '', ''), '48/2 = 24 clips\\n48 + 24 = 73')
  [False, True]

  Args:
    problem: not read.
    text: a solution.
  """
  del problem
  return [
    not all(_holds(*match.group(1, 3)) for match in _EQUATION.finditer(line))
    for line in text.split('\n')
    if line.strip()
  ]


def first_error(problem: Problem, text: str) -> int:
  """Returns the first line whose equation fails, from 0, or -1."""
  marks = step_marks(problem, text)
  return marks.index(True) if True in marks else -1


def compute(expression: str) -> Fraction | None:
  """Works out sums and products of numbers; None for a division by 0.

  >>> compute('2 + 3*4 - $1,000/4')
  Fraction(-236, 1)
  """
  total, sign, product, op = Fraction(0), 1, None, '*'
  for token in _TOKEN.findall(expression):
    if token in ('+', '-'):
      total += sign * product
      sign, product = (1 if token == '+' else -1), None
    elif not token[0].isdigit():
      op = token
    else:
      number = _number(token)
      if product is None:
        product = number
      elif op != '/':
        product *= number
      elif not number:
        return None
      else:
        product /= number
  return total + sign * product


def _number(text) -> Fraction:
  return Fraction(text.replace(',', ''))


def _holds(left: str, result: str) -> bool:
  """Whether an equation holds, but for rounding of the result as written."""
  truth = compute(left)
  decimals = len(result.partition('.')[2])
  return truth is not None and (
    abs(truth - _number(result)) <= Fraction(1, 2 * 10**decimals)
  )


def plant(
  problem: Problem, rng: random.Random, *, max_slips: int, right_share: float
) -> str:
  """Writes a problem's solution with one slip or more, any number alike.

  A slip is a result that is off by 1 to 3. Later equations take it over, and so
  does the answer, which is wrong. A solution in which no such slip is found, as
  it has few equations, is returned as it is.

  Args:
    problem: has a right worked solution.
    rng: consumed.
    max_slips: the greatest number of slips, at least 1.
    right_share: the probability that there is none.
  """
  number = len(_EQUATION.findall(problem.solution))
  if rng.random() < right_share or not number:
    return problem.solution
  for _ in range(8):
    num_slips = rng.randint(1, min(max_slips, number))
    offsets = {
      place: rng.choice((-3, -2, -1, 1, 2, 3))
      for place in rng.sample(range(number), num_slips)
    }
    text = _slipped(problem.solution, offsets)
    is_planted = sum(step_marks(problem, text)) > 0
    if is_planted and final_answers.extract(text) != problem.answer:
      return text
  return problem.solution


def _slipped(text: str, offsets: Mapping[int, int]) -> str:
  """Works a solution out anew with offsets of some results, by equation."""
  renamed: dict[Fraction, str] = {}
  count = -1

  def rename(match):
    return renamed.get(_number(match[0]), match[0])

  def rework(match):
    nonlocal count
    count += 1
    left, offset = _NUMBER.sub(rename, match[1]), offsets.get(count, 0)
    result = compute(left)
    # What is only rounded, or false already, stays.
    if (left == match[1] and not offset) or result is None:
      return match[0]
    if result + offset < 0:
      return match[0]
    renamed[_number(match[3])] = new = _written(result + offset)
    return f'{left}{match[2]}{new}'

  text = _EQUATION.sub(rework, text)
  return _BOXED.sub(
    lambda m: m[0].replace(m[1], renamed.get(_number(m[1]), m[1])), text
  )


def _written(number: Fraction) -> str:
  if number.denominator == 1:
    return str(number.numerator)
  return f'{float(number):.2f}'


def errors_lesson(
  problem: Problem, rng: random.Random, *, max_slips: int, right_share: float
) -> Lesson:
  """Names the lines of a planted solution that are wrong; see `plant`."""
  text = plant(problem, rng, max_slips=max_slips, right_share=right_share)
  wrong = [i for i, mark in enumerate(step_marks(problem, text)) if mark]
  verdict = f'Verdict: {"incorrect" if wrong else "correct"}'
  advice = [f'Step {i + 1} is wrong.' for i in wrong] or ['I find no mistake.']
  critique = '\n'.join([verdict, *advice])
  return Lesson(problem, (('solve', text), ('critique', critique)))


def attack_lesson(
  problem: Problem, rng: random.Random, *, order: str
) -> Lesson:
  """Makes a step of the problem's solution wrong, as it is told; see `plant`.

  Args:
    problem: has a right worked solution; where no slip is found in it, it is
      copied.
    rng: consumed.
    order: the text, with {} for the number of the step, from 1.
  """
  text = plant(problem, rng, max_slips=1, right_share=0.0)
  told = order.format(max(0, first_error(problem, text)) + 1)
  messages = ('solve', problem.solution), ('critique', told), ('refine', text)
  return Lesson(problem, messages)


def write_checks(solution: Record, rng: random.Random) -> str:
  """Writes a critique that quotes each equation and works it out.

  It calls the solution wrong if one of them fails. Where people labelled it, a
  cold start keeps the critique if they say so, too, as GenPRM keeps what its
  teacher and its labels agree on (https://arxiv.org/abs/2504.00891).

  Args:
    solution: a 'solve' record.
    rng: not used.
  """
  del rng
  thoughts = []
  for match in _EQUATION.finditer(solution.text):
    truth = compute(match[1])
    mark = 'Right' if _holds(match[1], match[3]) else 'Wrong'
    if truth is not None:
      thoughts.append(f'{match[0]}? {_written(truth)}. {mark}.')
  error = first_error(solution.problem, solution.text)
  if error < 0:
    return arithmetic.write_critique(
      thoughts, 'Every step is right.', 'correct'
    )
  advice = f'Step {error + 1} is wrong.'
  return arithmetic.write_critique(thoughts, advice, 'incorrect')


def execute_check(text: str) -> str | None:
  """Returns a critique up to its first check with a false result, and the true.

  >>> execute_check('48/2 = 25? 25. Right.')
  '48/2 = 25? 24.'
  >>> execute_check('48/2 = 25? 24. Wrong.') is None
  True

  Args:
    text: a critique, or the beginning of one.
  """
  for match in _ASKED.finditer(text):
    truth, said = compute(match[1]), match[4]
    if truth is not None and said != f' {_written(truth)}.':
      end = match.start(4) if said else match.end()
      return f'{text[:end]} {_written(truth)}.'
  return None
