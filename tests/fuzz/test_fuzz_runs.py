"""Run folders of anybody: read as they are or refused; pages do nothing."""

import contextlib
import functools
import gzip
import html.parser
import io
import json
import re

import numpy as np
import pytest
import synthetic_run
from fuzzing import (
  altered,
  at_most,
  broken,
  deep,
  folder,
  numbers,
  refused,
  texts,
  values,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from critic_jax import strict_json
from critic_jax.inspection import reading, trees
from critic_jax.report import html_report, page_data, plots
from critic_jax.text import pieces
from critic_jax.types import Problem
from critic_jax.workdir import record_rows, run_dir

few_examples = settings(
  max_examples=max(4, settings.default.max_examples // 20),
  phases=(Phase.explicit, Phase.generate),  # to shrink them takes minutes
)
METRICS = [
  {'step': 0, 'phase': 'sft', 'time': 1.7e9, 'loss/nll': 2.0},
  {'step': 1, 'phase': 'rl', 'time': 1.7e9, 'critique/judge': 0.5,
   'loss/nll': 'nan', 'time/step_s': 2.0, 'time/solve_s': 1.0},
  {'step': 2, 'phase': 'rl', 'time': 1.7e9, 'critique/judge': 0.1},
]  # fmt: skip
RESULTS = {
  'columns': {
    'before': {
      'accuracy': {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 9},
      'selection/pass@8': {'value': 0.5, 'low': 0.4, 'high': 0.6, 'n': 9},
      'selection/pass@2': {'value': 'nan', 'low': 0.4, 'high': 0.6, 'n': 9},
    },
    'difference': {
      'accuracy': {'value': 0.1, 'low': -0.4, 'high': 0.6, 'n': 9}
    },
  }
}
CONFIG = {
  'seed': 0,
  'order': ['sft', 'rl'],
  'models': {
    'solver': {'source': '', 'tokenizer': {'module': 'none', 'name': 'x'}}
  },
  'phases': {
    'rl': {
      'steps': 2,
      'limit_window': 1,
      'limits': {'critique/judge': {'low': 0.2, 'high': 1.0}},
    }
  },
}


def rows(tokens=False):
  """Returns the rows of a file of records."""
  with folder({}) as path:
    run_dir.write_records(path / 'r.gz', synthetic_run.trees(1), tokens=tokens)
    content = gzip.decompress((path / 'r.gz').read_bytes())
  return [json.loads(line) for line in content.splitlines()]


ROWS = rows(tokens=True)


def packed(rows):
  return gzip.compress(
    b''.join(json.dumps(r).encode() + b'\n' for r in rows), 1
  )


# Two halves of a pair beside each other come back as the one character.
whole = texts().filter(
  lambda text: not re.search('[\ud800-\udbff][\udc00-\udfff]', text)
)


@given(whole, whole, whole, st.floats(width=32))
def test_records_come_back(text, name, parsed, score):
  problem = Problem(name, text, name, parsed)
  root = synthetic_run.message(problem, name, text=text)
  leaf = synthetic_run.message(
    problem, 'refine', root, 3, text,
    parsed={'answer': parsed, name: text}, scores={name: score},
  )  # fmt: skip
  with folder({}) as path:
    run_dir.write_records(path / 'r.gz', [leaf], tokens=True)
    root_read, leaf_read = run_dir.read_records(path / 'r.gz')
  assert leaf_read.text == text and leaf_read.problem == problem
  assert leaf_read.id == leaf.id
  assert leaf_read.parent is root_read and leaf_read.parsed == leaf.parsed
  np.testing.assert_equal(dict(leaf_read.scores), dict(leaf.scores))
  np.testing.assert_array_equal(leaf_read.logprobs, leaf.logprobs)


@given(altered(ROWS))
def test_any_rows_of_records(rows):
  with folder(
    {'r.gz': packed(rows if isinstance(rows, list) else [rows])}
  ) as p:
    with refused(), at_most(2**24):
      records = run_dir.read_records(p / 'r.gz')
      run_dir.write_records(p / 'again.gz', records)
      trees.confusion(records)
      _check_page_data(records)


@given(broken(packed(ROWS)))
def test_broken_files_of_records(content):
  with folder({'r.gz': content}) as path, refused(), at_most(2**24):
    run_dir.read_records(path / 'r.gz')


def test_a_small_file_that_unpacks_to_much(monkeypatch):
  monkeypatch.setattr(run_dir, 'MAX_BYTES', 10**6)
  for content in (b' ' * 10**8, b'{}\n' * 10**7, b'\n' * 10**7):
    with folder({'r.gz': gzip.compress(content)}) as path, at_most(2**24):
      with pytest.raises(ValueError, match='r.gz: got'):
        run_dir.read_records(path / 'r.gz')


def test_numbers_of_tokens_take_no_memory():
  changed_rows = [
    row | {'num_tokens': 10**9, 'num_prompt_tokens': 10**9} for row in rows()
  ]
  with folder({'r.gz': packed(changed_rows)}) as path, at_most(2**22):
    records = run_dir.read_records(path / 'r.gz')
    assert len(records[0].tokens) == 10**9
    _check_page_data(records)


def test_a_chain_without_end_is_refused():
  chain = [ROWS[0]] + [
    ROWS[2] | {'parent_row': i, 'stage': 'x'} for i in range(9999)
  ]
  with folder({'r.gz': packed(chain)}) as path:
    with pytest.raises(ValueError, match='levels deep'):
      run_dir.read_records(path / 'r.gz')


def _check_page_data(records):
  """Asserts that the page's data of records is JSON, and no markup."""
  file = page_data.File(
    0, 'rl', 1, trees.confusion(records), page_data._by_problem(records),
    trees.responses(records), lambda: [],
  )  # fmt: skip
  _, text = page_data.to_json(['run'], [file])
  assert not set(text) & set('<>&\u2028')
  text.encode()
  assert json.loads(text)['runs'] == ['run']


@given(altered(METRICS))
def test_any_metrics(metrics):
  lines = metrics if isinstance(metrics, list) else [metrics]
  content = b''.join(json.dumps(line).encode() + b'\n' for line in lines)
  with folder({'metrics.jsonl': content, 'config.json': b'{}'}) as path:
    with refused():
      read = list(run_dir.read_metrics(path / 'metrics.jsonl'))
      assert len(read) == len(lines)
      columns = reading.metrics(reading.load(path))
      reading.summary(columns)


@given(broken(b''.join(json.dumps(m).encode() + b'\n' for m in METRICS)))
def test_broken_metrics(content):
  with folder({'metrics.jsonl': content}) as path, refused():
    list(run_dir.read_metrics(path / 'metrics.jsonl'))
    run = run_dir.RunDir(path)
    run.rewind(1)
    assert all(
      m['step'] < 1 for m in run_dir.read_metrics(path / 'metrics.jsonl')
    )


@given(
  texts('..', '/', '.', 'rl', max_size=5), texts('..', '/', 'x', max_size=5)
)
def test_records_stay_in_the_folder_of_the_run(name, where):
  with folder({'other/x': b''}) as path:
    run = run_dir.RunDir(path / 'run')
    for write in (
      lambda: run.write_records(name, [], where),
      lambda: run.write_results(f'{where}/{name}', {}),
    ):
      try:
        assert write().resolve().is_relative_to((path / 'run').resolve())
      except (ValueError, OSError):
        pass  # a name that no file can have
    assert sorted(p.name for p in path.iterdir()) in (
      ['other'],
      ['other', 'run'],
    )
    assert [p.name for p in (path / 'other').iterdir()] == ['x']


@given(altered(CONFIG), altered(METRICS))
def test_any_config_of_a_run(config, lines):
  lines = lines if isinstance(lines, list) else []
  files = {
    'config.json': json.dumps(config).encode(),
    'metrics.jsonl': b''.join(json.dumps(m).encode() + b'\n' for m in lines),
  }
  with folder(files) as path, refused():
    run = reading.load(path)
    reading.warnings(run)
    assert pieces.tokenizers(run.config) == {}


@given(
  texts('tokenizer', 'prepare', 'files', 'shuffled', 'solver_lesson'),
  st.sampled_from(('arithmetic', 'store', 'sources', 'problems')),
  st.dictionaries(
    st.sampled_from(('path', 'data_dir', 'num_problems', 'vocab_size', 'seed')),
    numbers().map(lambda x: x if x == x else 0) | st.just('/tmp/x'),
  ),
)
def test_a_config_calls_no_function_but_that_of_a_tokenizer(
  name, module, extra_keys
):
  section = {'module': module, 'name': name, **extra_keys}
  if name != 'tokenizer':
    assert pieces._load(json.dumps(section)) is None


@given(st.binary(max_size=30) | values().map(lambda v: json.dumps(v).encode()))
def test_strict_json(content):
  with folder({'a.json': content}) as path, refused():
    assert isinstance(strict_json.read(path / 'a.json'), dict)


@pytest.mark.parametrize('levels', [99, 101, 900, 10**5])
def test_json_is_of_bounded_depth(levels):
  if levels < strict_json.MAX_DEPTH:
    assert strict_json.loads(deep(levels))
  else:
    with pytest.raises(ValueError, match='levels'):
      strict_json.loads(deep(levels))


class Page(html.parser.HTMLParser):
  """Counts tags and attributes, but for what is repeated in a table."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.urls = set(), set(), []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes |= {(tag, name) for name, _ in attrs}
    self.urls += [v for k, v in attrs if k in ('src', 'srcset', 'href')]


@functools.cache
def sound_page():
  with folder({}) as path:
    sound = synthetic_run.write(path / 'sound')
    return Page(html_report.write(sound).read_text(encoding='utf-8'))


def write_page(path, draw):
  """Writes a run's folder in which every file says something hostile."""
  synthetic_run.write(path)
  text = texts(max_size=4)
  for name in ('FAILED', 'command.txt', 'git.txt', 'env.txt', 'overrides.json'):
    (path / name).write_text(draw(text), errors='replace')
  name = re.sub('[\0/\ud800-\udfff]', '_', draw(text))[:30] or 'x'
  results = json.dumps(RESULTS)
  for word in ('before', 'accuracy'):
    results = results.replace(f'"{word}"', json.dumps(draw(text)))
  (path / 'results' / f'{name}.json').write_text(results)
  config = CONFIG | {draw(text): draw(values())}
  (path / 'config.json').write_text(json.dumps(config))
  with (path / 'metrics.jsonl').open('a') as f:
    for step in (5, 6):
      row = {'step': step, 'time': draw(numbers()), 'phase': draw(text)}
      row |= {draw(text): draw(numbers()), 'loss/nll': draw(numbers())}
      f.write(json.dumps(row) + '\n')
  problem = Problem(draw(text), draw(text), draw(text), draw(text))
  solution = synthetic_run.message(
    problem, 'solve', text=draw(text),
    parsed={'answer': draw(values()), 'correct': False, 'part': draw(values())},
    scores={draw(text): draw(st.floats())},
  )  # fmt: skip
  critique = synthetic_run.message(
    problem, 'critique', solution, 0, draw(text), finish=draw(text),
    parsed={'verdict': draw(text), 'status': 'ok', 'conclusion': draw(text)},
  )  # fmt: skip
  run_dir.write_records(path / 'records' / 'rl' / '000009.jsonl.gz', [critique])


@few_examples
@given(st.data())
def test_a_page_of_hostile_records_is_no_program(data):
  with folder({}) as path, pytest.MonkeyPatch.context() as patch:
    plain_page = sound_page()
    if data.draw(st.integers(0, 19)):  # drawing takes a second
      patch.setattr(plots, 'write', lambda columns, path: [])
    write_page(path / 'hostile', data.draw)
    with refused():
      text = html_report.write(path / 'hostile').read_text(encoding='utf-8')
      hostile_page = Page(text)
      allowance = {'pre', 'ul', 'li', 'h2', 'h3', 'b', 'details', 'summary'}
      assert hostile_page.tags - plain_page.tags <= allowance
      allowance = {('ul', 'class'), ('details', 'class'), ('div', 'class')}
      assert hostile_page.attributes - plain_page.attributes <= allowance
      assert all(
        u.startswith(('data:image/png;', '#')) for u in hostile_page.urls
      )
      assert text.count('<script') == 2 == text.count('</script>')


@few_examples
@given(st.data())
def test_the_report_s_command_prints_any_name(data):
  out = io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True)
  with folder({}) as path, contextlib.redirect_stdout(out):
    write_page(path / 'hostile', data.draw)
    with refused(), pytest.MonkeyPatch.context() as patch:
      patch.setattr(plots, 'write', lambda columns, path: [])
      html_report.main([str(path / 'hostile')])
      assert b'\x1b' not in out.buffer.getvalue()


def test_rows_are_checked():
  for change, message in (
    ({'text': 5}, 'text'), ({'index': 'a'}, 'index'),
    ({'parsed': []}, 'parsed'),
    ({'tokens': [2**40] * 2}, 'tokens'), ({'num_tokens': -1}, 'tokens'),
    ({'parsed': {'step': 'a'}}, 'step'), ({'stage': 'critique'}, 'parent'),
    ({'problem': {'id': 1}}, 'problem'), ({'scores': {'a': []}}, 'a'),
  ):  # fmt: skip
    with pytest.raises(ValueError, match=message):
      record_rows.from_row(ROWS[0] | change, None)
