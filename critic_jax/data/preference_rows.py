r"""Layouts of published preferences: rows -> a prompt, responses, their scores.

A row is in a layout:

  'pairs'       prompt, chosen, rejected; optional score_chosen, score_rejected
  'labels'      prompt, two responses (`response_a` and `response_b`, `_1` and
                `_2`, `_0` and `_1`) and which of them is better: `winner`,
                `preference` or `better_response_id`, the ending of its name or
                'tie'; or `overall_preference`, below 0 for the first
  'responses'   prompt, responses and their scores, two lists; or a list of
                objects with a text, and a `score` or a `rank`
  'attributes'  prompt, response, and what it is rated: helpfulness,
                correctness, coherence, complexity, verbosity
  'unpaired'    prompt, completion, label: whether the completion is good

A prompt is a text or a list of messages, with a `role` and a `content` each,
and may have another text before it, `system`. So may a response; it is then the
last message, and the others are the prompt. A prompt may also stand at the
beginning of both sides of a pair alone: as messages, or as a text of the form
'\n\nHuman: ...\n\nAssistant: ...'. Each side of a pair may be a list of texts.

Scores are 'preference' (1 and 0, or what a list of scores says), the attributes
by name, and 'score' of pairs. Texts that are equal and not liked alike are
refused.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from critic_jax.data import rows

_PROMPTS = ('prompt', 'question', 'instruction', 'problem', 'context', 'input')
_ROLES = {
  'system': 'system', 'user': 'user', 'assistant': 'assistant',
  'human': 'user', 'gpt': 'assistant', 'prompter': 'user',
}  # fmt: skip
# A turn of Anthropic's HH: '\n\nHuman: ...\n\nAssistant: ...'.
_TURN = re.compile(r'(?:\A|\n\n)(Human|Assistant):')
# The names of two responses, but for their endings, and the endings.
_NAMES = ('response_', 'response', 'output_', 'answer_', 'conversation_')
_ENDINGS = ('ab', '12', '01')
_WINNERS = ('winner', 'preference', 'better_response_id', 'label')
_TIES = ('tie', 'tie (bothbad)', 'both', 'bothbad', 'equal', 'same', 'none')
_LISTS = ('responses', 'completions', 'answers')
_TEXTS = ('response', 'text', 'content', 'answer', 'completion')
_SCORES = ('score', 'overall_score', 'reward', 'rating')
_ATTRIBUTES = (
  'helpfulness', 'correctness', 'coherence', 'complexity', 'verbosity'
)  # fmt: skip

Messages = tuple[Mapping[str, str], ...]


class Response(NamedTuple):
  """A response, and what a row says of it."""

  text: str
  scores: dict[str, float]
  parsed: dict[str, Any] = {}  # never changed


class Entry(NamedTuple):
  """The contents of a row."""

  messages: Messages
  responses: list[Response]


def key(messages: Messages) -> tuple:
  """Returns what prompts have in common that are one."""
  return tuple((m['role'], m['content']) for m in messages)


# ---------------------------------------------------------------- layouts


def _pairs(row: rows.Row) -> Entry:
  prompt, prompts, responses = _prompt(row), [], []
  texts = {side: rows.get(row, side) for side in ('chosen', 'rejected')}
  begins = _begins(prompt, texts.values())
  for side, value in texts.items():
    scores = {'preference': float(side == 'chosen')}
    if rows.get(row, f'score_{side}') is not None:
      scores['score'] = _number(row, f'score_{side}')
    is_list = isinstance(value, list) and value and isinstance(value[0], str)
    if is_list:
      sides = [(prompt, text.strip()) for text in rows.texts(row, side)]
    else:
      sides = [_side(row, side, prompt, begins)]
    for its_prompt, text in sides:
      prompts.append(its_prompt)
      responses.append(Response(text, scores))
  return _entry('rejected', prompts, responses)


def _labels(row: rows.Row) -> Entry:
  names, endings = _two_responses(row)
  prompt = _prompt(row)
  sides = [_side(row, name, prompt) for name in names]
  liked = _liked(row, endings)
  responses = [
    Response(text, {'preference': score})
    for (_, text), score in zip(sides, liked, strict=True)
  ]
  return _entry(names[1], [its_prompt for its_prompt, _ in sides], responses)


def _two_responses(row) -> tuple[list[str], str]:
  """Returns the names of two responses, and their endings."""
  for name in _NAMES:
    for endings in _ENDINGS:
      names = [name + ending for ending in endings]
      if all(rows.get(row, n) is not None for n in names):
        return names, endings
  raise ValueError(
    'response_a: got no two responses; expected response_a and response_b, or '
    'response_1 and response_2'
  )


def _liked(row, endings) -> tuple[float, float]:
  """Returns 1 for the response that a row calls better, or 1 for both."""
  field = 'overall_preference'
  if rows.get(row, field) is not None:
    value = _number(row, field)
    return float(value <= 0), float(value >= 0)
  present = (f for f in _WINNERS if rows.get(row, f) is not None)
  field = next(present, 'winner')
  word = rows.text_or_number(row, field).lower()
  word = re.sub(r'^(model|assistant|response|output|answer)[ _]?', '', word)
  if word in _TIES:
    return 1.0, 1.0
  if word not in tuple(endings):
    raise ValueError(
      f'{field}: got {reprlib.repr(rows.get(row, field))}; expected '
      f"{endings[0]!r}, {endings[1]!r} or 'tie'"
    )
  return float(word == endings[0]), float(word == endings[1])


def _responses(row: rows.Row) -> Entry:
  field = next((f for f in _LISTS if rows.get(row, f) is not None), _LISTS[0])
  items, prompt = rows.get(row, field), _prompt(row)
  is_list = isinstance(items, list) and len(items) > 1
  if is_list and all(isinstance(item, Mapping) for item in items):
    texts = [rows.first_text(item, *_TEXTS) for item in items]
    scores = [_score(item) for item in items]
  else:
    texts = [text.strip() for text in rows.texts(row, field)]
    values = rows.get(row, 'scores')
    if not isinstance(values, list) or len(values) != len(texts):
      raise ValueError(
        f'scores: got {reprlib.repr(values)}; expected {len(texts)} numbers, '
        f'one for each of {field}'
      )
    scores = [_number({'scores': value}, 'scores') for value in values]
  if len(texts) < 2:
    raise ValueError(f'{field}: got {len(texts)}; expected two or more')
  responses = [
    Response(text, {'preference': score})
    for text, score in zip(texts, scores, strict=True)
  ]
  return _entry(field, [prompt], responses)


def _score(item: rows.Row) -> float:
  if rows.get(item, 'rank') is not None:
    return -_number(item, 'rank')  # the first is the best
  present = (f for f in _SCORES if rows.get(item, f) is not None)
  return _number(item, next(present, 'score'))


def _attributes(row: rows.Row) -> Entry:
  rated = [name for name in _ATTRIBUTES if rows.get(row, name) is not None]
  if not rated:
    raise ValueError(f'{_ATTRIBUTES[0]}: got no such field; expected a number')
  prompt, text = _side(row, 'response', _prompt(row))
  scores = {name: _number(row, name) for name in rated}
  return _entry('response', [prompt], [Response(text, scores)])


def _unpaired(row: rows.Row) -> Entry:
  prompt, text = _side(row, 'completion', _prompt(row))
  is_good = rows.truth(row, 'label')
  response = Response(text, {'preference': float(is_good)}, {'label': is_good})
  return _entry('completion', [prompt], [response])


# In the order in which `rows.detect` tries them.
LAYOUTS = {
  'pairs': _pairs,
  'labels': _labels,
  'responses': _responses,
  'attributes': _attributes,
  'unpaired': _unpaired,
}
# Those with a row for each response.
JOINED = ('attributes', 'unpaired')


# ------------------------------------------------------ prompts, responses


def _entry(field, prompts, responses) -> Entry:
  """Returns what a row has, if it has one prompt and texts that differ."""
  prompt, *others = prompts
  if not prompt:
    raise ValueError(
      'prompt: got none; expected a text or messages, there or in all '
      "responses; write --config.data.columns='prompt=COLUMN'"
    )
  if any(key(other) != key(prompt) for other in others):
    raise ValueError(
      f'{field}: got another prompt before it; expected one for all responses'
    )
  if prompt[-1]['role'] != 'user':
    raise ValueError(
      f'prompt: got a last message of the {prompt[-1]["role"]}; expected the '
      "user's, which the responses follow"
    )
  liked: dict[str, Any] = {}
  for text, scores, _ in responses:
    score = scores.get('preference')
    if liked.setdefault(text, score) != score:
      raise ValueError(
        f'{field}: got {reprlib.repr(text)} twice, and not liked alike; '
        'expected texts that differ'
      )
  return Entry(tuple(prompt), responses)


def _prompt(row: rows.Row) -> list[dict[str, str]]:
  """Returns the messages of the prompt's own field, [] if it has none."""
  messages = []
  field = next((f for f in _PROMPTS if rows.get(row, f) is not None), '')
  if field:
    messages = _messages(row, field) or [_user(rows.text(row, field))]
  if system := rows.optional_text(row, 'system'):
    messages.insert(0, {'role': 'system', 'content': system})
  return messages


