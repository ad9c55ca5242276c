"""Readers of files name another format, and say what makes theirs of it."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import pytest

from critic_jax import strict_json
from critic_jax.data import problems, row_files, solutions, store

ROW = {'question': 'What is 3 + 4?', 'answer': '7'}
LINES = (json.dumps(ROW) + '\n').encode() * 3
SOLUTION = {
  'id': 'a-0', 'generator': 'a', 'problem': 'What is 3 + 4?',
  'steps': ['3 + 4 = 7'], 'final_answer_correct': True, 'label': -1,
}  # fmt: skip


def archive(kind):
  """Packs the rows into an archive."""
  buffer = io.BytesIO()
  if kind == 'zip':
    with zipfile.ZipFile(buffer, 'w') as f:
      f.writestr('a.jsonl', LINES)
  else:
    with tarfile.open(fileobj=buffer, mode=kind) as f:
      f.addfile(tarfile.TarInfo('a.jsonl'))
  return buffer.getvalue()


# The bytes of a file and its name; the format, and what is to be typed.
OTHERS = {
  'bzip2': (bz2.compress(LINES), 'a.jsonl.bz2', 'bzip2', 'bunzip2'),
  'xz': (lzma.compress(LINES), 'a.jsonl.xz', 'xz', 'unxz'),
  'zstd': (b'\x28\xb5\x2f\xfd\0', 'a.jsonl.zst', 'Zstandard', 'unzstd'),
  'zip': (archive('zip'), 'a.zip', 'zip', 'unzip'),
  'tar': (archive('w'), 'a.tar', 'tar', 'tar -xf'),
  'tar.gz': (archive('w:gz'), 'a.tgz', 'tar', 'tar -xf'),
  'pickle': (b'\x80\x04N.', 'a.pkl', 'pickle', 'nothing is unpickled'),
  'utf-16': (LINES.decode().encode('utf-16'), 'a.jsonl', 'UTF-16', 'iconv'),
  'lfs': (b'version https://git-lfs.github.com', 'a.jsonl', 'git', 'lfs pull'),
  'html': (b'<!DOCTYPE html><html>', 'a.jsonl', 'web', 'download'),
}
# What is read as rows, and not as a config or a tokenizer.
TABLES = {
  'parquet': (b'PAR1\x15\x04PAR1', 'a.parquet', 'Parquet', 'read_parquet'),
  'arrow': (b'ARROW1\0\0', 'a.arrow', 'Arrow', 'read_feather'),
}
READERS = (problems.read, solutions.read)


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize('name', OTHERS)
def test_another_format_is_named_with_what_to_type(tmp_path, name, read):
  content, file, kind, advice = OTHERS[name]
  path = tmp_path / file
  path.write_bytes(content)
  for bad_rows in ('error', 'skip'):
    with pytest.raises(ValueError, match=f'got .*{kind}.*; .*{advice}'):
      read(path, bad_rows=bad_rows)


@pytest.mark.parametrize('name', sorted({*OTHERS, *TABLES} - {'tar.gz'}))
def test_readers_of_json_name_it_too(tmp_path, name):
  content, file, kind, advice = (OTHERS | TABLES)[name]
  (tmp_path / file).write_bytes(content)
  with pytest.raises(ValueError, match=f'got .*{kind}.*object; .*{advice}'):
    strict_json.read(tmp_path / file)


@pytest.mark.parametrize('is_array', [False, True])
def test_gzip_is_read(tmp_path, is_array):
  content = json.dumps([ROW] * 3).encode() if is_array else LINES
  (tmp_path / 'a.jsonl').write_bytes(content)
  (tmp_path / 'a.jsonl.gz').write_bytes(gzip.compress(content))
  plain = problems.read(tmp_path / 'a.jsonl')
  assert problems.read(tmp_path / 'a.jsonl.gz') == plain
  assert [problem.id for problem in plain] == ['a-0', 'a-1', 'a-2']
  # Also where no ending says so.
  (tmp_path / 'b').write_bytes(gzip.compress(content))
  assert len(problems.read(tmp_path / 'b')) == 3


def test_solutions_and_prepared_sets_may_be_packed(tmp_path):
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(json.dumps(SOLUTION).encode()))
  [solution] = solutions.read(path)
  assert solution.parsed['part'] == 'a'
  path.write_bytes(gzip.compress(LINES))
  assert [p.id for p in store.prepare(path, tmp_path / 'sets')][0] == 'a-0'


@pytest.mark.parametrize('size', [3, 12, -4])
def test_half_a_gzip_file_is_an_error(tmp_path, size):
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(LINES)[:size])
  with pytest.raises(ValueError, match='got a broken gzip file .*copy it'):
    problems.read(path, bad_rows='skip')


def test_what_a_gzip_file_unpacks_to_is_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(row_files, 'MAX_UNPACKED', 10**6)
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress(LINES + b'\n' * 10**7))
  with pytest.raises(ValueError, match='got over 1000000 bytes'):
    problems.read(path)
