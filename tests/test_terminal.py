"""All that is printed is plain, whatever names and messages it holds."""

import ast
import io
import pathlib

import pytest
import rich.table
from rich.text import Text

from critic_jax import terminal
from critic_jax.workdir import progress

ROOT = pathlib.Path(__file__).parents[1]
# The bench's workers answer in JSON, and fill a log that it shows.
MODULES = sorted(
  path
  for path in ROOT.glob('critic_jax/**/*.py')
  if path.name not in ('terminal.py', 'worker.py')
  and path.parent.name != 'peers'
)
# Control characters that move the cursor, name the window, and end the line;
# an 8-bit one; text that runs backwards; half a surrogate pair; markup.
HOSTILE = '\x1b]0;x\x07\x1b[2J\r\x9b31m\u202e\ud800[/b][red]:smile:'
SHOWN = '[/b][red]:smile:'


def show(*renderables, **options):
  out = io.StringIO()
  console = terminal.Console(file=out, width=200, **options)
  for renderable in renderables:
    console.print(renderable)
  return out.getvalue()


def is_plain(text):
  return all(c.isprintable() or c == '\n' for c in text)


def table(cell):
  drawing = rich.table.Table('name', title=cell, caption=cell)
  drawing.add_column(cell)
  drawing.add_row(cell, Text(str(cell)))
  return drawing


@pytest.mark.parametrize('make', [str, Text, table])
def test_a_console_shows_every_text_as_it_is(make):
  text = show(make(HOSTILE))
  assert is_plain(text) and SHOWN in text
  assert text.count('\N{REPLACEMENT CHARACTER}') >= 5


def test_what_a_console_prints_as_it_stands_is_plain():
  out = io.StringIO()
  terminal.Console(file=out).out(HOSTILE)
  assert is_plain(out.getvalue()) and SHOWN in out.getvalue()


def test_styles_of_our_own_reach_a_terminal():
  text = show(Text('done', 'green'), force_terminal=True, color_system='256')
  assert '\x1b[32mdone' in text
  assert show('[green]done') == '[green]done\n'


def test_a_bar_shows_the_name_of_its_phase():
  for is_terminal in (False, True):
    out = io.StringIO()
    console = terminal.Console(
      file=out, width=200, force_terminal=is_terminal, color_system=None
    )
    with progress.phase(console, HOSTILE, 1, 0) as advance:
      advance({})
    assert '[/b][red]' in out.getvalue()
    assert '\x1b]0' not in out.getvalue() and '\x9b' not in out.getvalue()


def test_spaces_and_lines_are_kept():
  text = 'a\u3000b\xa0c\td\n'
  assert terminal.printable(text) == text
  assert terminal.printable(ValueError('a\rb')) == 'a\N{REPLACEMENT CHARACTER}b'


def unchecked(source):
  """The calls by which a source prints what may not be plain, by line."""
  return [
    f'{node.lineno}: {ast.unparse(node)}'
    for node in ast.walk(ast.parse(source))
    if _may_print(node)
  ]


def _may_print(node):
  if isinstance(node, ast.ImportFrom | ast.Import):
    names = [getattr(node, 'module', ''), *(a.name for a in node.names)]
    return 'rich.console' in names or 'rich.markup' in names
  if not isinstance(node, ast.Call):
    return False
  name = ast.unparse(node.func)
  if name.endswith('TextColumn'):  # of rich's Progress: reads markup
    return 'markup=False' not in ast.unparse(node)
  if name in ('rich.print', 'Text.from_markup', 'traceback.print_exc'):
    return True
  prints = ('print', 'sys.exit', 'sys.stdout.write', 'sys.stderr.write')
  if name not in prints:
    return False
  return not all(_is_plain(value) for value in node.args)


def _is_plain(value):
  """Whether a printed value is ours, JSON, a status, or made printable."""
  if isinstance(value, ast.Call):
    functions = ('printable', 'json.dumps', 'main', 'train')
    return ast.unparse(value.func) in functions
  if isinstance(value, ast.JoinedStr):
    return all(
      isinstance(part, ast.Constant) or _is_plain(part.value)
      for part in value.values
    )
  return isinstance(value, ast.Constant)


@pytest.mark.parametrize(
  'source',
  [
    'print(name)',
    "print(f'{name}')",
    "print('a', name, file=sys.stderr)",
    "sys.exit(f'error: {error}')",
    'sys.stderr.write(text)',
    'traceback.print_exc()',
    'from rich.console import Console',
    'import rich.console',
    "TextColumn('{task.description}')",
  ],
)
def test_a_print_of_foreign_text_is_found(source):
  assert unchecked(source)


def test_a_print_of_our_own_text_is_none():
  for source in (
    "print('done')", "print(printable(f'{name}'))", 'sys.exit(0)',
    "sys.exit(f'error: {printable(error)}')", 'print(json.dumps(x))',
    'sys.exit(main())', 'from critic_jax.terminal import Console',
    'console.print(name)',
  ):  # fmt: skip
    assert not unchecked(source)


@pytest.mark.parametrize(
  'path', MODULES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_prints_what_is_plain(path):
  assert not unchecked(path.read_text())
