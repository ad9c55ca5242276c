"""What a run was run with, as text: the code's commit, the packages."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

_MAX_DIFF = 1_000_000  # characters


def git_state(folder: Path) -> str:
  """The commit, status and diff of the checkout around `folder`, '' if none."""

  def git(*words):
    done = subprocess.run(
      ['git', '-C', str(folder), *words],
      capture_output=True,
      text=True,
      errors='replace',
      check=False,
    )
    return done.stdout if done.returncode == 0 else ''

  try:
    commit, status = git('rev-parse', 'HEAD'), git('status', '--porcelain')
    diff = git('diff', 'HEAD')
  except FileNotFoundError:  # no git on this machine
    return ''
  if len(diff) > _MAX_DIFF:
    diff = f'{diff[:_MAX_DIFF]}\n[cut: {len(diff)} characters in all]\n'
  return f'commit {commit}\n{status}\n{diff}' if commit else ''


def environment(devices: str = '') -> str:
  """Python, platform, devices and the version of every package, as text."""
  packages = {
    f'{distribution.metadata["Name"]}=={distribution.version}'
    for distribution in importlib.metadata.distributions()
  }
  head = [f'python {sys.version}', platform.platform(), f'devices {devices}']
  return '\n'.join([*head, '', *sorted(packages, key=str.lower)]) + '\n'
