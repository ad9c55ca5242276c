"""Text for a terminal, whatever the names and messages in it say.

Names of folders, phases, metrics and tensors, and errors that quote them, may
come from anybody. Control characters in them would speak to the terminal, and
rich would take `[/b]` for markup. So all that is printed goes through a
`Console` of this module or through `printable`: `tests/test_terminal.py` reads
every module for it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text


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


class Folded:
  """A table that goes on below where a line is too short for its columns.

  The parts have the same rows, and no number is cut.

  Args:
    names: the first column's: its head, then a name for each row.
    columns: of each other column the head and the cells, one or more lines.
    title: above the table; '' for none.
    caption: below it; '' for none.
  """

  def __init__(
    self,
    names: Sequence[Text],
    columns: Sequence[tuple[Text, Sequence[Text]]],
    title: str = '',
    caption: str = '',
  ):
    self._names, self._columns = names, columns
    self._title, self._caption = title, caption

  def __rich_console__(
    self, console: Console, options: rich.console.ConsoleOptions
  ) -> Iterator[rich.console.RenderableType]:
    """Yields the title, as many tables as there must be, and the caption."""
    endless = options.update(width=10_000)
    part: list[tuple[Text, Sequence[Text]]] = []
    if self._title:
      yield Text(printable(self._title), 'italic')
    for column in self._columns:
      longer = self._table([*part, column])
      width = Measurement.get(console, endless, longer).minimum
      if part and width > options.max_width:
        yield self._table(part)
        part = []
      part.append(column)
    yield self._table(part)
    if self._caption:
      yield Text(self._caption, 'dim italic')

  def _table(self, columns) -> rich.table.Table:
    """Returns the table of some of the columns."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(self._names[0], min_width=12)
    for head, cells in columns:
      lines = [line for cell in cells for line in cell.plain.split('\n')]
      width = max(map(len, lines), default=1)
      table.add_column(head, justify='right', min_width=width, no_wrap=True)
    for row, name in enumerate(self._names[1:]):
      table.add_row(name, *(cells[row] for _, cells in columns))
    return table
