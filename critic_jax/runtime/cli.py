r"""The command line that commands share: --config, --workdir, --help, errors.

    python -m critic_jax.train --config FILE.py[:VARIANT] --workdir FOLDER \
        [--config.phases.rl.steps=100 ...]

A config may also be one that comes with critic_jax (runtime/config_files.py).
`--config.evals.mine=heldout` adds a section, a copy of that which is named, to
models, evals or phases; further flags change it.
`--help` prints the first line of a command's docstring, its own flags, and the
docstring's indented blocks as examples. An error is one line.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from critic_jax import lookup
from critic_jax.runtime import (
  allocation,
  config_files,
  distributed,
  preemption,
)
from critic_jax.terminal import printable

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  help_string='FILE.py or FILE.py:VARIANT; or a config that comes with '
  'critic_jax, such as refcritic:quickstart. --config.NAME=VALUE changes a '
  'setting.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'The folder of the run; one that is there is continued.'
)
_OPEN = ('config.models', 'config.evals', 'config.phases')  # may have others
_ADDED = re.compile(r'--?config\.(models|evals|phases)\.(\w+)=(.*)')
Added = list[tuple[str, str, str]]  # what, the new name, the name that is there
_MAX_PLACES = 4  # that a refusal names
_HELP = ('--help', '-help', '-h', '--helpshort')


def app_run(
  main: Callable[[Sequence[str]], None],
  required: Sequence[str] = ('config', 'workdir'),
) -> None:
  """Runs the `main` of a command's module with the flags parsed.

  Args:
    main: a function of the words that are no flags; the docstring of its module
      is the help.
    required: names of flags that must be given.
  """
  module = inspect.getmodule(main)
  # absl knows the flags of the program that python runs by its path.
  is_program = module.__name__ == '__main__'
  flags.mark_flags_as_required(required)
  parser = functools.partial(
    parse_flags,
    doc=module.__doc__,
    required=required,
    owner=sys.argv[0] if is_program else module.__name__,
  )
  app.run(main, flags_parser=parser)


def main(argv: Sequence[str], run: Callable) -> None:
  """Calls `run(config, workdir, overrides=...)`; a ValueError is one line."""
  if len(argv) > 1:
    raise app.UsageError(f'got {argv[1:]}; expected --config and --workdir')
  logging.set_verbosity(logging.WARNING)  # orbax tells of every save
  overrides = config_flags.get_override_values(flags.FLAGS['config'])
  allocation.keep_freed_memory()
  with preemption.interrupted_in_one_line(), errors_in_one_line():
    distributed.initialize()
    with distributed.ending_together():
      run(_CONFIG.value, _WORKDIR.value, overrides=overrides)


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
  """Ends the process with one line at a ValueError of the block."""
  sys.unraisablehook = _unraisablehook  # for good: threads outlive the block
  try:
    yield
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))


def _unraisablehook(unraisable) -> None:
  # When a write ends after orbax has given up, as on a full disk, tensorstore's
  # threads print hundreds of such errors, a part of a line at a time.
  if str(unraisable.exc_value) != 'Event loop is closed':
    sys.__unraisablehook__(unraisable)


def parse_flags(
  argv: Sequence[str],
  doc: str = '',
  required: Sequence[str] = (),
  owner: str = '',
) -> list[str]:
  """Parses flags as absl does, with one line for an error in a config.

  Args:
    argv: the command line.
    doc: the docstring of the command, for `--help`.
    required: names of flags that must be given.
    owner: the module whose flags `--help` lists.

  Returns:
    The words that are no flags.

  Raises:
    SystemExit: the status is an error, or 0 after `--help`.
  """
  if not {*_HELP}.isdisjoint(argv):
    print(printable(help_text(doc, required, owner)))
    sys.exit(0)
  with errors_in_one_line(), lookup.naming('--config'):
    argv = config_files.in_arguments(argv)
  matches = [_ADDED.fullmatch(word) for word in argv]
  argv = [w for w, match in zip(argv, matches, strict=True) if not match]
  added = [match.groups() for match in matches if match]
  try:
    with _adding(added, argv):
      words = flags.FLAGS(list(argv))
    _CONFIG.value.items()  # only now a file that was not found is an error
    return words
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    flags.Error,
  ) as error:
    with _adding(added, argv), errors_in_one_line():
      _check_overrides(argv)
    # The text may be a config's traceback, whose last line says it all.
    text = str(error.args[0] if len(error.args) == 1 else error)
    line = text.strip().splitlines()[-1].strip()
    if match := re.fullmatch(r'flag --(\w+)=None: .* other than None\.', line):
      line = f'--{match[1]}: got none; expected a value; --help explains it'
    line = re.sub(r'^flag --config=.*?: (?=config\.)', '', line)
    sys.exit(printable(f'error: {line}'))


@contextlib.contextmanager
def _adding(added: Added, argv: Sequence[str]) -> Iterator[None]:
  """Within the block a config that is read has these sections, too.

  Args:
    added: the sections.
    argv: the command line without them; the config's flag reads `sys.argv`.
  """
  parser, typed = flags.FLAGS['config'].parser, sys.argv
  parse = parser.parse

  def parse_and_add(path):
    config = parse(path)
    if isinstance(config, ConfigDict):  # not a file that was not found
      with config.unlocked():
        for names in added:
          _add_section(config, *names)
    return config

  parser.parse, sys.argv = parse_and_add, [*argv]
  try:
    yield
  finally:
    parser.parse, sys.argv = parse, typed


def _add_section(config: ConfigDict, kind: str, name: str, source: str) -> None:
  """Adds a copy of a section; raises ValueError if it is there, or not."""
  sections = config.get(kind, {})
  if name in sections:
    raise ValueError(
      f'config.{kind}.{name}: got {source!r} for a section that is there; '
      f'expected one of its settings, --config.{kind}.{name}.SETTING=VALUE'
    )
  lookup.check_name(f'config.{kind}.{name}', source, sections)
  sections[name] = sections[source].copy_and_resolve_references()


def help_text(doc: str, required: Sequence[str], owner: str) -> str:
  """Returns the help of a command: one line, its own flags, its examples.

  Args:
    doc: the docstring of the command: a line, indented examples, and more.
    required: names of flags that the command needs.
    owner: the module whose flags are listed, as absl has it.
  """
  first, *paragraphs = doc.strip().split('\n\n')
  names = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(owner)]
  lines = [first, '', 'flags:']
  for name in dict.fromkeys([*required, *names]):
    flag = flags.FLAGS[name]
    note = f' (default: {flag.default})' if flag.default else ''
    note = ' (required)' if name in required else note
    margin = ' ' * 6
    lines += [f'  --{name}']
    lines += textwrap.wrap(
      f'{margin}{flag.help}{note}', 80, subsequent_indent=margin
    )
  examples = [text for text in paragraphs if text.startswith('  ')]
  examples = textwrap.indent(textwrap.dedent('\n'.join(examples)), '  ')
  return '\n'.join([*lines, '', 'examples:', examples])


def _refuse(config: ConfigDict, section: ConfigDict, path: str, key: str):
  """Raises ValueError for a setting that a section of a config lacks."""
  if places := _places(config, key):
    names = ' or '.join(places[:_MAX_PLACES])
    raise ValueError(
      f'{path}: got {key!r}, which is no setting of it; expected the whole '
      f'name; did you mean {names}?'
    )
  try:
    lookup.check_name(path, key, section)
  except ValueError as error:
    if path not in _OPEN or str(error).endswith('?'):
      raise
    raise ValueError(
      f'{error}; to add a section name one to copy first, '
      f'--{path}.{key}={next(iter(section), "NAME")}'
    ) from None


def _places(section: ConfigDict, key: str, path: str = '') -> list[str]:
  """Returns the whole names of the settings of a name, in any section."""
  places = []
  for name, value in section.items():
    places += [f'{path}{name}'] if name == key else []
    if isinstance(value, ConfigDict):
      places += _places(value, key, f'{path}{name}.')
  return places


def _check_overrides(argv: Sequence[str]) -> None:
  """Raises ValueError for an override of a setting that the config lacks."""
  line = '\n'.join(argv)
  file = re.search(r'^--?config(?:=|\n)(.*)$', line, re.MULTILINE)
  try:
    config = flags.FLAGS['config'].parser.parse(file[1])
  except Exception:  # of any kind, as files of configs are programs
    return
  overrides = r'^--?(?:no)?config\.([^=\n]+)'
  for name in re.findall(overrides, line, re.MULTILINE):
    section, path = config, 'config'
    for part in name.split('.'):
      if not isinstance(section, ConfigDict):
        break
      key = part.partition('[')[0]  # without the place in a list
      if key not in section:
        _refuse(config, section, path, key)
      section, path = section[key], f'{path}.{part}'
