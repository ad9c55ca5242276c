"""Text for a terminal, whatever the names and messages in it say.

Names of folders, phases, metrics and tensors, and errors that quote them, may
come from anybody. Control characters in them would speak to the terminal, and
rich would take `[/b]` for markup. So all that is printed goes through a
`Console` of this module or through `printable`: `tests/test_terminal.py` reads
every module for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment


def printable(text: object) -> str:
  r"""Returns a text of which a terminal shows every character and obeys none.

  Ends of lines, tabs and spaces of any width are kept.

  >>> printable('a\x1b[31mb\n')
  'a�[31mb\n'
  """
  text = str(text)
  if text.isprintable():
    return text
  return ''.join(
    c if _is_shown(c) else '\N{REPLACEMENT CHARACTER}' for c in text
  )


def _is_shown(character: str) -> bool:
  return (
    character.isprintable()
    or character in '\n\t'
    or unicodedata.category(character) == 'Zs'
  )


class Console(rich.console.Console):
  """rich's console, to which every text is plain: no markup, no emoji codes.

  Args:
    **options: keyword arguments of rich's, but for `markup` and `emoji`.
  """

  def __init__(self, **options: Any):
    super().__init__(markup=False, emoji=False, **options)

  def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
    """Yields the segments of anything that is printed, each `printable`."""
    for segment in super().render(renderable, options):
      if segment.control:
        yield segment
      else:
        yield segment._replace(text=printable(segment.text))
