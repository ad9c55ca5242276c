"""The stages of the critic loop: a prompt with its parser, by prompt style."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from critic_jax.rewards import answers, code, verdicts
from critic_jax.rollouts import prompts
from critic_jax.types import Stage


class Stages(NamedTuple):
  """Solve a problem, critique the solution, refine it with the critique."""

  solve: Stage
  critique: Stage
  refine: Stage


def parse_answer(text: str) -> dict[str, Any]:
  """What is read from a solution: its final answer, or None."""
  return {'answer': answers.extract(text)}


def parse_program(text: str) -> dict[str, Any]:
  """What is read from a solution in code: its program, or None."""
  return {'answer': code.extract(text)}


_BOXED = re.compile(r'\\boxed\{([^}]*)\}')


def parse_boxed_step(text: str) -> dict[str, Any]:
  r"""What is read from a critique in the `processbench` style.

  The benchmark's rule: the last `\boxed{...}` of the whole text, thinking
  included, stripped, as python's `int` reads it. Of several boxes the last is
  the critique's one bet, so no text is contradictory.
  https://github.com/QwenLM/ProcessBench/blob/e802463/code/run_eval.py

  >>> found = parse_boxed_step('Paragraph 2 adds wrongly: \\boxed{2}')
  >>> found['verdict'], found['step'], found['boxed']
  ('incorrect', 2, '2')

  Returns:
    `boxed`, the string in the box, None without a box: votes count strings.
    `step`, the index, -1 for no wrong step, None if it is no integer >= -1.
    `verdict`, 'correct' for -1, 'incorrect' for a step, None for None.
    `status`: 'ok' if there is a verdict, else 'unfinished' if the thinking has
    no end, else 'missing'. `conclusion`, as `verdicts.conclusion` gives it.
  """
  # Without what no brace closes, the time is linear.
  boxes = _BOXED.findall(text[: text.rfind('}') + 1])
  boxed = boxes[-1].strip() if boxes else None
  step = None if boxed is None else _index(boxed)
  conclusion = verdicts.conclusion(text)
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


PLAIN = Stages(
  Stage('solve', prompts.plain_solve, parse_answer),
  Stage('critique', prompts.plain_critique, verdicts.parse),
  Stage('refine', prompts.plain_refine, parse_answer),
)
INSTRUCT = Stages(
  Stage('solve', prompts.instruct_solve, parse_answer),
  Stage('critique', prompts.instruct_critique, verdicts.parse),
  Stage('refine', prompts.instruct_refine, parse_answer),
)
PROCESSBENCH = INSTRUCT._replace(
  critique=Stage('critique', prompts.processbench_critique, parse_boxed_step)
)
CODE = Stages(
  Stage('solve', prompts.code_solve, parse_program),
  Stage('critique', prompts.code_critique, verdicts.parse),
  Stage('refine', prompts.code_refine, parse_program),
)


def make_stages(style: str) -> Stages:
  """The stages in a prompt style.

  Raises:
    ValueError: an unknown style.
  """
  styles = {
    'plain': PLAIN,
    'instruct': INSTRUCT,
    'processbench': PROCESSBENCH,
    'code': CODE,
  }
  if style not in styles:
    raise ValueError(f'prompts: got {style!r}; expected one of {list(styles)}')
  return styles[style]
