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


def _rendered(render, roles, content, opened) -> str:
  try:
    messages = [{'role': role, 'content': content} for role in roles]
    return render(messages, opened)
  except ValueError:
    return ''
