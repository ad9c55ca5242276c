"""What the commands share: --config with --config.x=y, --workdir, one error.

    python -m critic_jax.train --config FILE[:NAME] --workdir FOLDER \
        [--config.phases.rl.steps=100 ...]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from critic_jax.runtime import distributed

_CONFIG = config_flags.DEFINE_config_file('config')
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder of the run.')


def app_run(
  main: Callable[[Sequence[str]], None],
  required: Sequence[str] = ('config', 'workdir'),
) -> None:
  """Runs a module's `main` with the flags parsed."""
  flags.mark_flags_as_required(required)
  app.run(main, flags_parser=parse_flags)


def main(argv: Sequence[str], run: Callable) -> None:
  """`run(config, workdir, overrides=...)`; a ValueError is one line."""
  if len(argv) > 1:
    raise app.UsageError(f'got {argv[1:]}; expected --config and --workdir')
  logging.set_verbosity(logging.WARNING)  # orbax tells of every save
  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  with errors_in_one_line():
    distributed.initialize()
    with distributed.ending_together():
      run(_CONFIG.value, _WORKDIR.value, overrides=overrides)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
  """Within the block a ValueError ends the process with one line."""
  sys.unraisablehook = _unraisablehook  # for good: threads outlive the block
  try:
    yield
  except ValueError as error:
    sys.exit(f'error: {error}')


def _unraisablehook(unraisable) -> None:
  # Of a write that ends after orbax has given up, as when a disk is full:
  # tensorstore's threads tell of it by the hundred, a part of a line at a time.
  if str(unraisable.exc_value) != 'Event loop is closed':
    sys.__unraisablehook__(unraisable)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parser, with one line for what is wrong with a config."""
  try:
    rest = flags.FLAGS(list(argv))
    _CONFIG.value.items()  # only now a file that was not found is an error
    return rest
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    flags.Error,
  ) as error:
    # The text may be a config's traceback, whose last line says it all.
    text = str(error.args[0] if len(error.args) == 1 else error)
    sys.exit(f'error: {text.strip().splitlines()[-1].strip()}')
