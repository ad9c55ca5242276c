r"""Given solutions, read from the files of benchmarks -> solve `Record`s.

They have texts and no tokens, since no model of ours sampled them, and are
critiqued, graded and ranked as sampled ones are. A file is JSON, CSV, Parquet
or Arrow (row_files.py). A row is in a layout:

  'processbench'  id, generator, problem, steps, final_answer_correct, label
  'prm800k'       id, problem, steps, label, complete, answer
  'triples'       id, problem, solution, correct, generator, reference
  'rewardmath'    id, problem, answer, eval_solution, solution_type, problem_id
  'ranking'       question or problem, chosen, rejected; optional answer, id
  'mr_gsm8k'      as published: question, model_output_steps, ... (annotations)
  'prm800k_raw'   as published: question, label (annotations.py)
  'outputs'       question or problem, solution, and `correct` or the `answer`
                  that the solution is graded by; optional generator, id

The first is ProcessBench's (https://arxiv.org/abs/2412.06559), also of files
made like it; 'triples' are GSM8K problems with solutions of several models,
'rewardmath' is RewardMATH's (https://arxiv.org/abs/2410.01729), a row for each
solution; 'ranking' has a row for each problem, `chosen` and `rejected` being a
solution or a list of them. `label` is the first wrong step, from 0, or -1.

Facts about a solution are in `parsed`; a fact that the file does not give is
absent, since nothing is guessed:

  row_id       the row's id in the file, or '<part>-<its index>'
  part         the part of a benchmark, e.g. 'gsm8k'
  generator    the author of the solution
  steps        the solution's steps, as published; only where it was split
  num_steps    their number, or else the number of lines that are not blank
  first_error  the label
  answer       the solution's final answer, or None
  correct      whether the answer is right; never whether the steps are
  grade        'right' or 'wrong', as the grader of answers says it; 'open':
               it has yet to say it, and `correct` is absent

In PRM800K a complete solution without a wrong step is correct, and its answer
is taken for the problem's; a solution with a wrong step ends there, and the
correctness of its answer is not published.
"""

from __future__ import annotations

import collections
import os
import re
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from critic_jax.answers import final_answers
from critic_jax.data import annotations, file_sets, problems, rows, store
from critic_jax.data.file_sets import FileSet
from critic_jax.types import Problem, Record, given_record

# The last line of texts in the files of 'triples'.
_ENDING = re.compile(r'^A:([^\n]*)\Z', re.M)


class _Entry(NamedTuple):
  """The contents of a row: a problem, and (text, facts) of its solutions."""

  question: str
  solutions: list[tuple[str, dict[str, Any]]]
  answer: str = ''
  reference: str = ''
  problem_id: str = ''  # '': the id of the row


