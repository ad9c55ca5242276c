"""The command line: help, and errors in one line."""

import importlib
import json
import re

import pytest


@pytest.mark.parametrize(
  ('command', 'flags'),
  [
    ('train', ['--config', '--workdir']),
    ('evaluate', ['--config', '--workdir', '--checkpoint']),
    ('plan', ['--config', '--chip', '--mesh', '--compile']),
    ('convert', ['--dtype', '--overwrite']),
  ],
)
def test_help_is_a_line_the_flags_and_two_examples(python, command, flags):
  process = python('-m', f'critic_jax.{command}', '--help')
  assert (process.returncode, process.stderr) == (0, '')
  text = process.stdout
  name = 'plan.__main__' if command == 'plan' else command
  doc = importlib.import_module(f'critic_jax.{name}').__doc__
  assert doc.splitlines()[0] in text.splitlines()
  for flag in flags:
    assert re.search(rf'^ *{flag}\b', text, re.MULTILINE), flag
  _, examples = text.split('examples:\n')
  assert examples.count(f'python -m critic_jax.{command} ') == 2
  assert '[' not in examples  # they can be typed
  assert max(map(len, text.splitlines())) <= 80
  assert 'helpfull' not in text and 'absl' not in text


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('nosuch=1', r'config: got .nosuch.; expected one of .*'),
    ('sed=1', r"config: got 'sed'; .* did you mean 'seed'\?"),
    ('phase.rl.steps=1', r"config: got 'phase'; .* did you mean 'phases'\?"),
    ('phases.ro.steps=1', r"config\.phases: got 'ro'; .* did you mean 'rl'\?"),
    (
      'phases.rl.nosuch=1',
      r"config\.phases\.rl: got 'nosuch'; expected one .*",
    ),
    ('phases.rl.step=1', r"config\.phases\.rl: got 'step'; .* mean 'steps'\?"),
    ('evals.heldut.after=()', r"config\.evals: .* did you mean 'heldout'\?"),
    ('phases.rl.row_shape[0]=1', r"config\.phases\.rl: .* 'row_shapes'\?"),
    (
      'steps=9',
      r"config: got 'steps', .*; did you mean .*phases\.rl\.steps.*\?",
    ),
    (
      'checkpoint_minutes=1',
      r'config: .* mean .*phases\.rl\.checkpoint_minutes.*\?',
    ),
    (
      'models.judge.source=a',
      r"config\.models: got 'judge'; .* first, --config\.models\.judge=cold",
    ),
    (
      'evals.mine.split=dev',
      r"config\.evals: got 'mine'; .* first, --config\.evals\.mine=heldout",
    ),
    ('evals.mine=heldut', r"config\.evals\.mine: got 'heldut'; .* 'heldout'\?"),
    (
      'evals.heldout=heldout',
      r"config\.evals\.heldout: got 'heldout' for a section that is there; .*",
    ),
    ('phases.rl.steps=abc', r'flag --config\.phases\.rl\.steps=abc: .*'),
  ],
)
def test_an_unknown_setting_is_one_line_with_the_nearest(
  python, tmp_path, override, message
):
  process = python(
    '-m',
    'critic_jax.train',
    '--config=configs/refcritic.py:tiny',
    f'--workdir={tmp_path}/run',
    f'--config.{override}',
  )
  assert (process.returncode, process.stdout) == (1, '')
  assert re.fullmatch(f'error: {message}\n', process.stderr), process.stderr
  assert not (tmp_path / 'run').exists()


def test_a_section_is_added_as_a_copy_that_flags_change(python, tmp_path):
  """As configs/README.md does, whatever the order of the flags."""
  path = tmp_path / 'plan.json'
  words = (
    '--config.models.judge.temperature=0.5 --config.models.judge=critic '
    '--config.phases.rl.preference_weight=1 --config.evals.dev=heldout '
    '--config.evals.dev.split=dev'
  ).split()
  process = python(
    '-m', 'critic_jax.plan', '--config=configs/refcritic.py:tiny', *words,
    '--chip=cpu', f'--json={path}',
  )  # fmt: skip
  assert process.returncode == 0, process.stderr
  counts = json.loads(path.read_text())['parameters']
  assert counts['judge'] == counts['critic'] > 0


def test_a_flag_that_is_missing_is_named(python):
  process = python('-m', 'critic_jax.train', '--config=refcritic:tiny')
  assert process.returncode == 1
  line = 'error: --workdir: got none; expected a value; --help explains it\n'
  assert process.stderr == line