def _user(text: str) -> dict[str, str]:
  return {'role': 'user', 'content': text}


def _begins(prompt, texts) -> bool:
  """Whether all texts begin with the one message that the prompt is."""
  return len(prompt) == 1 and all(
    isinstance(text, str) and text.strip().startswith(prompt[0]['content'])
    for text in texts
  )


def _side(row, field, prompt, begins=False) -> tuple[list, str]:
  """Returns the prompt of a response, and its text.

  Args:
    row: the row.
    field: the response's.
    prompt: the messages of the prompt's own field.
    begins: whether the text begins with the prompt.
  """
  messages = _messages(row, field)
  if not messages:
    text = rows.text(row, field)
    own = text.removeprefix(prompt[0]['content']).strip() if begins else ''
    return prompt, own or text
  *before, last = messages
  if last['role'] != 'assistant':
    raise ValueError(
      f'{field}: got a last message of the {last["role"]}; expected the '
      "assistant's, which is the response"
    )
  asked = [m for m in prompt if m['role'] != 'system']
  if before and asked and before[-1]['content'] != asked[-1]['content']:
    raise ValueError(
      f'{field}: got messages after another prompt than '
      f'{reprlib.repr(asked[-1]["content"])}; expected the same'
    )
  if before and before[0]['role'] != 'system':
    before = [*(m for m in prompt if m['role'] == 'system'), *before]
  return before or prompt, last['content']


