"""Writes `hf_sums/`, as Hugging Face's `datasets` saves a DatasetDict.

Run in an environment of its own (the tests do not need it):

  pip install datasets==5.2.0
  python tests/goldens/make_hf_sums.py
"""

import pathlib

import datasets

HERE = pathlib.Path(__file__).parent


def rows(*numbers):
  return [
    {'question': f'What is {n} + 1?', 'answer': n + 1, 'id': i}
    for i, n in enumerate(numbers)
  ]


datasets.DatasetDict(
  train=datasets.Dataset.from_list(rows(0, 1, 2)),
  test=datasets.Dataset.from_list(rows(9)),
).save_to_disk(str(HERE / 'hf_sums'))
