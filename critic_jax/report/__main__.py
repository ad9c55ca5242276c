"""`python -m critic_jax.report RUN [RUN ...]` writes the page of runs."""

from critic_jax.report import html_report

if __name__ == '__main__':
  html_report.main()
