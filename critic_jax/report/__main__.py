"""`python -m critic_jax.report RUN [RUN ...]` writes the page of runs."""

import sys

from critic_jax.report import html_report
from critic_jax.terminal import printable


def console_script() -> None:
  """Runs the command as a program; an error is one line."""
  try:
    html_report.main()
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))


if __name__ == '__main__':
  console_script()
