"""Sets of the Hugging Face hub: fetched once by `datasets`, then a folder.

'hf://OWNER/NAME' is a set, 'hf://OWNER/NAME/SUBSET' one of its subsets. The
folder is that of `save_to_disk`, which file_sets.py reads without a network;
no code of the hub is run.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import tempfile

PREFIX = 'hf://'
_NAME = re.compile(
  r'hf://(?:datasets/)?([\w-][\w.-]*/[\w-][\w.-]*)(?:/([\w-][\w.-]*))?'
)


def folder(name: str, data_dir: str | os.PathLike, setting: str) -> str:
  """Returns the folder of a set of the hub; fetches it if it is not there.

  Args:
    name: 'hf://OWNER/NAME' or 'hf://OWNER/NAME/SUBSET'.
    data_dir: the folder of prepared sets.
    setting: the name of the setting, for errors.

  Raises:
    ValueError: another form, or it cannot be fetched.
  """
  match = _NAME.fullmatch(name)
  if not match or not str(data_dir):
    raise ValueError(
      f'{setting}: got {name!r} and data_dir={str(data_dir)!r}; expected '
      'hf://OWNER/NAME or hf://OWNER/NAME/SUBSET, and a folder to keep it in; '
      'write --config.data.data_dir=data_dir'
    )
  repository, subset = match.groups()
  short = repository.partition('/')[2]
  target = pathlib.Path(
    data_dir, 'hub', repository.replace('/', '--'), subset or short
  )
  if target.exists():
    return str(target)
  advice = (
    f'where there is a network, run `hf download {repository} --repo-type '
    f'dataset --local-dir {short}`, copy the folder and write '
    f'--config.data.{setting}={short}{f"/{subset}" if subset else ""}'
  )
  try:
    datasets = importlib.import_module('datasets')
  except ImportError:
    raise ValueError(
      f'{setting}: got {name!r} without the package datasets; expected it; '
      f"pip install -e '.[hf]', or {advice}"
    ) from None
  target.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    dir=target.parent, prefix='.incomplete-'
  ) as temporary:
    complete = pathlib.Path(temporary, 'complete')
    try:
      datasets.load_dataset(repository, subset).save_to_disk(str(complete))
    except Exception as error:  # datasets raises any about networks and files
      lines = str(error).strip().splitlines() or ['']
      raise ValueError(
        f'{setting}: got {type(error).__name__} for {name!r} ({lines[0]}); '
        f'expected a set that the hub has; {advice}'
      ) from error
    try:
      complete.rename(target)
    except OSError:
      if not target.exists():  # else another process was faster
        raise
  return str(target)
