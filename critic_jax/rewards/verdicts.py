r"""Judgements: right or wrong, and the first wrong step.

A critique is optional thinking and then a conclusion. Only the conclusion is
read, and shown to a solver; every function here takes the critique's text,
looks for the conclusion first and never raises on a text.

A verdict is a sentence `Verdict: correct` or `Verdict: incorrect`. Case,
bold, backticks, `\boxed{}` around the word and a full stop after it are free;
anything else in the sentence, a letter from another alphabet or an invisible
character included, is no verdict. A substring test would always reward a
critique that holds both sentences; such a critique has no verdict here.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from critic_jax.types import THINKING

Status = Literal['ok', 'missing', 'contradictory', 'unfinished']

# Quantifiers are bounded, so that the time is linear in the text's length.
# ASCII: with Unicode rules a dotless i or a long s would match.
_FLAGS = re.IGNORECASE | re.ASCII
_LABEL = re.compile(r'(?<![a-z0-9])verdict[*_`]{0,3}[ \t]{0,8}:', _FLAGS)
_WORD = r'(correct|incorrect)'
_SENTENCE = re.compile(
  r'[*_`]{0,3}[ \t]{0,8}[*_`]{0,3}'
  rf'(?:{_WORD}|\$?\\boxed\{{(?:{_WORD}|\\text\{{{_WORD}\}})\}}\$?)'
  # The sentence ends with a full stop or with its line.
  r'[*_`]{0,3}(?:\.[*_`]{0,3}(?=\s|\Z)|[ \t\r]{0,8}(?=\n|\Z))',
  _FLAGS,
)
_BOXED_STEP = re.compile(r'\\boxed\{[ \t]{0,8}(-?[0-9]{1,4})[ \t]{0,8}\}')
_WRONG_STEP = re.compile(
  r'\bstep[ \t]{1,8}([0-9]{1,4})[*_`]{0,3}[ \t]{1,8}is[ \t]{1,8}'
  r'[*_`]{0,3}(?:wrong|incorrect)\b(?!-)',
  _FLAGS,
)


def conclusion(text: str) -> str | None:
  """Returns the text after a critique's thinking; None if that is unfinished.

  The conclusion is the text after the last closing tag, stripped, or the whole
  text if it has no tag. It never holds a tag, so no thinking reaches the
  solver, however many, nested or stray spans a critique has. A text is
  unfinished if a tag opens after the last close, or if more spans are opened
  than closed. A closing tag alone is fine: a text from elsewhere may lack the
  tag that its prompt opened the span with. Texts that we sample have it
  (`LM.decode_response`).

  Args:
    text: the critique, tags included, those too that the prompt gave.
  """
  end = text.rfind(THINKING[1])
  if text.rfind(THINKING[0]) > end or text.count(THINKING[0]) > text.count(
    THINKING[1]
  ):
    return None
  if end < 0:
    return text.strip()
  return text[end + len(THINKING[1]) :].strip()


def verdict(text: str) -> str | None:
  """Returns the conclusion's 'correct' or 'incorrect', None without one."""
  return _read(conclusion(text))[0]


def status(text: str) -> Status:
  """Returns whether there is a verdict, and if not the reason.

  Returns:
    'ok' if there is one; 'unfinished' if the thinking has no end; 'missing' if
    no sentence states a verdict; 'contradictory' if sentences disagree or one
    of several is malformed ('Verdict: not correct').
  """
  return _read(conclusion(text))[1]


def _read(conclusion: str | None) -> tuple[str | None, Status]:
  """Returns the verdict and the status of a conclusion.

  A repeated verdict is one verdict: rewards depend on the set of verdicts only,
  so a repetition places no second bet. Each `Verdict:` must be a sentence of
  the form above, else the set is unknown.
  """
  if conclusion is None:
    return None, 'unfinished'
  words = set()
  for label in _LABEL.finditer(conclusion):
    sentence = _SENTENCE.match(conclusion, label.end())
    groups = sentence.groups() if sentence else ()
    words.update([w.lower() for w in groups if w] or [''])
    if len(words) > 1:
      return None, 'contradictory'
  if words <= {''}:
    return None, 'missing'
  return words.pop(), 'ok'


def _step(conclusion: str | None) -> int | None:
  r"""Returns the step that the conclusion calls the first wrong one, 0-based.

  Two formats: ProcessBench's last `\boxed{k}`, 0-based, -1 for "no step"
  (https://arxiv.org/abs/2412.06559), and the sentence `Step k is wrong` (or
  `incorrect`), 1-based in the text; the first such sentence counts. If both
  occur, the sentence counts in a conclusion with a verdict, whose box may
  hold a corrected answer, and the box in one without.

  Returns:
    k >= 0, -1 if the conclusion says that no step is wrong, None if it names
    none.
  """
  if conclusion is None:
    return None
  sentence = _WRONG_STEP.search(conclusion)
  named = int(sentence[1]) - 1 if sentence else -1
  named = named if named >= 0 else None  # steps are counted from 1
  boxed = None
  for match in _BOXED_STEP.finditer(conclusion):
    boxed = int(match[1])
  boxed = boxed if boxed is None or boxed >= -1 else None
  steps = (named, boxed) if _read(conclusion)[0] else (boxed, named)
  return next((step for step in steps if step is not None), None)


def wrong_sentences(text: str) -> list[tuple[int, str]]:
  """Returns the conclusion's sentences `Step k is wrong` (or `incorrect`).

  >>> wrong_sentences('Step 2 is wrong. Why? Step 4 is incorrect.')
  [(1, '. Why? '), (3, '.')]

  Returns:
    The step of each, 0-based, where a step 0 is -1, which no solution has; and
    the text from there to the next such sentence, or to the end.
  """
  ending = conclusion(text) or ''
  sentences = [*_WRONG_STEP.finditer(ending)]
  ends = [*(sentence.start() for sentence in sentences[1:]), len(ending)]
  return [
    (int(sentence[1]) - 1, ending[sentence.end() : end])
    for sentence, end in zip(sentences, ends, strict=False)
  ]


def wrong_steps(text: str) -> set[int]:
  """Returns all steps that the conclusion calls wrong (`wrong_sentences`)."""
  return {step for step, _ in wrong_sentences(text)}


def parse(text: str) -> dict[str, Any]:
  """Parses a critique, as the parser of its stage.

  Returns:
    The results of `verdict`, `status` and `conclusion` by their names, and
    'step', the first wrong step: 0-based, -1 for no step, None if not named.
  """
  ending = conclusion(text)
  verdict, status = _read(ending)
  return dict(
    verdict=verdict, status=status, conclusion=ending, step=_step(ending)
  )
