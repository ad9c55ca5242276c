"""README.md and those of rooms are true: trees, commands, links, names."""

import importlib
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('critic_jax', 'configs', 'experiments', 'tpu_scripts')
SCRIPTS = sorted(path.name for path in ROOT.glob('tpu_scripts/*.sh'))
README = (ROOT / 'README.md').read_text()
ROOMS = sorted(
  str(path.relative_to(ROOT))
  for folder in FOLDERS
  for path in (ROOT / folder).glob('**/README.md')
)
PAPERS = ('CONTRIBUTING.md', 'PAPERS.md', 'LOG.md', 'SECURITY.md')


def code_blocks(text):
  return re.findall(r'^```\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


# To add a file to the tree, name it in backticks in the item of its room: a
# Python module by its stem, any other file by its whole name, a file in a
# folder of the room by its path from the room. A new room is an item of the
# same form, "- [`room/`](path) purpose: files". Within an item, backticks are
# for names of files only. `__init__.py` and README.md of a room are not named;
# the text above the tree links to the latter.
ITEM = re.compile(r'^- \[`(.+)/`\]\((.+)\) ((?:.|\n(?=  \S))+)$', re.MULTILINE)


def read_tree(text):
  """The files that a list of rooms names, as paths from the root."""
  items = ITEM.findall(text)
  assert len(items) == len(re.findall('^[-*|]', text, re.MULTILINE))
  files = []
  for room, folder, about in items:
    assert f'/{folder}'.endswith(f'/{room}'), f'{room}: links to {folder}'
    assert about[0] != '`', f'{room}: got no purpose; expected one'
    for name in re.findall('`(.*?)`', about, re.DOTALL):
      is_whole = '.' in name or name.endswith('/')
      files.append(f'{folder}/{name}' if is_whole else f'{folder}/{name}.py')
      rooms = [f for _, f, _ in items if files[-1].startswith(f'{f}/')]
      assert max(rooms, key=len) == folder, f'{name}: is not of {room}'
  return files


def test_the_tree_is_read():
  text = (
    'Text with `x`.\n\n- [`b/`](a/b) one: `c` (two,\n  three), `d.js`,\n'
    '  `e/f.py`\n- [`g/`](g) four: `h/`\n\nMore:\n\n'
    '- [`a/`](a) `x` is no purpose'
  )
  with pytest.raises(AssertionError, match='a: got no purpose'):
    read_tree(text)
  text = text.replace(') `x` is no', ') a')
  assert read_tree(text) == ['a/b/c.py', 'a/b/d.js', 'a/b/e/f.py', 'g/h/']
  with pytest.raises(AssertionError, match='b: links to a/c'):
    read_tree(text.replace('(a/b)', '(a/c)'))
  with pytest.raises(AssertionError, match='b/c.py: is not of a'):
    read_tree(f'{text}: `b/c.py`')
  with pytest.raises(AssertionError):
    read_tree(f'{text}\n- `i/` five: `j`')


def test_the_tree_is_the_real_tree():
  if not shutil.which('git') or not (ROOT / '.git').exists():
    pytest.skip('needs git and a checkout')
  command = 'git ls-files --cached --others --exclude-standard --'.split()
  listed = subprocess.run(
    [*command, *FOLDERS], cwd=ROOT, check=True, text=True, capture_output=True
  ).stdout.splitlines()
  real = {
    path
    for path in listed
    if (ROOT / path).exists()
    and not path.endswith(('/__init__.py', '/README.md'))
  }
  assert len(real) > 50
  named = read_tree(README.split('## The tree')[1].split('\n## ')[0])
  assert sorted(p for p in named if p.startswith(FOLDERS)) == sorted(real)
  # The others may not be all that is there, but must be there.
  assert all((ROOT / path).exists() for path in named)


def test_a_newcomer_reads_all_of_it():
  assert len(README.splitlines()) <= 250
  assert sum('-m venv' in line for line in README.splitlines()) == 2
  assert ROOMS
  assert [room for room in ROOMS if f']({room})' not in README] == []


@pytest.mark.parametrize('readme', ['README.md', *ROOMS])
def test_a_command_is_a_line_and_names_what_exists(readme):
  text = (ROOT / readme).read_text()
  lines = [line for block in code_blocks(text) for line in block.splitlines()]
  for line in lines:
    assert not line.endswith('\\')
    for path in re.findall(
      r'\b(?:configs|experiments|tpu_scripts)/[\w./]+', line
    ):
      assert (ROOT / path).exists(), path
  for module in re.findall(r'-m (critic_jax(?:\.\w+)*)', text):
    place = ROOT / module.replace('.', '/')
    runs = place / '__main__.py' if place.is_dir() else f'{place}.py'
    assert pathlib.Path(runs).exists(), module
  for stem, variant in re.findall(r'configs/(\w+)\.py:([\w.-]*\w)', text):
    assert importlib.import_module(f'configs.{stem}').get_config(variant)


@pytest.mark.parametrize('paper', ['README.md', *ROOMS, *PAPERS])
def test_links_lead_somewhere(paper):
  text = (ROOT / paper).read_text()
  links = re.findall(r'\]\((?!https?:)([^)#]+)\)', text)
  folder = (ROOT / paper).parent
  assert [link for link in links if not (folder / link).exists()] == []


@pytest.mark.parametrize('paper', ['README.md', *ROOMS, *PAPERS])
def test_files_named_in_the_papers_exist(paper):
  text = (ROOT / paper).read_text()
  paths = re.findall(
    r'`((?:critic_jax|configs|tests|experiments|tpu_scripts)/[\w./]+)', text
  )
  assert paths
  assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize('paper', ['PAPERS.md', 'SECURITY.md'])
def test_tests_named_in_the_papers_exist(paper):
  tests = {path.name: path.read_text() for path in ROOT.glob('tests/**/*.py')}
  text = (ROOT / paper).read_text()
  files = re.findall(r'\b(test_\w+\.py)', text)
  names = re.findall(r'`(test_\w+`|test_\w+\.\.\.`)', text)
  assert files
  assert [name for name in files if name not in tests] == []
  defined = '\n'.join(tests.values())
  starts = [re.sub(r'\.\.\.`$', '', name).replace('`', '(') for name in names]
  assert [start for start in starts if f'def {start}' not in defined] == []


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_short_and_say_how_to_use_them(name):
  path = ROOT / 'tpu_scripts' / name
  assert len(path.read_text().splitlines()) < 60
  done = subprocess.run(
    ['bash', path, '--help'], text=True, capture_output=True, check=True
  )
  assert done.stdout.startswith(f'usage: tpu_scripts/{name} [--dry_run]')
  wrong = subprocess.run(['bash', path, '--nonsense'], capture_output=True)
  assert wrong.returncode == 2 and b'--help' in wrong.stderr


@pytest.mark.parametrize('path', ['README.md', *ROOMS, *PAPERS])
def test_rows_of_a_table_have_as_many_cells_as_its_head(path):
  width = 0  # of the table that a line continues
  for line in (ROOT / path).read_text().splitlines():
    cells = len(re.findall(r'(?<!\\)\|', line)) if line[:1] == '|' else 0
    assert not width or not cells or cells == width, line
    width = cells
