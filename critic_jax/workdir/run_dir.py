"""A run's folder: its config, its metrics, and the texts that models wrote.

    config.json  config.1.json         the config, and those it has replaced
    inputs.json                        SHA-256 of weights, tokenizers, data
    overrides.json  command.txt  git.txt  env.txt
    metrics.jsonl                      lines of 'step', 'phase', 'time', floats
    tensorboard/                       the same floats, and results
    tracker.txt                        the run's name in trackers
    records/<phase>/000100.jsonl.gz    every record of a step
    eval/<evaluation>/<phase>.jsonl.gz records of the evaluations
    results/<evaluation>.json          their metrics
    batches/                           batches in which something was wrong
    checkpoints/  damaged/             see checkpoint.py
    replaced/<phase>-<steps>/          evaluations before it got more steps
    DONE | FAILED                      FAILED holds the traceback

Files appear whole or not at all, but for metrics.jsonl, which grows by lines
that are on the disk when the step ends, and tensorboard/. JSON has no NaN or
infinity: they are written as the strings 'nan', 'inf' and '-inf', which `float`
reads back. One process writes to a folder: another is refused while it lives.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shlex
import sys
import time
import traceback
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critic_jax import files, strict_json
from critic_jax.types import Record
from critic_jax.workdir import provenance, record_rows, settings, writers

_RESERVED = ('step', 'phase', 'time')
_NOT_FINITE = ('nan', 'inf', '-inf')
MAX_BYTES = 2_000_000_000  # of metrics, and of a file of records, unpacked
MAX_DEPTH = 64  # of the responses to responses in it
# Errors of reading a truncated or foreign file of records.
_BROKEN = (
  EOFError, OSError, zlib.error, ValueError, LookupError, TypeError
)  # fmt: skip


def open_run(
  path: str | Path,
  config: Mapping[str, Any],
  *,
  inputs: Mapping[str, str] | None = None,
  overrides: Mapping[str, Any] | None = None,
  devices: str = '',
  is_writer: bool = True,
) -> RunDir:
  """Makes the folder of a run, or opens that of a run to continue.

  A folder is resumed if its config.json agrees with `config` in all settings
  that define the run (`settings.changes` says which may differ); call
  `RunDir.rewind` with the step to resume from. A config that differs replaces
  the old one, which is kept as config.1.json; where the last phase gets more
  steps, the evaluations of its old end are put aside. Markers are taken away,
  each opening adds a line to command.txt, and code or packages that have
  changed since are written beside the first as git.1.txt or env.1.txt.

  Args:
    path: the folder of the run.
    config: a mapping or ConfigDict, as the run will use it.
    inputs: digests of what the run has read, by setting.
    overrides: settings that the command line changed, by dotted name.
    devices: names of the run's devices, for env.txt.
    is_writer: whether this process writes the files of the run.

  Raises:
    ValueError: the folder holds a run with another config (names every
      setting that may not differ, with both values) or with inputs of another
      content, cannot be written, or another process writes to it.
  """
  run = RunDir(path, is_writer=is_writer)
  if not is_writer:
    return run
  with files.writing(run.path):
    run.path.mkdir(parents=True, exist_ok=True)
  run.lock = files.lock(run.path)
  try:
    _describe(run, config, inputs or {}, overrides, devices)
  except BaseException:
    run.close()
    raise
  return run


def _describe(run: RunDir, config, inputs, overrides, devices) -> None:
  """Writes the config and the versions, if they continue the folder's run."""
  config = _sorted(settings.plain(config))
  saved = run.path / 'config.json'
  if saved.exists():
    provenance.keep_replaced(config, inputs, saved)
    run.rewind(None)
  for marker in ('DONE', 'FAILED'):
    (run.path / marker).unlink(missing_ok=True)
  line = shlex.join(sys.orig_argv) + '\n'
  files.append(run.path / 'command.txt', line.encode())
  provenance.write_versions(run.path, devices)
  _write_json(run.path / 'overrides.json', overrides or {})
  if inputs:
    _write_json(run.path / provenance.INPUTS, inputs)
  run.writers.describe(config)
  _write_json(saved, config)  # the last: a folder that has it is complete


def check_name(setting: str, name: str) -> None:
  """Raises ValueError unless a config's name can be that of a file."""
  bad = not isinstance(name, str) or name in ('', '.', '..') or '/' in name
  if bad or not name.isprintable():
    raise ValueError(
      f'{setting}: got the name {name!r}; expected one that a file can have; '
      'rename the section'
    )


