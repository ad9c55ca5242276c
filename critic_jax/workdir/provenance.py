"""The provenance of a run: code, packages, config, inputs, and their changes.

The code's commit and the packages are text. A version that has changed since a
folder was last opened is written beside the first, and the config that another
one replaces is kept. Inputs are digests of contents, which never change.
"""

from __future__ import annotations

import functools
import glob
import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from critic_jax import files, strict_json
from critic_jax.workdir import settings

INPUTS = 'inputs.json'
_MAX_DIFF = 1_000_000  # characters


def write_versions(folder: Path, devices: str = '') -> None:
  """Writes git.txt and env.txt, or git.1.txt ... where they have changed."""
  _write_version(folder, 'git', git_state(Path(__file__).parent))
  _write_version(folder, 'env', environment(devices))


def _write_version(folder: Path, stem: str, text: str) -> None:
  path, number = folder / f'{stem}.txt', 0
  latest = None
  while path.exists():
    latest, number = path, number + 1
    path = folder / f'{stem}.{number}.txt'
  content = text.encode()
  if latest is None or files.head(latest, len(content) + 1) != content:
    files.replace(path, content)


def keep_replaced(
  config: Mapping[str, Any], inputs: Mapping[str, str], saved: Path
) -> None:
  """Keeps the config that another one replaces, and its last evaluations.

  Args:
    config: the new config, as JSON has it.
    inputs: the digests of the new inputs.
    saved: the folder's config.json; its inputs.json is beside it, but not in a
      folder of an older version.

  Raises:
    ValueError: the new config does not continue the run (`settings.changes`),
      or an input has another content than the run began with.
  """
  path = saved.with_name(INPUTS)
  is_known = bool(inputs) and path.exists()
  changed = settings.changes(
    config, strict_json.read(saved), saved, may_move=is_known
  )
  if is_known:
    _check_inputs(inputs, strict_json.read(path), path)
  if not changed:
    return
  number = 1
  while (copy := saved.with_name(f'config.{number}.json')).exists():
    number += 1
  files.replace(copy, files.head(saved, strict_json.MAX_BYTES))
  if steps := changed.get(settings.last_steps(config)):
    _put_evaluations_aside(saved.parent, config['order'][-1], steps[1])


def _check_inputs(inputs, saved, path: Path) -> None:
  """Raises ValueError for inputs with another content than the saved ones."""
  names = [
    name
    for name in sorted({*inputs, *saved})
    if inputs.get(name) != saved.get(name)
  ]
  if names:
    raise ValueError(
      f'{", ".join(names)}: got another content than this run began with; '
      f'expected the SHA-256 of {path}, wherever the files are; bring them '
      'back under their old names, or give another folder'
    )


def keep_later_evaluations(folder: Path, config, step: int) -> None:
  """Moves the records of evaluations after phases that are run again.

  Args:
    folder: the folder of the run.
    config: the config of the run.
    step: the step that the run goes on from.
  """
  for phase, end in settings.phase_ends(config).items():
    if step < end:
      _put_evaluations_aside(folder, phase, step)


def _put_evaluations_aside(folder: Path, phase: str, steps: int) -> None:
  """Moves the records that evaluations have made after a phase's old end."""
  aside = files.inside(folder, f'replaced/{phase}-{steps}')
  with files.writing(aside):
    for records in folder.glob(f'eval/*/{glob.escape(phase)}.jsonl.gz'):
      name = records.relative_to(folder)
      files.inside(folder, name)  # or somebody else's file would be moved
      target = aside / name
      target.parent.mkdir(parents=True, exist_ok=True)
      records.replace(target)
    for unfinished in folder.glob(f'partial/*/{glob.escape(phase)}'):
      shutil.rmtree(files.inside(folder, unfinished.relative_to(folder)))


def git_state(folder: Path) -> str:
  """Returns commit, status and diff of the checkout around `folder`, or ''."""

  def git(*words):
    process = subprocess.run(
      ['git', '-C', str(folder), *words],
      capture_output=True,
      text=True,
      errors='replace',
      check=False,
    )
    return process.stdout if process.returncode == 0 else ''

  try:
    commit, status = git('rev-parse', 'HEAD'), git('status', '--porcelain')
    diff = git('diff', 'HEAD') if status else ''
  except FileNotFoundError:  # no git on this machine
    return ''
  if len(diff) > _MAX_DIFF:
    diff = f'{diff[:_MAX_DIFF]}\n[cut: {len(diff)} characters in all]\n'
  return f'commit {commit}\n{status}\n{diff}' if commit else ''


def environment(devices: str = '') -> str:
  """Returns Python, platform, devices and all packages' versions as text."""
  head = [f'python {sys.version}', platform.platform(), f'devices {devices}']
  return '\n'.join([*head, '', *_packages()]) + '\n'


@functools.cache
def _packages() -> list[str]:
  """Returns all packages with their versions, as the process first saw them."""
  packages = {
    f'{distribution.metadata["Name"]}=={distribution.version}'
    for distribution in importlib.metadata.distributions()
  }
  return sorted(packages, key=str.lower)
