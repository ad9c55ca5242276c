"""`python -m critic_jax.report RUN [RUN ...]` writes the page of runs."""

import sys

from critic_jax.report import html_report

if __name__ == '__main__':
  try:
    html_report.main()
  except ValueError as error:
    sys.exit(f'error: {error}')