def read(
  source: str | os.PathLike | Sequence[FileSet],
  *,
  layout: str = 'auto',
  columns: str = '',
  part: str | None = None,
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> list[Record]:
  """Reads the solutions of a file, or of a set of files, in their order.

  Solutions of one question are siblings: they share the `Problem`, whose id is
  that of the question's first row, and are numbered in the file's order. The
  problem's answer and reference solution are '' if the file has none.

  A row is bad as `rows.read` says, or if it has the id of an earlier row, or
  gives an earlier problem's id to another question.

  Args:
    source: a file, or a list of one set of files.
    layout: a layout of the docstring above, or 'auto': the first good row's.
    columns: names of ours for columns of the file (column_names.py).
    part: the file's name in `parsed`; the set's name if None. It also goes
      before ids that are numbers.
    bad_rows: 'error', or 'skip' to leave them out.
    report: called with one line of text if rows were skipped.

  Returns:
    Records of the stage 'solve', at least one.

  Raises:
    ValueError: a bad row (file, place and reason), no good row, or an unknown
      `layout` or `bad_rows`.
  """
  sets = file_sets.of(source)
  part = rows.check_name('part', sets[0].name if part is None else part)
  row_ids: set[str] = set()
  questions: dict[str, str] = {}  # by problem id

  def make(row, layout, file_set, index):
    del file_set
    entry = _LAYOUTS[layout](row)
    row_id = rows.name(row, 'id') or rows.name(row, 'uuid') or str(index)
    row_id = _name(row_id, part)
    problem_id = _name(entry.problem_id, part) or row_id
    if row_id in row_ids:
      raise ValueError(f'id: got {row_id!r} again; expected a new one')
    if questions.setdefault(problem_id, entry.question) != entry.question:
      raise ValueError(
        f'problem: got another question of {problem_id!r}; expected the same'
      )
    row_ids.add(row_id)
    place = {'row_id': row_id, 'part': part}
    return entry._replace(
      solutions=[(text, place | facts) for text, facts in entry.solutions],
      problem_id=problem_id,
    )

  return _records(
    rows.read(
      sets, _LAYOUTS, make, layout=layout, columns=columns,
      names=('question', 'solution', 'answer'), bad_rows=bad_rows,
      report=report,
    )
  )  # fmt: skip


def sample(
  records: Sequence[Record],
  number: int,
  *,
  seed: int | None = None,
  by: str = 'solution',
) -> list[Record]:
  """Draws some of the solutions, in their order and with their ids.

  Args:
    records: the results of `read` for one or several files.
    number: the number of solutions, or of problems with all their solutions.
    seed: the seed of the draw, without replacement; None takes the first.
    by: the unit of `number`, 'solution' or 'problem'.

  Raises:
    ValueError: there are fewer than `number`.
  """
  rows.check('by', by, ('solution', 'problem'))
  units = [
    place if by == 'solution' else record.problem.id
    for place, record in enumerate(records)
  ]
  choices = list(dict.fromkeys(units))
  if not 0 < number <= len(choices):
    raise ValueError(
      f'number: got {number!r}; expected 1 to {len(choices)} with by={by!r}'
    )
  order = range(len(choices))
  if seed is not None:
    order = store.shuffled(len(choices), seed=seed, epoch=0)
  draw = {choices[place] for place in order[:number]}
  return [
    record for record, unit in zip(records, units, strict=True) if unit in draw
  ]


def _name(name: str, part: str) -> str:
  """Returns a name that is unique among parts: a number gets the part's."""
  return f'{part}-{name}' if name.isdecimal() else name


def _records(entries: Sequence[_Entry]) -> list[Record]:
  # Solutions of one question share a problem, with the first answer given.
  by_question: dict[str, Problem] = {}
  for entry in entries:
    problem = by_question.get(entry.question)
    if problem is None or (entry.answer and not problem.answer):
      by_question[entry.question] = Problem(
        id=problem.id if problem else entry.problem_id,
        question=entry.question,
        answer=entry.answer,
        solution=entry.reference,
      )
  # Number siblings in the file's order.
  counts, records = collections.Counter(), []
  for entry in entries:
    for text, facts in entry.solutions:
      records.append(
        given_record(
          by_question[entry.question],
          text,
          counts[entry.question],
          parsed=facts,
        )
      )
      counts[entry.question] += 1
  return records


# ---------------------------------------------------------------- layouts


def _processbench(row: rows.Row) -> _Entry:
  facts = _label(row) | _graded(rows.boolean(row, 'final_answer_correct'))
  return _Entry(rows.text(row, 'problem'), [_stepwise(row, 'steps', facts)])


def _prm800k(row: rows.Row) -> _Entry:
  facts = _label(row)
  complete = rows.boolean(row, 'complete')
  facts['answer'] = _optional_answer(row) or None
  right = complete and facts['first_error'] == -1
  return _Entry(
    rows.text(row, 'problem'),
    [_stepwise(row, 'steps', facts | (_graded(True) if right else {}))],
    answer=(facts['answer'] or '') if right else '',
  )


def _mr_gsm8k(row: rows.Row) -> _Entry:
  return _annotated(annotations.mr_gsm8k(row))


def _prm800k_raw(row: rows.Row) -> _Entry:
  return _annotated(annotations.prm800k(row))


def _annotated(solution: annotations.Annotated) -> _Entry:
  facts = {'first_error': solution.first_error}
  if solution.answer:
    facts['answer'] = solution.answer
  if solution.correct is not None:
    facts |= _graded(solution.correct)
  return _Entry(
    solution.question,
    [_with_steps(solution.steps, facts)],
    solution.reference_answer,
    solution.reference,
  )


def _triples(row: rows.Row) -> _Entry:
  question, text = rows.text(row, 'problem'), rows.text(row, 'solution')
  reference, generator = (
    rows.text(row, 'reference'),
    rows.text(row, 'generator'),
  )
  end = _ENDING.search(reference)
  if not end:
    raise ValueError(
      f"reference: got {reprlib.repr(reference)}; expected 'A: x' last"
    )
  worked = f'{reference[: end.start()]}####{end[1]}'
  problem = problems.parse(
    {'question': question, 'answer': worked}, 'gsm8k', default_id=''
  )
  ending = _ENDING.search(text)
  facts = {
    'generator': generator,
    'answer': (ending and ending[1].strip().replace(',', '')) or None,
    **_graded(rows.boolean(row, 'correct')),
  }
  return _Entry(
    question,
    [_whole(text, facts)],
    problem.answer,
    problem.solution,
    problem_id=(rows.name(row, 'id') or '').removesuffix(f'-{generator}'),
  )


def _rewardmath(row: rows.Row) -> _Entry:
  kind = rows.text(row, 'solution_type')
  rows.check('solution_type', kind, ('chosen', 'rejected'))
  facts = {
    'generator': rows.text(row, 'solution_reference'),
    **_graded(kind == 'chosen'),
  }
  return _Entry(
    rows.text(row, 'problem'),
    [_stepwise(row, 'eval_solution', facts)],
    answer=problems.final_answer(row, 'answer'),
    problem_id=rows.name(row, 'problem_id') or '',
  )


def _ranking(row: rows.Row) -> _Entry:
  question = rows.first_text(row, 'question', 'problem')
  solutions = [
    _whole(text.strip(), _graded(side == 'chosen'))
    for side in ('chosen', 'rejected')
    for text in _one_or_more(row, side)
  ]
  return _Entry(question, solutions, _optional_answer(row))


def _outputs(row: rows.Row) -> _Entry:
  """Reads an output of a model: whether it is right is given, or is graded."""
  for field in ('reference', 'steps', 'chosen', 'eval_solution'):
    if rows.get(row, field) is not None:
      raise ValueError(f'{field}: got one; expected none beside a solution')
  question = rows.first_text(row, 'question', 'problem')
  text, answer = rows.text(row, 'solution'), _optional_answer(row)
  generator = rows.optional_text(row, 'generator')
  facts = {'generator': generator} if generator else {}
  if rows.get(row, 'correct') is not None:
    facts |= _graded(rows.truth(row, 'correct'))
  elif answer:
    facts['grade'] = 'open'
  else:
    raise ValueError(
      'correct: got neither it nor an answer; expected true or false, or the '
      "answer to grade by; write --config.data.columns='correct=COLUMN'"
    )
  return _Entry(question, [_whole(text, facts)], answer)


# In the order in which `detect` tries them.
_LAYOUTS = {
  'processbench': _processbench,
  'prm800k': _prm800k,
  'triples': _triples,
  'rewardmath': _rewardmath,
  'ranking': _ranking,
  'mr_gsm8k': _mr_gsm8k,
  'prm800k_raw': _prm800k_raw,
  'outputs': _outputs,
}


def _label(row: rows.Row) -> dict[str, Any]:
  """Reads 'first_error', and 'generator' if the row has one."""
  num_steps, label = len(rows.texts(row, 'steps')), rows.integer(row, 'label')
  if not -1 <= label < num_steps:
    raise ValueError(
      f'label: got {label}; expected -1 or a step, 0 to {num_steps - 1}'
    )
  generator = rows.optional_text(row, 'generator')
  facts = {'generator': generator} if generator else {}
  return facts | {'first_error': label}


def _graded(correct: bool) -> dict[str, Any]:
  return {'correct': correct, 'grade': 'right' if correct else 'wrong'}


def _stepwise(row: rows.Row, field: str, facts: dict[str, Any]):
  return _with_steps(rows.texts(row, field), facts)


def _with_steps(steps: list[str], facts: dict[str, Any]):
  """Joins steps to a text: a step a line, or a paragraph if one has lines."""
  lines = [step.strip() for step in steps]
  text = ('\n\n' if any('\n' in line for line in lines) else '\n').join(lines)
  defaults = {
    'answer': final_answers.extract(text), 'steps': steps,
    'num_steps': len(steps),
  }  # fmt: skip
  return text, defaults | facts


def _whole(text: str, facts: dict[str, Any]):
  """Returns a solution without published steps, and the facts about it."""
  num_steps = sum(bool(line.strip()) for line in text.split('\n'))
  defaults = {'answer': final_answers.extract(text), 'num_steps': num_steps}
  return text, defaults | facts


def _optional_answer(row: rows.Row) -> str:
  has_answer = rows.get(row, 'answer') is not None
  return problems.final_answer(row, 'answer') if has_answer else ''


def _one_or_more(row: rows.Row, field: str) -> list[str]:
  if isinstance(rows.get(row, field), str):
    return [rows.text(row, field)]
  return rows.texts(row, field)
