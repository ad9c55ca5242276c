"""Which files a path names: a file, a folder, a pattern, several of these.

A folder may have splits of its own: by `dataset_dict.json`, as Hugging Face's
`datasets` saves one, by folders, or by names of files (`train.csv`,
`test-00000-of-00002.parquet`). Files that are parts of one another
(`-00000-of-00002`) are one set, and so is a folder that `datasets` saved.
Files and folders whose names begin with a dot or an underscore are none.
"""

from __future__ import annotations

import collections
import difflib
import glob
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from critic_jax import lookup, strict_json
from critic_jax.data import hub, row_files

# How others call the splits.
_SPLITS = {
  'train': 'train', 'training': 'train', 'validation': 'dev', 'valid': 'dev',
  'val': 'dev', 'dev': 'dev', 'test': 'test', 'testing': 'test',
}  # fmt: skip
# Files that say something about the others.
_DICT, _STATE = 'dataset_dict.json', 'state.json'
_ABOUT = {_DICT, _STATE, 'dataset_info.json', 'dataset_infos.json'}
_PART = re.compile(r'-[0-9]{1,9}-of-[0-9]{1,9}$')
_HUB = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')
ByParts = dict[str, 'list[FileSet]']


class FileSet(NamedTuple):
  """Files that are read as one, in their order.

  Attributes:
    name: rows without an id are called '<name>-<index in the set>'.
    paths: the files.
    is_alone: whether no other set is read with it; if one is, ids of rows begin
      with the name.
  """

  name: str
  paths: tuple[pathlib.Path, ...]
  is_alone: bool = True


def of(source: str | os.PathLike | Sequence[FileSet]) -> Sequence[FileSet]:
  """Returns sets as they are, and a path of a file as one set."""
  if isinstance(source, str | os.PathLike):
    path = pathlib.Path(source)
    return [FileSet(_stem(path), (path,))]
  return source


def label(sets: Sequence[FileSet]) -> str:
  """Returns how messages call the files of sets.

  >>> label(of('a.csv')), label([*of('a.csv'), *of('b.csv')])
  ('a.csv', 'a.csv and 1 more')
  """
  first, *others = [path for file_set in sets for path in file_set.paths]
  return f'{first} and {len(others)} more' if others else str(first)


def find(value: str | Sequence[str], setting: str) -> ByParts:
  """Returns the sets of files that a setting names, by their splits.

  Args:
    value: a path of a file or a folder, or a pattern; several, as a list or
      with commas between them.
    setting: the name of the setting, for errors.

  Returns:
    'train', 'dev', 'test' for a folder that has such splits; else '' for all.

  Raises:
    ValueError: there is no such file.
  """
  if isinstance(value, str):
    is_path = not value or os.path.exists(value)
    value = [value] if is_path else [v.strip() for v in value.split(',')]
  if not isinstance(value, list | tuple):
    raise ValueError(f'{setting}: got {value!r}; expected a path, or several')
  by_split = collections.defaultdict(list)
  for path in value:
    for split, sets in _named(str(path), setting).items():
      by_split[split] += sets
  if len(by_split) > 1 and '' in by_split:
    raise ValueError(
      f'{setting}: got {label(by_split.pop(""))} beside the splits '
      f'{sorted(by_split)}; expected splits, or files without; name the files: '
      f"--config.data.{setting}='FILE,FILE'"
    )
  return dict(by_split)


def named_apart(
  by_split: Mapping[str, Sequence[FileSet]],
) -> dict[str, list[FileSet]]:
  """Gives sets that are read together different names.

  Raises:
    ValueError: a file comes twice.
  """
  sets = [file_set for part in by_split.values() for file_set in part]
  paths = [str(path.absolute()) for s in sets for path in s.paths]
  if twice := [path for path in paths if paths.count(path) > 1]:
    raise ValueError(
      f'paths: got {twice[0]} twice; expected each file once; leave one out'
    )
  counts = collections.Counter(s.name for s in sets)
  numbers: collections.Counter = collections.Counter()

  def apart(file_set):
    name = file_set.name
    if counts[name] > 1:
      name = f'{file_set.paths[0].absolute().parent.name}-{name}'
    numbers[name] += 1
    if numbers[name] > 1:
      name = f'{name}-{numbers[name]}'
    return file_set._replace(name=name, is_alone=len(sets) == 1)

  return {split: list(map(apart, part)) for split, part in by_split.items()}


