"""Problem sets on disk with random access, and the order they are read in.

The format is that of tensorflow-datasets with array_record files, without
TensorFlow: `tfds` is imported when first needed, and imports no tensorflow for
the functions called here. Sets are `Sequence[Problem]`.

The order of a run is a function of its seed and step only (`batches`), so that
a run resumes by its step number, with no state of a loader to save.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from critic_jax.data import file_sets, problems, row_files
from critic_jax.data.file_sets import FileSet
from critic_jax.types import Problem

# Part of the content address: raise it when `problems` reads rows differently.
_VERSION = '1.3.0'
_SPLIT = 'train'  # tfds wants a name; prepared sets have one part
_FIELDS = tuple(field.name for field in dataclasses.fields(Problem))


@dataclasses.dataclass(frozen=True)
class _Problems(Sequence):
  """Rows that `read(index, row)` turns into problems one by one."""

  rows: Sequence[Mapping[str, Any]]
  read: Callable[[int, Mapping[str, Any]], Problem]

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index):
    places = range(len(self))[index]  # negative indices, slices, IndexError
    if isinstance(places, range):
      return [self[place] for place in places]
    return self._problem(places, self.rows[places])

  def __iter__(self) -> Iterator[Problem]:
    size = 1000  # at once: a third faster than one by one
    for start in range(0, len(self), size):
      places = range(start, min(start + size, len(self)))
      for place, row in zip(
        places, self.rows.__getitems__(places), strict=True
      ):
        yield self._problem(place, row)

  def _problem(self, place: int, row: Mapping[str, Any]) -> Problem:
    texts = {
      name: value.decode() if isinstance(value, bytes) else value
      for name, value in row.items()
    }
    return self.read(place, texts)


def prepare(
  source: str | os.PathLike | Sequence[FileSet],
  data_dir: str | os.PathLike,
  *,
  layout: str = 'auto',
  columns: str = '',
  bad_rows: str = 'error',
  report: Callable[[str], None] = print,
) -> Sequence[Problem]:
  """Returns the problems of files, converted once and read by random access.

  The prepared set lies in `data_dir` in a folder named by the content of the
  files and by the settings: a changed file is converted anew. The folder
  appears when it is complete, so that neither a crash nor a second process
  leaves half of a set.

  Args:
    source: a file, or sets of files, of `problems.read`.
    data_dir: the folder of prepared sets; created if missing.
    layout: the layout of the rows, or 'auto'.
    columns: names of ours for columns of the files (column_names.py).
    bad_rows: 'error' or 'skip'.
    report: called with one line of text if rows were skipped; only when the set
      is converted.

  Returns:
    The problems in the files' order.

  Raises:
    ValueError: a bad row, or a prepared set that was damaged since.
  """
  sets, data_dir = file_sets.of(source), pathlib.Path(data_dir)
  if '**' in str(data_dir.absolute()):
    raise ValueError(
      f'data_dir: got {str(data_dir)!r}; expected a path without **, which '
      'tfds reads as a pattern; give another folder'
    )
  settings = [_VERSION, layout, columns, bad_rows]
  for file_set in sets:
    settings += [file_set.name, str(file_set.is_alone)]
    for path in file_set.paths:
      with row_files.open_file(path) as file:
        content = hashlib.file_digest(file, 'sha256').hexdigest()
      settings += [row_files.ending(path), content]
  digest = hashlib.sha256('\n'.join(settings).encode()).hexdigest()[:16]
  name = re.sub(r'[^\w.-]', '_', sets[0].name)[:80]
  folder = data_dir / f'{name}-{digest}'
  if not folder.exists():
    problem_set = problems.read(
      sets, layout=layout, columns=columns, bad_rows=bad_rows, report=report
    )
    _write(problem_set, folder)
  return _Problems(_open(folder / 'problems' / _VERSION), _stored_problem)


def published(
  name: str,
  data_dir: str | os.PathLike,
  *,
  split: str = 'train',
) -> Sequence[Problem]:
  """Returns a set that tensorflow-datasets publishes, such as 'gsm8k'.

  Its rows must be in a layout of `problems`; rows without an id get
  '<name>-<split>-<index>'.

  Args:
    name: a name in the catalogue of tfds: 'set', 'set/config', 'set:1.0.0'.
    data_dir: the folder of prepared sets.
    split: a split in the words of tfds: 'train', 'test', 'train[:80%]'.

  Returns:
    The problems.

  Raises:
    ValueError: unknown name or split, a set that is not in `data_dir`, or rows
      that are no problems.
  """
  tfds = _tfds()
  importlib.import_module('tensorflow_datasets.text')  # its sets, by name
  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
  except tfds.core.DatasetNotFoundError:
    raise ValueError(
      f'name: got {name!r}; expected a text set of tensorflow-datasets; see '
      'https://www.tensorflow.org/datasets/catalog'
    ) from None
  if not pathlib.Path(builder.data_path, 'dataset_info.json').exists():
    # Google's bucket has the sets as tfrecord only: convert the original.
    raise ValueError(
      f'{builder.name}: got nothing in {builder.data_path}; expected a prepared'
      f' set; where there is a network, run `tfds build {name} --file_format='
      f"array_record --data_dir={data_dir} --download_config='"
      '{"try_download_gcs": false}\'`, then copy the folder'
    )
  with _quiet():
    try:
      rows = builder.as_data_source(split=split)
    except NotImplementedError:  # files without random access
      raise ValueError(
        f'{builder.data_path}: got files of another format; expected '
        'array_record; delete the folder or give another data_dir'
      ) from None
  prefix = f'{builder.name}-{split}'
  first = _Problems(rows, lambda _, row: row)[0]
  read = functools.partial(_published_problem, prefix, problems.detect(first))
  return _Problems(rows, read)


def shuffled(num_examples: int, *, seed: int, epoch: int) -> np.ndarray:
  """Returns the order of an epoch: a permutation of `range(num_examples)`.

  It depends on the arguments only, on every platform and for every release of
  numpy, which does not promise that of `Generator.permutation` (NEP 19).

  Args:
    num_examples: the number of examples.
    seed: a seed in [0, 2**64).
    epoch: the epoch, from 0.

  Returns:
    int64[num_examples].
  """
  bits = np.random.Philox(key=np.array([seed, epoch], np.uint64))
  return np.argsort(bits.random_raw(num_examples), kind='stable')


def batches(
  source: Sequence[Any], batch_size: int, *, seed: int, start_step: int = 0
) -> Iterator[list[Any]]:
  """Yields batches without end, from `start_step` on.

  Epochs, each in its own order, follow each other without a gap: no example is
  dropped, and a batch may end one epoch and begin the next. Batch k is a
  function of the source, `batch_size`, the seed and k only.

  >>> stream = batches('abc', 2, seed=0)
  >>> epochs = sum((next(stream) for _ in range(3)), [])  # 6 = 2 epochs
  >>> sorted(epochs[:3]), sorted(epochs[3:])
  (['a', 'b', 'c'], ['a', 'b', 'c'])

  Args:
    source: examples by index.
    batch_size: examples a step.
    seed: a seed in [0, 2**64).
    start_step: the first step; a run continues at n after n steps.

  Returns:
    An iterator of lists of `batch_size` examples.

  Raises:
    ValueError: at once, if the source is empty or a number is out of range.
  """
  if not len(source):
    raise ValueError('source: got no example; expected at least one')
  if batch_size < 1:
    raise ValueError(f'batch_size: got {batch_size!r}; expected >= 1')
  if start_step < 0:
    raise ValueError(f'start_step: got {start_step!r}; expected >= 0')
  if not 0 <= seed < 2**64:
    raise ValueError(f'seed: got {seed!r}; expected in [0, 2**64)')
  return _batches(source, batch_size, seed, start_step)


def _batches(source, batch_size, seed, step):
  size, epoch = len(source), None
  while True:
    batch = []
    for position in range(step * batch_size, (step + 1) * batch_size):
      if position // size != epoch:
        epoch = position // size
        order = shuffled(size, seed=seed, epoch=epoch)
      batch.append(source[int(order[position % size])])
    yield batch
    step += 1


def _stored_problem(index: int, row: Mapping[str, str]) -> Problem:
  del index
  return Problem(**row)


def _published_problem(
  prefix: str, layout: str, index: int, row: Mapping[str, Any]
) -> Problem:
  return problems.parse(row, layout, default_id=f'{prefix}-{index}')


def _write(rows: Sequence[Problem], folder: pathlib.Path) -> None:
  """Writes a prepared set; the last act is to give the folder its name."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    dir=folder.parent, prefix='.incomplete-'
  ) as temporary:
    complete = pathlib.Path(temporary, 'complete')
    with _quiet():
      _make_builder(rows, complete).download_and_prepare(
        download_dir=pathlib.Path(temporary, 'downloads')
      )
    try:
      complete.rename(folder)
    except OSError:
      if not folder.exists():  # else another process was faster: same content
        raise