class RunDir:
  """Writes the files of the module's docstring to the folder `path`.

  As a context manager it marks the run: DONE if the block ends, FAILED if it
  raises. A run that was interrupted (KeyboardInterrupt, SystemExit) gets
  neither: it may be resumed. One of a run's processes `is_writer`; in the
  others the methods do nothing.
  """

  def __init__(self, path: str | Path, *, is_writer: bool = True):
    self.path = Path(path)
    self.is_writer = is_writer
    self.lock = None
    self.writers = writers.Writers(self.path)

  def __enter__(self) -> RunDir:
    return self

  def __exit__(self, kind, error, trace) -> None:
    if kind is None:
      self.done()
    elif issubclass(kind, Exception):
      with contextlib.suppress(ValueError):  # `error` says more
        self.failed(''.join(traceback.format_exception(kind, error, trace)))
    self.close()

  def rewind(self, step: int | None) -> None:
    """Drops what was logged at `step` or later, and a half-written last line.

    To be called once before the first `log_metrics` of a resumed run, with the
    first step that it will run again; None drops no whole line.
    """
    if not self.is_writer:
      return
    path = self.path / 'metrics.jsonl'
    rows = list(read_metrics(path))
    if step is not None:
      rows = [row for row in rows if row['step'] < step]
      self.writers.rewind(step)
    files.replace(path, ''.join(_dump(row) + '\n' for row in rows).encode())

  def log_metrics(
    self, step: int, metrics: Mapping[str, float], phase: str
  ) -> None:
    """Appends a line to metrics.jsonl, and gives the scalars to writers.

    Args:
      step: the step, counted over all phases of the run.
      metrics: scalars by name, e.g. 'reward/judge', 'time/sample_s'.
      phase: the part of the run, e.g. 'rl'.
    """
    values = {name: float(value) for name, value in metrics.items()}
    if reserved := sorted(set(values) & set(_RESERVED)):
      raise ValueError(
        f'metrics: got the names {reserved}; expected names other than '
        f'{list(_RESERVED)}, which every line has; rename them'
      )
    if not self.is_writer:
      return
    row = {'step': int(step), 'phase': phase, 'time': time.time(), **values}
    files.append(self.path / 'metrics.jsonl', (_dump(row) + '\n').encode())
    self.writers.add(int(step), row['time'], values)

  def write_records(
    self,
    name: int | str,
    records: Sequence[Record],
    folder: str = 'records',
    *,
    tokens: bool = False,
  ) -> Path:
    """Writes `<folder>/<name>.jsonl.gz`, as the function `write_records`.

    Args:
      name: a step, which is padded to six digits, or a file's stem.
      records: records of any stages, in any order.
      folder: a folder within the run, e.g. 'records/rl' or 'eval/critique'.
      tokens: whether to write tokens and logprobs too.

    Returns:
      The file's path.
    """
    stem = name if isinstance(name, str) else f'{name:06d}'
    path = files.inside(self.path, f'{folder}/{stem}.jsonl.gz')
    if self.is_writer:
      write_records(path, records, tokens=tokens)
      self.writers.add_records(folder, records)
    return path

  def write_batch(
    self,
    step: int,
    batch: Mapping[str, np.ndarray],
    records: Sequence[Record],
  ) -> Path:
    """Writes a batch, and its records with their tokens beside it.

    Returns:
      The path of the arrays, `batches/<step>.npz`.
    """
    path = files.inside(self.path, f'batches/{step:06d}.npz')
    if self.is_writer:
      buffer = io.BytesIO()
      np.savez_compressed(buffer, **batch)
      files.replace(path, buffer.getvalue())
      write_records(path.with_suffix('.jsonl.gz'), records, tokens=True)
    return path

  def write_results(self, name: str, results: Mapping[str, Any]) -> Path:
    """Writes `<name>.json`; an Estimate becomes {'value': ..., 'low': ...}."""
    path = files.inside(self.path, f'{name}.json')
    if self.is_writer:
      _write_json(path, results)
    return path

  def log_results(self, evaluation: str, columns: Mapping[str, Any]) -> None:
    """Writes Estimates, by phase and metric, where metrics are drawn."""
    if self.is_writer:
      self.writers.add_results(evaluation, columns)

  def done(self) -> None:
    """Marks the run as finished."""
    if self.is_writer:
      files.replace(self.path / 'DONE', b'')

  def failed(self, trace: str) -> None:
    """Marks the run as failed, with the traceback."""
    if self.is_writer:
      files.replace(self.path / 'FAILED', trace.encode())

  def close(self) -> None:
    """Closes all writers, and lets others write to the folder."""
    self.writers.close()
    if self.lock is not None:
      with contextlib.suppress(OSError):
        self.lock.close()
    self.lock = None


