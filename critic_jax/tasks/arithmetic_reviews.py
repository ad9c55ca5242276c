"""Reviews of critiques in the embedded world: is what they say so?

They take the place of DeepSeekMath-V2's meta-verifier (https://arxiv.org/abs/2511.22570),
which is a model; here every claim of a critique can be checked. `execute_check`
computes in a critic's place, as GenPRM's sandbox does
(https://arxiv.org/abs/2504.00891).
"""

from __future__ import annotations

import re

from critic_jax.rewards import verdicts
from critic_jax.tasks import arithmetic, arithmetic_labels
from critic_jax.types import Record

# `arithmetic.write_check`: the line, what the checker gets, and the mark.
_CHECK = re.compile(
  r'(Step \d{1,4}: -?\d{1,9} [-+*] -?\d{1,9} = -?\d{1,9})\? '
  r'(-?\d{1,9})\. (Right|Wrong)\.'
)
# A line that is asked about, and its result as the critic has it, if it does.
_ASKED = re.compile(
  r'Step \d{1,4}: (-?\d{1,9}) ([-+*]) (-?\d{1,9}) = -?\d{1,9}\?'
  r'( (-?\d{1,9})\.)?'
)


def execute_check(text: str) -> str | None:
  """Returns a critique up to its first check with a false result, and the true.

  >>> execute_check('Step 2: 11 * 2 = 24? 23. Wrong.')
  'Step 2: 11 * 2 = 24? 22.'
  >>> execute_check('Step 2: 11 * 2 = 24? 22. Right.') is None
  True

  What is executed is the line that the critic quotes, be it the solution's or
  not; the mark is left to the critic.

  Args:
    text: a critique, or the beginning of one.
  """
  for check in _ASKED.finditer(text):
    left, op, right, said, result = check.groups()
    truth = arithmetic.compute(int(left), op, int(right))
    if result is None or int(result) != truth:
      end = check.start(4) if said else check.end()
      return f'{text[:end]} {truth}.'
  return None


def review(critique: Record, *, slip_share: float = 0.5) -> float:
  """Returns how far what a critique says of a solution's steps is so.

  It is 0 if a step that it calls wrong is not wrong by itself, and if it calls
  the solution wrong and names no step: the error is made up, or missing. It is
  `slip_share` if the steps are rightly named, but something that it works out
  is false: a check in its thinking, the line that it quotes, its mark, or the
  line that is proposed.
  Else it is 1, also for 'correct' without a word. More checks of right lines
  make up for nothing.

  Args:
    critique: a critique, its parent a solution of a problem of this world.
    slip_share: the review of a rightly named error with a false computation.
  """
  solution = critique.parent
  marks = arithmetic_labels.step_marks(solution.problem, solution.text)
  wrong = {i for i, is_wrong in enumerate(marks) if is_wrong}
  named = verdicts.wrong_steps(critique.text)
  if named - wrong:
    return 0.0
  if not named and verdicts.verdict(critique.text) != 'correct':
    return 0.0
  proposed = arithmetic.read_steps(verdicts.conclusion(critique.text) or '')
  is_so = all(_is_so(step, solution) for step in proposed)
  checked = _checks_hold(critique.text, solution)
  return 1.0 if is_so and checked else slip_share


def _checks_hold(text: str, solution: Record) -> bool:
  """Whether each check quotes a line, has its true result and a right mark."""
  steps = {str(step): step for step in arithmetic.read_steps(solution.text)}
  for quoted, computed, mark in _CHECK.findall(text):
    step = steps.get(quoted)
    if step is None:
      return False
    truth = arithmetic.compute(step.left, step.op, step.right)
    is_right = step.result == truth
    if int(computed) != truth or is_right != (mark == 'Right'):
      return False
  return True


def _is_so(step: arithmetic.Step, solution: Record) -> bool:
  """Whether a proposed line does the story's next operation, rightly.

  It goes on from the solution's line before, as that is what it corrects.
  """
  program = arithmetic.read_program(solution.problem)
  steps = arithmetic.read_steps(solution.text)
  number = step.number
  if not 1 <= number <= min(len(program.operations), len(steps) + 1):
    return False
  before = steps[number - 2].result if number > 1 else program.start
  op, right = program.operations[number - 1]
  result = arithmetic.compute(before, op, right)
  return step == arithmetic.Step(number, before, op, right, result)
