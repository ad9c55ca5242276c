"""Parts that all figures share: colours, legends, names, the form of a panel.

All figures are matplotlib's objects, never pyplot's: no window and no global
state. Names in them may be anybody's, so each passes `literal`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from critic_jax.terminal import printable

MAX_LABEL = 80  # characters
PALETTE = ('#3f72af', '#c8643c', '#3f8f6b', '#8d5a9e', '#a08a2c', '#5b7f8f')
MARKERS = 'os^vDP'  # colours alone do not tell lines apart for every eye
DASHES = ('-', '--', ':', '-.')  # of the curves beyond one for each colour
THEMES = {
  'light': {'ink': '#3c3f45', 'faint': '#9aa0a8', 'paper': '#ffffff'},
  'dark': {'ink': '#c9cdd3', 'faint': '#6b727c', 'paper': '#1b1e23'},
}


def color(number: int) -> str:
  """Returns the colour of a curve by its number in a figure."""
  return PALETTE[number % len(PALETTE)]


def marker(number: int) -> str:
  """Returns the marker of a curve by its number."""
  return MARKERS[number % len(MARKERS)]


def dashes(number: int) -> str:
  """Returns the style of a line: another one where colours come again."""
  return DASHES[number // len(PALETTE) % len(DASHES)]


def panel(
  draw_one: Callable[[str], Figure], title: str, alt: str, *, wide: bool
) -> dict[str, str]:
  """Returns a panel as those of `write`, drawn once for each of `THEMES`."""
  images = {
    theme: base64.b64encode(png(draw_one(theme))).decode() for theme in THEMES
  }
  return {'title': title, 'wide': wide, 'alt': alt, **images}


def png(figure: Figure) -> bytes:
  """Returns a figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=144)
  return buffer.getvalue()


def add_legend(figure: Figure, theme: str, *handles, **options) -> None:
  """Adds a legend below the axes.

  Args:
    figure: the figure.
    theme: a key of `THEMES`.
    *handles: lines and their labels; by default those of the axes.
    **options: keyword arguments of `Figure.legend`.
  """
  figure.legend(
    *handles,
    loc='outside lower left',
    frameon=False,
    labelcolor=THEMES[theme]['ink'],
    **{'handlelength': 1.4, 'fontsize': 8, **options},
  )


def literal(text: str) -> str:
  r"""Returns a name as matplotlib's text that shows it, and no formula.

  A dollar is escaped, a label that began with `_` would be left out, and a long
  one would leave no room for its figure.

  >>> print(literal('loss $x$'))
  loss \$x\$
  """
  text = ' '.join(printable(text).split())
  if len(text) > MAX_LABEL:
    text = f'{text[:MAX_LABEL]}…'
  text = text.replace('$', r'\$')
  return f' {text}' if text.startswith('_') else text


def style(figure: Figure, axes: Any, theme: str) -> None:
  """Gives axes the colours of a theme, and only the lines that they need."""
  colors = THEMES[theme]
  figure.set_facecolor(colors['paper'])
  axes.set_facecolor(colors['paper'])
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.spines['bottom'].set_color(colors['faint'])
  axes.grid(axis='y', color=colors['faint'], alpha=0.25, linewidth=0.6)
  axes.tick_params(
    colors=colors['ink'], labelsize=7.5, length=0, labelcolor=colors['ink']
  )
  exponent = axes.yaxis.get_offset_text()  # e.g. 1e-8, above the axis
  exponent.set(fontsize=7, color=colors['ink'])