def _messages(row, field) -> list[dict[str, str]]:
  """Returns the messages that a field is, or [] if it is a plain text."""
  value = rows.get(row, field)
  if isinstance(value, str) and value.strip().startswith('Human:'):
    parts = _TURN.split(rows.text(row, field))[1:]
    turns = zip(parts[::2], parts[1::2], strict=True)
    value = [
      {'role': 'user' if who == 'Human' else 'assistant', 'content': text}
      for who, text in turns
    ]
    if len(value) > 1 and not value[-1]['content'].strip():
      value.pop()  # a prompt that opens the assistant's turn
  if not isinstance(value, list):
    return []
  messages = []
  for i, item in enumerate(value):
    if not isinstance(item, Mapping):
      raise ValueError(
        f'{field}[{i}]: got {reprlib.repr(item)}; expected a message with role '
        'and content'
      )
    by_from = rows.get(item, 'role') is None
    role = rows.text(item, 'from' if by_from else 'role').lower()
    our_role = _ROLES.get(role)
    if our_role is None:
      raise ValueError(
        f'{field}[{i}]: got the role {role!r}; expected one of {[*_ROLES]}'
      )
    content = rows.text(item, 'value' if by_from else 'content')
    messages.append({'role': our_role, 'content': content})
  if not messages:
    raise ValueError(f'{field}: got no message; expected some')
  return messages


def _number(row: rows.Row, field: str) -> float:
  value = rows.get(row, field)
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(f'{field}: got {reprlib.repr(value)}; expected a number')
  return number
