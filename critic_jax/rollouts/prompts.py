"""Every prompt; pure functions of a Problem or of the Record responded to.

Four styles. `plain` labels the parts and leaves the rest to training: for
models trained here from scratch. `instruct` says in words what is wanted: for
instruct models behind their chat template. `processbench` is `instruct` but for
the critique, which names the first wrong step as ProcessBench asks for it.
`code` is `instruct` for problems whose answers are programs. The solver is
shown a critique's conclusion only, never its thinking.
"""

from __future__ import annotations

from critic_jax.types import Problem, Record


def plain_solve(problem: Problem) -> str:
  """Asks for a solution."""
  return f'Problem: {problem.question}\nSolution:'


def plain_critique(solution: Record) -> str:
  """Asks for a critique of a solution."""
  return f'{plain_solve(solution.problem)}\n{solution.text}\nCritique:'


def plain_refine(critique: Record) -> str:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  conclusion = critique.parsed.get('conclusion') or ''
  return f'{plain_critique(solution)}\n{conclusion}\nRefined solution:'


def instruct_solve(problem: Problem) -> str:
  """Asks for a solution."""
  return (
    f'{problem.question}\n\nSolve the problem step by step, one step a line. '
    'End with a line like this one: The answer is \\boxed{7}.'
  )


def instruct_critique(solution: Record) -> str:
  """Asks for a critique; two examples show its form to small models."""
  return (
    f'Problem:\n{solution.problem.question}\n\n'
    f'A student wrote this solution:\n{solution.text}\n\n'
    'You are the teacher. Go through the solution step by step. Say which step '
    'is wrong, if any, and how to put it right. Then write the verdict on a '
    'line of its own.\n\n'
    'Example of an answer:\nStep 2 is wrong. 3 times 4 is 12, not 10.\n'
    'Verdict: incorrect\n\n'
    'Another example:\nEvery step is right.\nVerdict: correct'
  )


def instruct_refine(critique: Record) -> str:
  """Asks for a refined solution in the light of a critique."""
  solution = critique.ancestor('solve')
  conclusion = critique.parsed.get('conclusion') or ''
  return (
    f'{solution.problem.question}\n\n'
    f'A student wrote this solution:\n{solution.text}\n\n'
    f'The teacher says:\n{conclusion}\n\n'
    'Write a better solution step by step, one step a line. End with a line '
    'like this one: The answer is \\boxed{7}.'
  )


_IN_A_BLOCK = (
  'Write the whole program in one block, which begins with a line ```python '
  'and ends with a line ```. Use the standard library only.'
)


def code_solve(problem: Problem) -> str:
  """Asks for a program."""
  return f'{problem.question}\n\n{_IN_A_BLOCK}'


def code_critique(solution: Record) -> str:
  """Asks for a critique of a program."""
  return (
    f'Problem:\n{solution.problem.question}\n\n'
    f'A student wrote this program:\n{solution.text}\n\n'
    'You are the teacher. Go through the program and say what it does wrong, '
    'if anything, and how to put it right. Then write the verdict on a line of '
    'its own.\n\n'
    'Example of an answer:\nThe loop leaves out the last item.\n'
    'Verdict: incorrect\n\n'
    'Another example:\nIt does what is asked.\nVerdict: correct'
  )


def code_refine(critique: Record) -> str:
  """Asks for a refined program in the light of a critique."""
  solution = critique.ancestor('solve')
  conclusion = critique.parsed.get('conclusion') or ''
  return (
    f'{solution.problem.question}\n\n'
    f'A student wrote this program:\n{solution.text}\n\n'
    f'The teacher says:\n{conclusion}\n\n'
    f'Write a better program. {_IN_A_BLOCK}'
  )


def processbench_critique(solution: Record) -> str:
  r"""Asks for the first wrong step, from 0, as ProcessBench does.

  Its form (https://arxiv.org/abs/2412.06559): the problem, the steps as tagged
  paragraphs counted from 0, and an index or -1 in a box.
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
  """As the solution's file splits it, or else its lines that are not blank."""
  lines = solution.text.split('\n')
  return solution.parsed.get('steps') or [x for x in lines if x.strip()]
