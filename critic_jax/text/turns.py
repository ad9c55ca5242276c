"""The texts that a chat template writes around the contents of messages.

They are read from its source, and from short conversations that it renders: a
template may make a marker of a role ('<|' + role + '|>'). A template that
refuses one of these conversations is read from the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from critic_jax.text import chat_template, vocabulary
from critic_jax.types import THINKING

# (messages, whether the assistant's turn is opened) -> text, or ValueError.
Render = Callable[[Sequence[Mapping[str, str]], bool], str]

_CONVERSATIONS = (
  ('user', 'assistant'),
  ('system', 'user', 'assistant'),
  ('system', 'user', 'assistant', 'tool'),
  ('user',),
)
# A word is no marker, nor is a character.
_MARKER = re.compile(r'(?=..).*[^\w\s].*', re.DOTALL)
_TAG = re.compile(f'({"|".join(map(re.escape, THINKING))})')


def markers(
  source: str, render: Render, added: Mapping[str, int], content: str
) -> dict[str, int]:
  """Returns the tokens that a template writes as markers, by their text.

  Args:
    source: the template.
    render: renders messages with it.
    added: the tokens that any text is searched for, beside the special ones.
    content: a content that the template does not hold.
  """
  added = {t: i for t, i in added.items() if _MARKER.fullmatch(t)}
  if not added:
    return {}
  texts = chat_template.literals(source)
  for roles in _CONVERSATIONS:
    texts.append(_rendered(render, roles, content, opened=True))
  written = '\n'.join(texts)
  return {text: i for text, i in added.items() if text in written}


def end_of_turn(
  render: Render, tokens: Collection[str], content: str
) -> str | None:
  """Returns the token that a template ends the assistant's turn with, or None.

  Args:
    render: renders messages with the template.
    tokens: the texts of the tokens that are not plain text.
    content: a content that the template does not hold.
  """
  for roles in _CONVERSATIONS[:2]:
    text = _rendered(render, roles, content, opened=False)
    after = text.rpartition(content)[2].lstrip()
    finder = vocabulary.special_finder(dict.fromkeys(tokens, 0))
    if text and (match := finder.match(after)):
      return match[0]
  return None


def opening(prompt: str, content: str) -> str:
  """Returns the beginning of the response that a prompt opens, or ''.

  It is the tag of thinking that is not closed, and the space after it.

  Args:
    prompt: a rendered prompt.
    content: the content of its last message.
  """
  start, end = THINKING
  after = prompt.rpartition(content)[2]
  place = after.rfind(start)
  return after[place:] if place > after.rfind(end) else ''


def check_messages(messages: Sequence[Mapping[str, str]]) -> None:
  """Raises ValueError unless each message has a role and a content, texts."""
  for message in messages:
    if not all(isinstance(value, str) for value in message.values()):
      raise ValueError(f'message: got {message!r}; expected texts only')
    # Templates build special tokens from roles ('<|' + role + '|>').
    if not re.fullmatch(r'\w+', message.get('role', '')):
      raise ValueError(
        f'role: got {message.get("role")!r}; expected a word such as user'
      )
    if 'content' not in message:
      raise ValueError(f'message: got {message!r}; expected a content')


def unused_characters(text: str) -> list[str]:
  """Returns three private-use characters that `text` does not contain."""
  used = set(text)
  free = [chr(c) for c in range(0xE000, 0xF900) if chr(c) not in used][:3]
  if len(free) < 3:
    raise ValueError(
      'messages: got all private-use characters; expected three unused ones'
    )
  return free


def changed(message: Mapping[str, str], change: Callable) -> dict[str, str]:
  """Applies `change` to all texts of a message but its role.

  The tags of thinking in the assistant's content stay: templates look for them
  where they strip the thinking of earlier turns.
  """
  if message['role'] != 'assistant':
    return {k: v if k == 'role' else change(v) for k, v in message.items()}
  return {
    k: v
    if k == 'role'
    else ''.join(x if x in THINKING else change(x) for x in _TAG.split(v))
    for k, v in message.items()
  }


def _rendered(render, roles, content, opened) -> str:
  try:
    messages = [{'role': role, 'content': content} for role in roles]
    return render(messages, opened)
  except ValueError:
    return ''
