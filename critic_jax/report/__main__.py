"""`python -m critic_jax.report RUN [RUN ...]` writes the page of runs."""

import sys

from critic_jax.report import html_report
from critic_jax.terminal import printable

if __name__ == '__main__':
  try:
    html_report.main()
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))
