r"""The `instruct` style with critiques that name the first wrong step.

A critique is asked for in the form of ProcessBench
(https://arxiv.org/abs/2412.06559) and read by its rule.
"""

from __future__ import annotations

import re
from typing import Any

from critic_jax.rewards import verdicts
from critic_jax.rollouts.styles import instruct
from critic_jax.types import Record, Stage


def ask_critique(solution: Record) -> str:
  r"""Asks for the first wrong step: its index from 0, or -1, in a box.

  The solution's steps are shown as tagged paragraphs.
  """
  paragraphs = '\n\n'.join(
    f'<paragraph_{i}>\n{step}\n</paragraph_{i}>'
    for i, step in enumerate(_steps(solution))
  )
  # Paper: its template's words; here: the task in ours, which ask for the same,
  # because the template (code/templates/critique_template.txt) has no licence.
  return (
    'The following is a math problem and a solution (split into paragraphs, '
    'enclosed with tags and indexed from 0):\n\n'
    f'[Math Problem]\n\n{solution.problem.question}\n\n'
    f'[Solution]\n\n{paragraphs}\n\n'
    'Check the solution paragraph by paragraph and write a critique of it. If '
    'a paragraph is wrong, answer with the index of the first that is; if none '
    'is, answer with -1.\n\n'
    'Put the answer, which is the index alone, in \\boxed{}.'
  )


def _steps(solution: Record) -> list[str]:
  """Returns the steps as published, or else the lines that are not blank."""
  lines = solution.text.split('\n')
  return solution.parsed.get('steps') or [x for x in lines if x.strip()]


_BOXED = re.compile(r'\\boxed\{([^}]*)\}')


def parse_boxed_step(text: str) -> dict[str, Any]:
  r"""Reads the first wrong step from a critique.

  The benchmark's rule: the last `\boxed{...}` of the whole text, thinking
  included, stripped, as python's `int` reads it. The last of several boxes is
  the critique's one bet, so no text is contradictory. A critique whose thinking
  has no end is measured by that rule, but has no verdict: it is paid nothing.
  https://github.com/QwenLM/ProcessBench/blob/e802463/code/run_eval.py

  >>> parsed = parse_boxed_step('Paragraph 2 adds wrongly: \\boxed{2}')
  >>> parsed['verdict'], parsed['step'], parsed['boxed']
  ('incorrect', 2, '2')

  Returns:
    `boxed`, the string in the box, None without a box: votes count strings.
    `step`, the index, -1 for no wrong step, None if it is no integer >= -1 or
    the thinking has no end.
    `verdict`, 'correct' for -1, 'incorrect' for a step, None for None.
    `status`: 'unfinished' if the thinking has no end, else 'ok' if there is a
    verdict, else 'missing'. `conclusion`, as `verdicts.conclusion` gives it.
  """
  # Without the text that no brace closes, the time is linear.
  boxes = _BOXED.findall(text[: text.rfind('}') + 1])
  boxed = boxes[-1].strip() if boxes else None
  conclusion = verdicts.conclusion(text)
  step = None if boxed is None or conclusion is None else _index(boxed)
  if step is not None:
    verdict, status = 'correct' if step == -1 else 'incorrect', 'ok'
  else:
    verdict, status = None, 'unfinished' if conclusion is None else 'missing'
  return dict(
    verdict=verdict,
    status=status,
    conclusion=conclusion,
    step=step,
    boxed=boxed,
  )


def _index(boxed: str) -> int | None:
  try:
    index = int(boxed)
  except ValueError:
    return None
  return index if index >= -1 else None


STAGES = instruct.STAGES._replace(
  critique=Stage('critique', ask_critique, parse_boxed_step)
)