def _make_builder(rows: Sequence[Problem], data_dir: pathlib.Path) -> Any:
  tfds = _tfds()

  # Defined in a function, since the class needs an imported tfds.
  class Problems(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Problems as four texts, in the given order."""

    name = 'problems'
    VERSION = tfds.core.Version(_VERSION)
    code_path = None  # the folder of checksums of downloads

    def _info(self):
      text = tfds.features.Text()
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(dict.fromkeys(_FIELDS, text)),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {_SPLIT: self._generate_examples()}

    def _generate_examples(self):
      for index, problem in enumerate(rows):
        yield index, dataclasses.asdict(problem)

  return Problems(data_dir=data_dir, file_format='array_record')


def _open(folder: pathlib.Path) -> Sequence[Mapping[str, bytes]]:
  tfds = _tfds()
  try:
    with _quiet():
      rows = tfds.builder_from_directory(folder).as_data_source(split=_SPLIT)
    rows[len(rows) - 1]  # opens the files
  except Exception as error:  # tfds raises any about broken files
    raise ValueError(
      f'{folder}: got a damaged set ({error}); expected files of `prepare`; '
      'delete the folder'
    ) from error
  return rows


def _tfds() -> Any:
  return importlib.import_module('tensorflow_datasets')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences tfds: its prints and its progress bars."""
  _tfds().disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    yield
