"""Parts that all figures share: colours, legends, names, the form of a panel.

All figures are matplotlib's objects, never pyplot's: no window and no global
state. Names in them may be anybody's, so each passes `literal`.
"""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure

from critic_jax.terminal import printable

MAX_LABEL = 80  # characters
PALETTE = ('#3f72af', '#c8643c', '#3f8f6b', '#8d5a9e', '#a08a2c', '#5b7f8f')
MARKERS = 'os^vDP'  # colours alone do not tell lines apart for every eye
# What an artist of matplotlib may have in a colour.
_COLORED = (
  'color', 'facecolor', 'edgecolor', 'markerfacecolor', 'markeredgecolor'
)  # fmt: skip
DASHES = ('-', '--', ':', '-.')  # of the curves beyond one for each colour
INK, FAINT, PAPER = '#3c3f45', '#9aa0a8', '#ffffff'
# What dark pages have in their place.
DARK = {INK: '#c9cdd3', FAINT: '#6b727c', PAPER: '#1b1e23'}


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
  figure: Figure, title: str, alt: str, *, wide: bool
) -> dict[str, str]:
  """Returns a panel as those of `plots.write`; the figure is dark after it."""
  images = {'light': png(figure)}
  darken(figure)
  images['dark'] = png(figure)
  encoded = {name: base64.b64encode(x).decode() for name, x in images.items()}
  return {'title': title, 'wide': wide, 'alt': alt, **encoded}


def darken(figure: Figure) -> None:
  """Gives a figure that was drawn the colours of dark pages.

  Its layout stays as it is: to find it takes half of the time of drawing.
  """
  figure.set_layout_engine('none')
  changes = {to_rgb(light): to_rgb(dark) for light, dark in DARK.items()}
  for artist, part in itertools.product(figure.findobj(), _COLORED):
    get, change = (getattr(artist, f'{x}_{part}', None) for x in ('get', 'set'))
    if get and change:
      colors = to_rgba_array(get()).tolist()
      dark = [[*changes.get((*rgb,), rgb), alpha] for *rgb, alpha in colors]
      if dark != colors:
        change(dark if len(dark) > 1 else dark[0])


def png(figure: Figure) -> bytes:
  """Returns a figure as the bytes of a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=144)
  return buffer.getvalue()


def add_legend(figure: Figure, *handles, **options) -> None:
  """Adds a legend below the axes.

  Args:
    figure: the figure.
    *handles: lines and their labels; by default those of the axes.
    **options: keyword arguments of `Figure.legend`.
  """
  figure.legend(
    *handles,
    loc='outside lower left',
    frameon=False,
    labelcolor=INK,
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


def style(figure: Figure, axes: Any) -> None:
  """Gives axes the colours of light pages, and only the lines they need."""
  figure.set_facecolor(PAPER)
  axes.set_facecolor(PAPER)
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.spines['bottom'].set_color(FAINT)
  axes.grid(axis='y', color=FAINT, alpha=0.25, linewidth=0.6)
  axes.tick_params(colors=INK, labelsize=7.5, length=0, labelcolor=INK)
  exponent = axes.yaxis.get_offset_text()  # e.g. 1e-8, above the axis
  exponent.set(fontsize=7, color=INK)