def _stem(path: pathlib.Path) -> str:
  """Returns a file's name without its endings: 'a' of 'a.jsonl.gz'."""
  return path.with_suffix('').stem if path.suffix == '.gz' else path.stem


def _named(value: str, setting: str) -> ByParts:
  """Returns the sets of one path, or of one pattern."""
  path = pathlib.Path(value)
  if value and path.is_dir():
    return _folder(path, setting)
  if value and (path.exists() or path.is_symlink()):
    return {'': [FileSet(_stem(path), (path,))]}
  if glob.has_magic(value):
    matches = map(pathlib.Path, sorted(glob.glob(value, recursive=True)))
    if found := [p for p in matches if p.is_file()]:
      return {'': _grouped(found)}
  raise ValueError(
    f'{setting}: got {value!r}, and no such file; expected a file, a folder or '
    f'a pattern such as DIR/*.jsonl{_nearest(path, setting)}'
  )


def _nearest(path: pathlib.Path, setting: str) -> str:
  """Returns what to type instead of a path that is not there."""
  if _HUB.fullmatch(str(path)) and not path.parent.exists():
    return (
      '; if it is the name of a set of the Hugging Face hub, write '
      f'--config.data.{setting}=hf://{path}'
    )
  try:
    names = sorted(os.listdir(path.parent))
  except OSError:
    return f'; there is no folder {path.parent}'
  near = difflib.get_close_matches(path.name, names, n=1)
  if near:
    return f'; write --config.data.{setting}={path.parent / near[0]}'
  return f'; {path.parent} has {len(names)} others'


def _folder(folder: pathlib.Path, setting: str) -> ByParts:
  if (folder / _DICT).exists() or (folder / _STATE).exists():
    return _saved(folder)
  visible = [p for p in sorted(folder.iterdir()) if p.name[0] not in '._']
  found = [
    p for p in visible
    if p.is_file() and row_files.ending(p) in row_files.ENDINGS
    and p.name not in _ABOUT
  ]  # fmt: skip
  if found:
    return _by_names(found, folder, setting)
  folders = [p for p in visible if p.is_dir()]
  splits = {split: p for p in folders if (split := _split(p.name))}
  if splits and len(splits) == len(folders):
    return {
      split: [s for part in _folder(p, setting).values() for s in part]
      for split, p in splits.items()
    }
  if len(folders) == 1:
    return _folder(folders[0], setting)
  names = [p.name for p in folders or visible]
  right = folder / names[0] if folders else 'FOLDER'
  raise ValueError(
    f'{setting}: got {folder}, which has no file of rows but '
    f'{names[:8] or "nothing"}; expected files that end in '
    f'{", ".join(row_files.ENDINGS)}; name the folder that has some: '
    f'--config.data.{setting}={right}'
  )


def _by_names(found, folder: pathlib.Path, setting: str) -> ByParts:
  """Groups files by the splits in their names, if all have one."""
  by_split = collections.defaultdict(list)
  for path in found:
    by_split[_split(_stem(path))].append(path)
  if set(by_split) == {''} or len(by_split) == 1:
    return {'': _grouped(found)}
  if '' in by_split:
    other = by_split.pop('')[0].name
    [right, *_] = next(iter(by_split.values()))
    raise ValueError(
      f'{setting}: got {folder}, which has {other} beside files of '
      f'{sorted(by_split)}; expected all files, or none, to name a split; name '
      f'those that are meant: --config.data.{setting}={right}'
    )
  return {split: _grouped(paths) for split, paths in by_split.items()}


