"""--dry_run prints the plans that are recorded in plans/, and runs nothing.

After an intended change record them anew, and read what git shows:

    UPDATE_PLANS=1 python -m pytest tests/launch/test_launch_plans.py
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import grids
import pytest

import critic_jax

ROOT = pathlib.Path(critic_jax.__file__).parents[1]
PLANS = pathlib.Path(__file__).parent / 'plans'
SCRIPTS = sorted((ROOT / 'tpu_scripts').glob('*.sh'))
# A user's word that a shell would split, end, run or expand.
NASTY = """a 'b' "c" $(touch x); `touch x` *"""
BUCKET = '--bucket=gs://our bucket/runs; $(touch x)'
LAUNCHES = {
  'local': ('--parallel=2',),
  'index': ('--index=1', '--prefix=nice -n "1 5"'),
  'slurm': ('--on=slurm', '--nodes=2', '--gpus=8', '--parallel=4',
            '--option=--partition=a b;c'),
  'slurm_missing': ('--on=slurm', '--missing'),
  'sky': ('--on=sky', BUCKET, '--accelerators=H100:8', '--nodes=2', '--missing',
          '--spot'),
}  # fmt: skip
CALLS = {
  'create.sh': (NASTY, 'zone', 'v5litepod-16', 'v2-alpha', '--spot'),
  'delete.sh': (NASTY, 'zone'),
  'run.sh': (NASTY, 'zone', 'python', '-c', NASTY),
  'setup.sh': (NASTY, 'zone', f'gs://{NASTY}/folder'),
  'setup_vm.sh': ('--venv', NASTY, f'--bucket=gs://bucket/{NASTY}'),
  'slurm.sh': ('python', NASTY),
  'sync.sh': (f'gs://{NASTY}', NASTY),
  'tail.sh': (NASTY, 'zone', NASTY, '3'),
}


def portable(text, root=str(ROOT), python=sys.executable):
  """Replaces the paths of a checkout and of its python in commands.

  Words are compared whole: the python may lie inside the checkout, and a path
  with a space is quoted.
  """

  def replace(word):
    if word == python:
      return 'PYTHON'
    is_inside = word.startswith(f'{root}/')
    return 'CHECKOUT' + word.removeprefix(root) if is_inside else word

  lines = text.splitlines()
  for i, line in enumerate(lines):
    if line.startswith('+ '):
      words = shlex.split(line.removeprefix('+ '))
      lines[i] = f'+ {shlex.join(map(replace, words))}'
  return ''.join(f'{line}\n' for line in lines)


@pytest.mark.parametrize(
  ('root', 'python'),
  [
    ('/home/me/critic_jax', '/usr/bin/python3'),
    ('/home/me/critic_jax', '/home/me/critic_jax/.venv/bin/python'),
    ('/home/me/critic_jax', '/home/me/critic_jax_env/bin/python'),
    ('/my code/it', '/my code/it/.venv/bin/python'),
    ('/runs', '/runs/.venv/bin/python3.12'),
  ],
)
def test_plans_are_the_same_wherever_the_environment_lies(root, python):
  words = [f'{root}/tpu_scripts/slurm.sh', python, '-m', 'x', 'a/runs/b', NASTY]
  plan = f'# {NASTY}\n+ {shlex.join(words)}\n{{"a": "{NASTY}"}}\n'
  expected = ['CHECKOUT/tpu_scripts/slurm.sh', 'PYTHON', *words[2:]]
  assert portable(plan, root, python) == (
    f'# {NASTY}\n+ {shlex.join(expected)}\n{{"a": "{NASTY}"}}\n'
  )


def compare(name, text):
  """Compares a plan with the recorded one, or records it."""
  path = PLANS / f'{name}.txt'
  if os.environ.get('UPDATE_PLANS'):
    path.write_text(text)
  assert text == path.read_text()


@pytest.fixture
def environment(tmp_path):
  """Puts programs on the PATH that must not be called: they leave a file."""
  tools = tmp_path / 'tools'
  tools.mkdir()
  for name in ('gcloud', 'sky', 'sbatch', 'srun', 'ssh', 'sudo', 'touch'):
    (tools / name).write_text(f'#!/bin/sh\necho > {tmp_path}/called\n')
    (tools / name).chmod(0o755)
  yield os.environ | {
    'PATH': f'{tools}:{os.environ["PATH"]}', 'SLURM_ARRAY_TASK_ID': '3',
    'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path / 'none'),
  }  # fmt: skip
  assert not (tmp_path / 'called').exists()


@pytest.mark.parametrize('name', LAUNCHES)
def test_plans_of_launches(name, environment, tmp_path):
  grid = (
    "grid.chain(grid.sweep('seed', [0, 1]),"
    f' [{{"seed": 0, "phases.rl.gate": {NASTY!r}}}])'
  )
  folder = tmp_path / 'a $(b)'
  folder.mkdir()
  path = grids.write(folder, grid=grid)
  workdir = folder / 'runs'
  finished_run = grids.folder(path, workdir)
  finished_run.mkdir(parents=True)
  config = grids.experiment.load(path).runs[0].settings.to_json()
  (finished_run / 'config.json').write_text(config)
  (finished_run / 'DONE').touch()
  command = [sys.executable, '-m', 'critic_jax.launch', 'learn.py']
  command += ['--workdir=runs', '--dry_run', *LAUNCHES[name]]
  output = subprocess.run(
    command, cwd=folder, env=environment, check=True, text=True,
    capture_output=True,
  ).stdout  # fmt: skip
  output = portable(output)
  output = output.replace(str(folder), 'HERE')
  output = output.replace(json.dumps(str(ROOT)), '"CHECKOUT"')
  compare(name, output)
  assert {file.name for file in workdir.iterdir()} == {finished_run.name}


@pytest.mark.parametrize('name', CALLS)
def test_plans_of_scripts(name, environment, tmp_path):
  process = subprocess.run(
    [ROOT / 'tpu_scripts' / name, '--dry_run', *CALLS[name]],
    cwd=tmp_path, env=environment, check=True, text=True, capture_output=True,
  )  # fmt: skip
  compare(name.replace('.', '_'), process.stdout)


def test_every_script_has_a_plan_and_no_plan_is_left_over():
  assert {path.name for path in SCRIPTS} == set(CALLS)
  names = {*LAUNCHES, *(name.replace('.', '_') for name in CALLS)}
  assert {path.stem for path in PLANS.iterdir()} == names


@pytest.mark.parametrize(
  'script', sorted({*CALLS} - {'setup.sh', 'setup_vm.sh'})
)
def test_words_arrive_as_they_are(script, tmp_path):
  """A shell reads the user's words whole from a script's command."""
  tools = tmp_path / 'tools'
  tools.mkdir()
  for name in ('gcloud', 'python'):
    code = 'import json, sys; print(json.dumps(sys.argv[1:]))'
    (tools / name).write_text(f'#!{sys.executable}\n{code}\n')
    (tools / name).chmod(0o755)
  process = subprocess.run(
    [ROOT / 'tpu_scripts' / script, *CALLS[script]],
    cwd=tmp_path, check=True, text=True, capture_output=True,
    env=os.environ | {
      'PATH': f'{tools}:{os.environ["PATH"]}', 'SLURM_ARRAY_TASK_ID': '3'
    },
  )  # fmt: skip
  (arguments,) = (
    json.loads(line) for line in process.stdout.splitlines() if line[0] == '['
  )
  commands = [w for w in arguments if w.startswith('--command=')]
  for command in commands:  # what a worker's shell makes of it
    inner = command.removeprefix('--command=').partition('&& ')[2]
    code = f'set -- {inner}; printf "%s\\0" "$@"'
    read = subprocess.run(
      ['bash', '-c', code], cwd=tmp_path, check=True, text=True,
      capture_output=True,
    )  # fmt: skip
    arguments = [*arguments, *read.stdout.split('\0')]
  for word in CALLS[script]:
    candidates = {word, f'gs://{word}', f'--zone={word}', f'--worker={word}'}
    candidates |= {f'--accelerator-type={word}', f'--runtime-version={word}'}
    assert candidates & set(arguments) or word == 'python', (word, arguments)
  assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(path):
  if not shutil.which('shellcheck'):
    pytest.skip('needs shellcheck')
  process = subprocess.run(
    ['shellcheck', path], text=True, capture_output=True, check=False
  )
  assert not process.returncode, process.stdout
