"""What README.md says is so: its tree, its commands, its links."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('critic_jax', 'configs', 'experiments', 'tpu_scripts')
SCRIPTS = sorted(path.name for path in ROOT.glob('tpu_scripts/*.sh'))
README = (ROOT / 'README.md').read_text()


def code_blocks(text):
  return re.findall(r'^```\n(.*?)^```', text, re.DOTALL | re.MULTILINE)


def read_tree(block):
  """The files of an indented tree: lines of a name and what it is."""
  files, folders = [], []
  for line in filter(None, block.splitlines()):
    name, *about = line.split(maxsplit=1)
    depth = (len(line) - len(line.lstrip())) // 2
    del folders[depth:]
    if name.endswith('/') and not about:
      folders.append(name)
    else:
      assert about, f'{name}: got no description; expected one'
      files.append(''.join(folders) + name)
  return files


def test_the_tree_is_read():
  block = 'a.py  one\nb/\n  c/\n    d.py   two\n  e.py  three\nf/  four\n'
  assert read_tree(block) == ['a.py', 'b/c/d.py', 'b/e.py', 'f/']


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
    if (ROOT / path).exists() and not path.endswith('__init__.py')
  }
  assert len(real) > 50
  block = code_blocks(README.split('## The tree')[1])[0]
  shown = read_tree(block)
  here = [path for path in shown if path.startswith(FOLDERS)]
  assert sorted(here) == sorted(real)
  # The others may not be all that is there, but must be there.
  assert all((ROOT / path).exists() for path in shown)


def test_a_command_is_a_line_and_names_what_exists():
  commands = [
    line
    for block in code_blocks(README.split('## The tree')[0])
    for line in block.splitlines()
  ]
  assert sum('-m venv' in line for line in commands) == 2
  for line in commands:
    assert not line.endswith('\\')
    for path in re.findall(r'\b(?:configs|tpu_scripts)/[\w./]+', line):
      assert (ROOT / path).exists(), path
    for module in re.findall(r'-m (critic_jax[\w.]*)', line):
      place = ROOT / module.replace('.', '/')
      runs = place / '__main__.py' if place.is_dir() else f'{place}.py'
      assert pathlib.Path(runs).exists()


@pytest.mark.parametrize(
  'paper',
  ['README.md', 'CONTRIBUTING.md', 'PAPERS.md', 'LOG.md', 'SECURITY.md'],
)
def test_files_named_in_the_papers_exist(paper):
  text = (ROOT / paper).read_text()
  paths = re.findall(
    r'`((?:critic_jax|configs|tests|experiments|tpu_scripts)/[\w./]+)', text
  )
  assert paths
  assert [path for path in paths if not (ROOT / path).exists()] == []


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