def _split(name: str) -> str:
  """Returns the split that a file's or a folder's name tells, '' if none.

  >>> _split('gsm8k_train'), _split('validation-00000-of-00001'), _split('a')
  ('train', 'dev', '')
  """
  words = re.split('[^a-z]+', name.lower())
  return next((_SPLITS[word] for word in words if word in _SPLITS), '')


def _grouped(paths: Iterable[pathlib.Path]) -> list[FileSet]:
  """Makes sets of files: the parts of one are a set."""
  groups = collections.defaultdict(list)
  for path in paths:
    groups[path.parent, _PART.sub('', _stem(path))].append(path)
  return [FileSet(name, tuple(part)) for (_, name), part in groups.items()]


def _saved(folder: pathlib.Path) -> ByParts:
  """Returns the files of a folder that `datasets` saved with save_to_disk."""
  if not (folder / _DICT).exists():
    return {'': [FileSet(folder.absolute().name, _arrow_files(folder))]}
  names = _about(folder / _DICT).get('splits')
  if not isinstance(names, list) or not all(map(_is_name, names)) or not names:
    raise ValueError(
      f'{folder / _DICT}: got splits={names!r}; expected names of folders'
    )
  by_split = collections.defaultdict(list)
  for name in names:
    files = _arrow_files(folder / name)
    file_set = FileSet(f'{folder.absolute().name}-{name}', files)
    by_split[_split(name) or name].append(file_set)
  return dict(by_split)


def _arrow_files(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
  parts = _about(folder / _STATE).get('_data_files')
  names = [
    part.get('filename') if isinstance(part, dict) else None
    for part in (parts if isinstance(parts, list) else ())
  ]
  if not names or not all(map(_is_name, names)):
    raise ValueError(
      f'{folder / _STATE}: got _data_files={parts!r}; expected names of files '
      'of its folder; save the set again with save_to_disk'
    )
  return tuple(folder / name for name in names)


def _about(path: pathlib.Path) -> dict:
  try:
    return strict_json.read(path)
  except FileNotFoundError:
    raise ValueError(
      f'{path}: got no such file; expected the folder of `save_to_disk` whole; '
      'copy it again'
    ) from None


def _is_name(name) -> bool:
  is_plain = isinstance(name, str) and pathlib.Path(name).name == name
  return is_plain and name not in ('', '..')


def by_split(paths, data_dir) -> dict[str, list[FileSet]]:
  """Returns the files of splits, those first that keep a copy of a question.

  Args:
    paths: as of `sources.files`.
    data_dir: where sets of the hub are kept; None: they are not looked for.

  Raises:
    ValueError: no path, or one that names no files.
  """
  order = ('test', 'dev', 'train')
  if not hasattr(paths, 'items'):  # a mapping or a ConfigDict
    paths = {'train': paths}
  named = {split: value for split, value in dict(paths).items() if value}
  for split in named:
    lookup.check_name('paths', split, order)
  if not named:
    raise ValueError(
      f'paths: got {dict(paths)}; expected a file for train, or for test; '
      'write --config.data.paths.train=FILE'
    )
  sets = {}
  for split, value in named.items():
    setting = f'paths.{split}'
    is_text = isinstance(value, str)
    if data_dir is not None and is_text and value.startswith(hub.PREFIX):
      value = hub.folder(value, data_dir, setting)
    own = find(value, setting)
    if split not in own and len(own) > 1:
      raise ValueError(
        f'{setting}: got {value!r} with the splits {sorted(own)}; expected '
        f'{split!r} among them; write --config.data.{setting}=FILE'
      )
    sets[split] = own[split] if split in own else [*own.values()][0]
    if split == 'train':
      others = {s: own[s] for s in order if s in own and s not in named}
      sets |= others
  return {split: sets[split] for split in order if split in sets}
