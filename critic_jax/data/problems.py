r"""Published problem sets: files -> `Problem`s.

A file is JSON, CSV, Parquet or Arrow (row_files.py). A row is in a layout:

  'gsm8k'          question, answer: a worked solution that ends in `#### x`
  'math'           problem, solution; answer, or a `\boxed{x}` in the solution
  'olympiadbench'  question, final_answer: a list; optional solution, context
  'mbpp'           text, code, test_list (code_rows.py)
  'humaneval'      prompt, entry_point, canonical_solution, test
  'generic'        question or problem, answer; optional solution

and may have an `id`. A text before the question (`context`, `passage`, `Body`)
and options (`choices`, `options`) are read, too (questions.py); the answer of a
choice is a letter. Names of fields may be capitalised, answers may be numbers,
and other fields are ignored; those with long texts are reported. As published,
GSM8K is 'gsm8k'; MATH, MATH-500, Minerva and AIME with solutions are 'math';
AIME, AMC, SVAMP, MMLU, ARC and AQuA are 'generic'. The answers of 'mbpp' and
'humaneval' are tests, to be graded by `graders.name='code'`.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from critic_jax.answers import final_answers, tolerance
from critic_jax.data import code_rows, file_sets, questions, rows, splits
from critic_jax.data.file_sets import FileSet
from critic_jax.execution import code
from critic_jax.types import Problem

# GSM8K's calculator annotations, `<<48/2=24>>`.
_ANNOTATION = re.compile(r'<<[^<>\n]*>>')
_DOLLARS = re.compile(r'\$([^$]*)\$')
# The mark of an image in a question of OlympiadBench.
_IMAGE = re.compile(r'<(?:img|image)_[0-9]+>')


def read(
  source: str | os.PathLike | Sequence[FileSet],
  *,
  layout: str = 'auto',
  columns: str = '',
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[Problem]:
  """Reads the problems of a file, or of sets of files, in their order.

  A row is bad as `rows.read` says, or if it lacks a question or a final answer,
  or has the id of an earlier row. A row without an id gets '<name of the
  set>-<its index>', from 0; empty lines of JSON count. A set's name is that of
  its file; if there are several sets, ids of rows begin with it, too. A
  question that occurs again under another id is kept, since published sets have
  some; it is reported, and `splits.split` keeps copies together.

  Args:
    source: a file, or sets of files.
    layout: a layout of the docstring above, or 'auto': the first good row's.
    columns: names of ours for columns of the files (column_names.py).
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped, if questions are
      repeated, if a reference solution is not graded right by its own answer,
      or if tests have values that the grader of programs cannot compare.

  Returns:
    The problems, at least one.

  Raises:
    ValueError: a bad row (file, place and reason), no good row, or an unknown
      `layout` or `bad_rows`.
  """
  sets, ids = file_sets.of(source), set()
  unread = collections.Counter()

  def make(row, layout, file_set, index):
    problem = parse(row, layout, default_id=f'{file_set.name}-{index}')
    if not (file_set.is_alone or problem.id.startswith(f'{file_set.name}-')):
      full_id = rows.check_name('id', f'{file_set.name}-{problem.id}')
      problem = dataclasses.replace(problem, id=full_id)
    if problem.id in ids:
      raise ValueError(
        f'id: got {problem.id!r} again; expected a new one; to number the rows '
        "instead write --config.data.columns='id='"
      )
    ids.add(problem.id)
    unread.update(questions.unread(row, _FIELDS[layout]))
    return problem

  problems = rows.read(
    sets, _LAYOUTS, make, layout=layout, columns=columns, bad_rows=bad_rows,
    report=report,
  )  # fmt: skip
  path = file_sets.label(sets)
  if unread:
    report(f'{path}: {questions.unread_report(unread, len(problems))}')
  for line in (_ungraded(problems), _uncomparable(problems)):
    if line:
      report(f'{path}: {line}')
  if copies := splits.repeats(problems):
    answer = {problem.id: problem.answer for problem in problems}
    num_conflicts = sum(answer[a] != answer[b] for a, b in copies.items())
    pairs = [f'{a!r} as {b!r}' for a, b in copies.items()]
    report(
      f'{path}: {len(copies)} of {len(problems)} rows ask what an earlier one '
      f'asks, {num_conflicts} of them with another answer: {_shortened(pairs)}'
    )
  return problems


def parse(row: Mapping[str, Any], layout: str, *, default_id: str) -> Problem:
  r"""Reads the problem of a row.

  >>> answer = '96/2 = <<96/2=48>>48\n#### 48'
  >>> row = {'question': 'What is half of 96?', 'answer': answer}
  >>> parse(row, 'gsm8k', default_id='g-0').solution
  '96/2 = 48\nThe answer is \\boxed{48}.'

  Args:
    row: field names to values, as JSON has them.
    layout: a layout of the docstring above.
    default_id: the id of a row that has none.

  Returns:
    The problem; its texts are stripped, not empty (but for the solution) and
    can be encoded in UTF-8.

  Raises:
    ValueError: the row is not a good row of this layout.
  """
  rows.check('layout', layout, tuple(_LAYOUTS))
  question, answer, solution = _LAYOUTS[layout](row)
  if not code.is_reference(answer):
    question = _with_options(row, question)
  return Problem(
    id=rows.name(row, 'id') or default_id,
    question=question,
    answer=answer,
    solution=solution,
  )


def detect(row: Mapping[str, Any]) -> str:
  """Returns the first layout in which a row is good, or raises ValueError."""
  return rows.detect(row, _LAYOUTS)


def final_answer(row: rows.Row, field: str) -> str:
  """Reads a final answer: a text of one line or a number, else ValueError."""
  return _one_line(field, rows.text_or_number(row, field))


def _ungraded(problems: Sequence[Problem]) -> str:
  """Says which reference solutions are not graded right, as far as is cheap.

  Programs are not run here, and answers that only math_verify can compare are
  believed.
  """
  reasons = []
  for problem in problems:
    if not problem.solution or code.is_reference(problem.answer):
      continue
    answer = final_answers.extract(problem.solution)
    if answer is None:
      reasons.append(f'{problem.id!r} (no marked answer)')
    elif final_answers.exact(answer, problem.answer) is False:
      reasons.append(
        f'{problem.id!r} ({reprlib.repr(answer)}, not '
        f'{reprlib.repr(problem.answer)})'
      )
  if not reasons:
    return ''
  return (
    f'{len(reasons)} of {len(problems)} reference solutions are not graded '
    f'right by their own answer: {_shortened(reasons)}'
  )


def _uncomparable(problems: Sequence[Problem]) -> str:
  """Says which tests of programs have values that cannot be compared."""
  reasons = [
    f'{problem.id!r} ({values[0]})'
    for problem in problems
    if code.is_reference(problem.answer)
    and (values := code_rows.uncomparable(problem.answer))
  ]
  if not reasons:
    return ''
  return (
    f'tests of {len(reasons)} of {len(problems)} problems compare, or give a '
    f'program, values that are no plain data, so that none passes: '
    f'{_shortened(reasons)}'
  )


def _shortened(items: Sequence[str]) -> str:
  return ', '.join(items[:5]) + (', ...' if len(items) > 5 else '')


# A number with commas between its thousands, and its unit: '$1,200', '1,200 g'.
_THOUSANDS = re.compile(
  r'([^\d(){}\[\],]*)(\d{1,3}(?:,\d{3})+)(\.\d+)?([^\d(){}\[\],]*)'
)


def without_thousands(answer: str) -> str:
  """Returns '1200' for '1,200'; lists and tuples keep their commas."""
  match = _THOUSANDS.fullmatch(answer)
  if not match:
    return answer
  return match[1] + match[2].replace(',', '') + (match[3] or '') + match[4]


def _gsm8k(row: rows.Row) -> tuple[str, str, str]:
  question, text = questions.whole(row, 'question'), rows.text(row, 'answer')
  body, hashes, answer = text.rpartition('####')
  answer = without_thousands(answer.strip())
  is_answer = hashes and answer.strip(' ,') and '\n' not in answer
  if not is_answer or len(answer) > final_answers.MAX_ANSWER:
    raise ValueError(
      f"answer: got {reprlib.repr(text)}; expected '#### x' last"
    )
  if choices := questions.options(row):
    answer = questions.choice(
      answer, choices, is_index=False, is_label=questions.are_numbered(row)
    )
  steps = _ANNOTATION.sub('', body).strip()
  ending = f'The answer is \\boxed{{{answer}}}.'
  return question, answer, f'{steps}\n{ending}' if steps else ending


def _math(row: rows.Row) -> tuple[str, str, str]:
  question = questions.whole(row, 'problem')
  solution = rows.text(row, 'solution')
  if questions.options(row):
    return question, _choice(row), solution
  if rows.get(row, 'answer') is not None:
    answer = rows.text_or_number(row, 'answer')
    # Where a solution is given too, a break is LaTeX's, not a worked answer's.
    return question, _one_line('answer', ' '.join(answer.split())), solution
  boxed = final_answers.extract(solution)
  if boxed is None:
    raise ValueError(
      f'solution: got {reprlib.repr(solution)}; expected a \\boxed answer'
    )
  return question, boxed, solution


def _olympiadbench(row: rows.Row) -> tuple[str, str, str]:
  """Reads a row, unless the grader of final answers cannot grade it.

  The `unit` is no part of the answer, as in the benchmark. Several answers
  become a list, `1, 2`, which the grader compares as a set.
  """
  question = questions.whole(row, 'question')
  image = _IMAGE.search(question)
  if image:
    raise ValueError(f'question: got {image[0]!r}; expected text only')
  if 'Need_human_evaluate' in str(rows.get(row, 'answer_type')):
    raise ValueError(
      "answer_type: got 'Need_human_evaluate'; expected one that rules grade"
    )
  parts = [
    _DOLLARS.sub(r'\1', part) if _DOLLARS.fullmatch(part) else part
    for part in map(str.strip, rows.texts(row, 'final_answer'))
  ]
  has_solution = bool(rows.get(row, 'solution'))
  solution = rows.texts(row, 'solution')[0].strip() if has_solution else ''
  answer = _one_line('final_answer', ', '.join(parts))
  if rows.get(row, 'error'):
    answer = _one_line('final_answer', _tolerant(row, answer))
  return question, answer, solution


def _tolerant(row: rows.Row, answer: str) -> str:
  """Adds the tolerance of a row of OlympiadBench, one for all its answers."""
  try:
    stated = rows.text_or_number(row, 'error').split(',')
    [only] = {part.strip() for part in stated}
    return tolerance.state(answer, only)
  except ValueError:
    raise ValueError(
      f'error: got the tolerance {reprlib.repr(rows.get(row, "error"))}; '
      'expected one number > 0'
    ) from None


def _generic(row: rows.Row) -> tuple[str, str, str]:
  question = questions.whole(row, 'question', 'problem')
  is_choice = questions.options(row)
  answer = _choice(row) if is_choice else final_answer(row, 'answer')
  return question, answer, rows.optional_text(row, 'solution')


def _choice(row: rows.Row) -> str:
  """Returns the letter of the right option."""
  fields = [f for f in questions.ANSWERS if rows.get(row, f) is not None]
  answer = rows.get(row, (fields or ['answer'])[0])
  return questions.choice(
    final_answer(row, (fields or ['answer'])[0]),
    questions.options(row),
    is_index=isinstance(answer, int),
    is_label=questions.are_numbered(row),
  )


def _with_options(row: rows.Row, question: str) -> str:
  choices = questions.options(row)
  return questions.with_options(question, choices) if choices else question


# In the order in which `detect` tries them.
_LAYOUTS = {
  'gsm8k': _gsm8k,
  'math': _math,
  'olympiadbench': _olympiadbench,
  'mbpp': code_rows.mbpp,
  'humaneval': code_rows.humaneval,
  'generic': _generic,
}


_PARTS = ('id', *questions.BEFORE, *questions.OPTIONS)
# The fields that are read; others with long texts are reported.
_FIELDS = {
  'gsm8k': ('question', 'answer', *_PARTS),
  'math': ('problem', 'solution', *questions.ANSWERS, *_PARTS),
  'olympiadbench': ('question', 'final_answer', 'solution', *_PARTS),
  'mbpp': (
    'id', 'text', 'prompt', 'code', 'test_list', 'test_setup_code',
    'challenge_test_list', 'test_imports',
  ),
  'humaneval': ('id', 'prompt', 'entry_point', 'canonical_solution', 'test'),
  'generic': ('question', 'problem', 'solution', *questions.ANSWERS, *_PARTS),
}  # fmt: skip


def _one_line(field: str, answer: str) -> str:
  # Else a GSM8K file whose first row lacks its '####' would read as generic.
  is_worked = '\n' in answer or '####' in answer
  if is_worked or len(answer) > final_answers.MAX_ANSWER:
    raise ValueError(
      f'{field}: got {reprlib.repr(answer)}; expected a final answer: one line '
      f'of at most {final_answers.MAX_ANSWER} characters'
    )
  return answer