def read_metrics(path: str | Path) -> Iterator[dict[str, Any]]:
  """Yields the lines of a metrics.jsonl; no file has no lines.

  A last line without its end was being written when the run was killed: it is
  left out.

  Raises:
    ValueError: another line is no JSON object of a step, a phase and numbers.
  """
  path = Path(path)
  content = files.head(path, MAX_BYTES + 1)
  if len(content) > MAX_BYTES:
    raise ValueError(
      f'{path}: got more than {MAX_BYTES} bytes; expected metrics; remove it'
    )
  for number, line in enumerate(content.split(b'\n')[:-1], 1):
    try:
      yield metrics_row(line)
    except ValueError as error:
      raise ValueError(
        f'{path}: got {line[:60]!r} in line {number}; expected a JSON object '
        f'of numbers ({error}); delete the line'
      ) from error


def metrics_row(line: bytes) -> dict[str, Any]:
  """Returns a line of metrics.jsonl with its floats.

  Raises:
    ValueError: it is no JSON object of a step, a phase and numbers.
  """
  try:
    return _checked(strict_json.loads(line))
  except (KeyError, OverflowError, TypeError) as error:
    raise ValueError(repr(error)) from error


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
  step, phase = row['step'], row['phase']
  if not isinstance(phase, str) or type(step) is not int:
    raise ValueError(f'the phase {phase!r} and the step {step!r}')
  if not 0 <= step < 2**53:
    raise ValueError(f'the step {step}')
  head = {'step': step, 'phase': phase}
  for name, value in row.items():
    if not isinstance(value, int | float) and value not in _NOT_FINITE:
      if name not in head:
        raise ValueError(f'no number for {name!r}')
  return {
    name: head[name] if name in head else float(value)
    for name, value in row.items()
  }


def write_records(
  path: str | Path, records: Sequence[Record], *, tokens: bool = False
) -> None:
  """Writes records as gzipped JSON lines: the same records, the same bytes.

  A row has id, parent (its id), parent_row (its line, counted from 0: ids may
  repeat when a step draws a problem twice), stage, index, problem, text,
  finish, parsed, scores, num_prompt_tokens and num_tokens; with `tokens` also
  prompt_tokens, tokens and logprobs. Ancestors that are not among `records` are
  written before them, so that a file holds whole trees.
  """
  ordered = {}  # by identity: records compare so
  for record in records:
    for member in reversed(list(record.chain)):
      ordered.setdefault(id(member), member)
  rows = {key: row for row, key in enumerate(ordered)}
  lines = [
    _dump(record_rows.to_row(record, rows, tokens=tokens)) + '\n'
    for record in ordered.values()
  ]
  buffer = io.BytesIO()
  with gzip.GzipFile('', 'wb', 6, buffer, mtime=0) as f:
    f.write(''.join(lines).encode())
  files.replace(Path(path), buffer.getvalue())


def read_records(path: str | Path) -> list[Record]:
  """Reads the records of a file in its order, with their parents.

  Where tokens were not written, `tokens` and `prompt_tokens` are -1 and
  `logprobs` NaN, as many as there were, so that lengths are kept; such arrays
  can not be written to.

  Raises:
    ValueError: the file is truncated, no file of records, or holds more than
      `MAX_BYTES` bytes; it may be small, and unpack to any size.
  """
  records, depths, size = [], [], 0
  try:
    with files.opened(path) as file, gzip.open(file) as f:
      while line := f.readline(MAX_BYTES + 1 - size):
        size += len(line)
        if size > MAX_BYTES:
          raise ValueError(f'more than {MAX_BYTES} bytes')
        row = strict_json.loads(line)
        number = row['parent_row']  # an earlier line, or LookupError
        if number is not None and not 0 <= number < MAX_BYTES:
          raise ValueError(f'the parent_row {number}')
        depths.append(0 if number is None else depths[number] + 1)
        if depths[-1] > MAX_DEPTH:
          raise ValueError(f'records more than {MAX_DEPTH} levels deep')
        parent = None if number is None else records[number]
        records.append(record_rows.from_row(row, parent))
  except _BROKEN as error:
    raise ValueError(
      f'{path}: got a truncated or broken file ({error!r}); expected records '
      'written by write_records; delete it or write it again'
    ) from error
  return records


def _dump(value: Any) -> str:
  return json.dumps(settings.plain(value), allow_nan=False)


def _write_json(path: Path, value: Any) -> None:
  text = json.dumps(settings.plain(value), indent=2, allow_nan=False)
  files.replace(path, (text + '\n').encode())


def _sorted(value: Any) -> Any:
  if not isinstance(value, dict):
    return value
  return {key: _sorted(value[key]) for key in sorted(value)}
