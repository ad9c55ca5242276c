"""The report's page in a real browser: Chromium, by its DevTools protocol.

Skipped where there is none: its program is looked for in $CHROMIUM, then in the
PATH (on Debian: apt-get install chromium).
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import synthetic_run

from critic_jax.report import html_report
from critic_jax.tasks import arithmetic_tokenizer
from critic_jax.types import Problem
from critic_jax.workdir import run_dir

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = os.environ.get('CHROMIUM') or next(
  filter(None, map(shutil.which, NAMES)), None
)
pytestmark = pytest.mark.skipif(
  CHROMIUM is None,
  reason=f'no browser: none of {", ".join(NAMES)} is in the PATH, and the '
  'variable CHROMIUM is not set',
)
# Chromium reads commands from file descriptor 3 and answers on 4.
LAUNCHER = (
  'import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); '
  'os.execv(sys.argv[3], sys.argv[3:])'
)
OPTIONS = (
  '--headless --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe'
  ' --disable-background-networking --disable-dev-shm-usage about:blank'
)
PATIENCE_S = 60


class Browser:
  """A headless Chromium with one page; `requests` are the URLs it asked for."""

  def __init__(self, profile):
    inner_read, self.output = _pipe()
    self.input, inner_write = _pipe()
    ends = inner_read, inner_write
    launch = [sys.executable, '-c', LAUNCHER, *map(str, ends)]
    self.process = subprocess.Popen(
      [*launch, CHROMIUM, f'--user-data-dir={profile}', *OPTIONS.split()],
      pass_fds=ends,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    for end in ends:
      os.close(end)
    self.number, self.session, self.unread = 0, None, b''
    self.requests, self.events = [], []
    pages = self.call('Target.getTargets')['targetInfos']
    page = next(p['targetId'] for p in pages if p['type'] == 'page')
    attached = self.call('Target.attachToTarget', targetId=page, flatten=True)
    self.session = attached['sessionId']
    for domain in ('Page', 'Network', 'Runtime', 'Log'):
      self.call(f'{domain}.enable')

  def close(self):
    with contextlib.suppress(OSError, EOFError):
      self.session = None
      self.call('Browser.close')
    try:
      self.process.wait(10)
    except subprocess.TimeoutExpired:
      self.process.kill()

  def call(self, method, **params):
    """Returns the result of a command; `events` collects other messages."""
    self.number += 1
    command = {'id': self.number, 'method': method, 'params': params}
    command |= {'sessionId': self.session} if self.session else {}
    os.write(self.output, json.dumps(command).encode() + b'\0')
    while (message := self.read()).get('id') != self.number:
      pass
    assert 'error' not in message, message
    return message['result']

  def read(self):
    """Reads the next message."""
    while b'\0' not in self.unread:
      ready = select.select([self.input], [], [], PATIENCE_S)[0]
      more = os.read(self.input, 2**20) if ready else b''
      if not more:
        raise EOFError('the browser is gone, or hangs')
      self.unread += more
    text, _, self.unread = self.unread.partition(b'\0')
    message = json.loads(text)
    if 'method' in message:
      self.events.append(message)
    if message.get('method') == 'Network.requestWillBeSent':
      self.requests.append(message['params']['request']['url'])
    return message

  def happened(self, method):
    return [e['params'] for e in self.events if e['method'] == method]

  def open(self, path, fragment=''):
    """Loads a page anew; returns when it has, and nothing was wrong."""
    page = path.resolve().as_uri() + (f'#{fragment}' if fragment else '')
    for url in ('about:blank', page):
      self.events, self.requests = [], []
      self.call('Page.navigate', url=url)
      while not self.happened('Page.loadEventFired'):
        self.read()
    assert not self.happened('Runtime.exceptionThrown')
    assert not self.happened('Log.entryAdded')

  def run(self, script):
    """Returns the value of a script, which may be a promise."""
    result = self.call(
      'Runtime.evaluate',
      expression=script,
      returnByValue=True,
      awaitPromise=True,
    )
    assert 'exceptionDetails' not in result, result
    return result['result'].get('value')

  def texts(self, selector):
    """Returns the visible texts of the elements."""
    return self.run(
      f'[...document.querySelectorAll({json.dumps(selector)})]'
      '.map((node) => node.innerText.trim())'
    )

  def wait_for(self, script):
    """Returns when a script's value is true."""
    end = time.monotonic() + PATIENCE_S
    while not self.run(script):
      assert time.monotonic() < end, script
      time.sleep(0.02)

  def press(self, key, code=0, text=''):
    for kind in ('keyDown', 'keyUp'):
      fields = {'key': key, 'windowsVirtualKeyCode': code}
      fields |= {'text': text} if text and kind == 'keyDown' else {}
      self.call('Input.dispatchKeyEvent', type=kind, **fields)

  def width(self, pixels):
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=pixels,
      height=900,
      deviceScaleFactor=1,
      mobile=False,
    )


def _pipe():
  """Opens both ends, numbered above 9: the child needs 3 and 4."""
  ends = os.pipe()
  high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends]
  for fd in ends:
    os.close(fd)
  return high


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  browser = Browser(tmp_path_factory.mktemp('profile'))
  yield browser
  browser.close()


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'one'
  return html_report.write(synthetic_run.write(path))


def write_records(path, records, **fields):
  """Writes the page of a run that saved these records at one step."""
  run = run_dir.open_run(path, fields.pop('config', {}))
  run.write_records(0, records, 'records/rl', **fields)
  return html_report.write(path)


def solution_and_refinement(before, after, question='q', correct=(False, True)):
  problem = Problem('p-1', question, '7')
  message = synthetic_run.message
  parsed = [
    {'answer': '7', 'correct': c, 'grade': 'right' if c else 'wrong'}
    for c in correct
  ]
  solution = message(problem, 'solve', None, 0, before, parsed=parsed[0])
  verdict = {'verdict': 'incorrect', 'status': 'ok', 'conclusion': 'Look.'}
  critique = message(problem, 'critique', solution, 0, 'Look.', parsed=verdict)
  refinement = message(problem, 'refine', critique, 0, after, parsed=parsed[1])
  return [solution, critique, refinement]


def test_the_first_tree_is_open(browser, page):
  browser.open(page)
  (status,) = browser.texts('#status')
  assert status == '12 of 12 trees, 104 records'
  (body,) = browser.texts('.tree[open] .body')
  body = ' '.join(body.split())
  parts = (
    '0 + 1?',
    'Reference answer: seven',
    'Solution 1 right answer seven',
    'I count.',
    'Critique 1 says correct, true',
    'Look at line 2. Verdict: correct',
    'Critique 2 says correct, true',
    'Solution 2 wrong',
    'So it is six.first wrong line',
  )
  place = 0
  for part in parts:
    place = body.index(part, place)


def test_trees_open_by_the_keyboard(browser, page):
  browser.open(page, 'where=rl/2')
  assert len(browser.texts('.tree')) == 4
  assert len(browser.texts('.tree .body')) == 1  # the others are not made yet
  browser.run("document.querySelectorAll('.tree > summary')[1].focus()")
  browser.press('Enter', 13, '\r')
  browser.wait_for("document.querySelectorAll('.tree .body').length === 2")
  browser.run(
    "document.querySelectorAll('.tree[open] .below > summary')[3].focus()"
  )
  assert 'Refinement' not in browser.run('document.activeElement.innerText')
  browser.press('Enter', 13, '\r')
  browser.wait_for(
    "document.activeElement.parentNode.innerText.includes('Refinement 2')"
  )


def test_typing_searches(browser, page):
  browser.open(page)
  browser.press('/', 191, '/')
  assert browser.run('document.activeElement.name') == 'q'
  browser.call('Input.insertText', text='LINE 2. verdict: INC')
  browser.wait_for(
    "document.getElementById('status').innerText.startsWith('8 of')"
  )
  (status,) = browser.texts('#status')
  assert status == '8 of 12 trees, 16 matching records'
  text = 'Line 2. Verdict: inc'.lower()
  assert {m.lower() for m in browser.texts('mark')} == {text}
  assert browser.texts('.hit .what')[0] == 'Critique 2'
  # The view can be linked to: the address alone brings it back.
  fragment = browser.run('location.hash')[1:]
  assert 'q=LINE+2' in fragment
  browser.open(page, fragment)
  assert browser.texts('#status') == [status]
  browser.run("document.querySelector('[type=reset]').click()")
  browser.wait_for(
    "document.getElementById('status').innerText.startsWith('12 of')"
  )


@pytest.mark.parametrize(
  'fragment, status',
  [
    # A problem has a right and a wrong solution, two critiques of each; before,
    # both critiques accept, in the steps the second rejects and is refined
    # twice, the first time rightly. 3 files of 4 problems.
    ('where=eval/refcritic/before', '4 of 12 trees, 24 records'),
    ('where=rl', '8 of 12 trees, 80 records'),
    ('where=rl/2', '4 of 12 trees, 40 records'),
    ('stage=solve', '12 of 12 trees, 24 matching records'),
    ('stage=critique&verdict=incorrect', '8 of 12 trees, 16 matching records'),
    ('stage=critique&truth=good', '12 of 12 trees, 24 matching records'),
    ('stage=critique&truth=bad&solution=right', '8 of 12 trees, 8 matching'),
    ('stage=refine', '8 of 12 trees, 32 matching records'),
    ('stage=refine&refined=wrong', '8 of 12 trees, 16 matching records'),
    ('stage=critique&refined=right', '8 of 12 trees, 16 matching records'),
    ('stage=critique&refined=wrong', '0 of 12 trees, 0 matching records'),
    ('stage=solve&verdict=none', '0 of 12 trees, 0 matching records'),
    ('q=sum-3', '3 of 12 trees, 6 matching records'),
    ('q=0+%2B+1', '3 of 12 trees, 6 matching records'),
  ],
)
def test_filters(browser, page, fragment, status):
  browser.open(page, fragment)
  got = browser.texts('#status')[0]
  assert got.startswith(status)


def test_order_by_reward(browser, tmp_path):
  message, records = synthetic_run.message, []
  for number, reward in enumerate((0.5, None, -1.0, 2.0)):
    problem = Problem(f'p-{number}', 'q', '1')
    solution = message(problem, 'solve', parsed={'correct': True})
    scores = {} if reward is None else {'reward': reward}
    parsed = {'verdict': 'correct', 'status': 'ok', 'conclusion': 'Yes.'}
    records.append(
      message(problem, 'critique', solution, parsed=parsed, scores=scores)
    )
  page = write_records(tmp_path, records)
  for sort, order in (('', '0123'), ('best', '3021'), ('worst', '2031')):
    browser.open(page, f'sort={sort}')
    assert browser.texts('.tree .id') == [f'p-{n}' for n in order], sort


def test_the_list_grows(browser, tmp_path):
  page = write_records(tmp_path, synthetic_run.trees(120))
  browser.open(page)
  assert len(browser.texts('.tree')) == 50
  assert browser.texts('#more') == ['Show 50 more of 70']
  browser.run("document.getElementById('more').click()")
  assert browser.texts('#more') == ['Show 20 more of 20']
  browser.run("document.getElementById('more').click()")
  assert len(browser.texts('.tree')) == 120
  assert browser.run("document.getElementById('more').hidden")


def test_a_refinement_is_shown_as_what_it_changed(browser, tmp_path):
  before = 'Step 1: 3 + 4 = 8\nStep 2: fine\nSo it is 8.'
  after = 'Step 1: 3 + 4 = 7\nStep 2: fine\nSo it is 7, I think.\nDone.'
  page = write_records(tmp_path, solution_and_refinement(before, after))
  browser.open(page, 'stage=refine')
  rows = browser.run(
    "[...document.querySelectorAll('.diff > div')]"
    '.map((row) => [row.className, row.textContent])'
  )
  assert rows == [
    ['minus', 'Step 1: 3 + 4 = 8'],
    ['plus', 'Step 1: 3 + 4 = 7'],
    ['', 'Step 2: fine'],
    ['minus', 'So it is 8.'],
    ['plus', 'So it is 7, I think.'],
    ['plus', 'Done.'],
  ]
  assert ''.join(browser.texts('.diff del')) == '88'
  assert ''.join(browser.texts('.diff ins')) == '77,Ithink.Done'
  # Colour alone would not tell them apart.
  style = 'getComputedStyle(document.querySelector("%s")).textDecorationLine'
  assert browser.run(style % '.diff del') == 'line-through'
  assert browser.run(style % '.diff ins') == 'underline'


def test_a_solution_of_a_file_is_shown_by_its_steps(browser, tmp_path):
  message, problem = synthetic_run.message, Problem('p-1', 'q', '')
  text = '2 + 3 = 6.\n\nSo\nit is 6.'
  parsed = {'steps': text.split('\n\n'), 'first_error': 1}
  solution = message(problem, 'solve', text=text, parsed=parsed, num_tokens=0)
  parsed = {'verdict': 'incorrect', 'status': 'ok', 'step': 0}
  critique = message(problem, 'critique', solution, parsed=parsed)
  after = message(problem, 'refine', critique, text=f'{text}\nDone.')
  records = [solution, critique, after]
  browser.open(write_records(tmp_path, records), 'stage=refine')
  assert browser.texts('ol.lines li') == [
    '2 + 3 = 6.', 'So\nit is 6.first wrong step'
  ]  # fmt: skip
  assert browser.texts('.diff .plus') == ['Done.']
  assert browser.texts('.diff .minus') == []
  meta = browser.texts('.meta')
  assert 'token' not in meta[0] and 'names step 1, not true' in meta[1]
  assert not any('Reference' in note for note in browser.texts('.body .note'))
  browser.open(tmp_path / 'report.html', 'q=it+is+6&stage=solve')
  assert browser.texts('mark') == ['it is 6']


def test_lines_that_share_little_are_not_aligned(browser, tmp_path):
  before, after = 'I add 3 and 4, so 8.', 'Multiply: 3 times two, then 6.'
  page = write_records(tmp_path, solution_and_refinement(before, after))
  browser.open(page, 'stage=refine')
  whole = "[...document.querySelectorAll('.diff %s')].map((n) => n.innerText)"
  assert ''.join(browser.run(whole % 'del')) == before
  assert ''.join(browser.run(whole % 'ins')) == after


def test_a_refinement_that_changed_nothing(browser, tmp_path):
  page = write_records(tmp_path, solution_and_refinement('Same.', 'Same.'))
  browser.open(page, 'stage=refine')
  assert any('word for word' in note for note in browser.texts('.note'))
  assert browser.texts('.diff') == []


def longest_common(a, b):
  """Computes the length of the longest common subsequence, by definition."""
  row = [0] * (len(b) + 1)
  for x in a:
    diagonal = 0
    for j, y in enumerate(b, 1):
      diagonal, row[j] = (
        row[j],
        diagonal + 1 if x == y else max(row[j], row[j - 1]),
      )
  return row[-1]


def test_a_diff_is_whole_and_least(browser, page):
  browser.open(page)
  draw = random.Random(0)
  pairs = [
    ([draw.choice('abc') for _ in range(draw.randrange(9))] for _ in range(2))
    for _ in range(300)
  ]
  pairs = [list(pair) for pair in pairs]
  diffs = browser.run(f'{json.dumps(pairs)}.map(([a, b]) => diff(a, b))')
  for (a, b), ops in zip(pairs, diffs, strict=True):
    assert [op[1] for op in ops if op[0] != '+'] == a
    assert [op[1] for op in ops if op[0] != '-'] == b
    assert sum(op[0] == ' ' for op in ops) == longest_common(a, b)


PAYLOADS = (
  '<script>window.stolen = 1; fetch("http://127.0.0.1:9/a")</script>',
  '</script><script>window.stolen = 2</script>',
  '<!--<script>',
  ']]><img src="http://127.0.0.1:9/b" onerror="window.stolen = 3">',
  '"><svg onload="window.stolen = 4">',
  '{{ 7 * 7 }}\u2028\u2029\0\ud800&lt;b&gt;',
)


def test_what_models_wrote_does_nothing(browser, tmp_path):
  text = '\n'.join(PAYLOADS)
  records = solution_and_refinement(text, f'{text}.', question=text)
  records[1].parsed['conclusion'] = 'Look.'
  records[0].parsed['answer'] = text
  records[0].scores[PAYLOADS[0]] = 1.0
  page = write_records(tmp_path, records)
  browser.open(page, 'stage=refine')  # asserts that nothing was reported
  browser.run(
    "document.querySelectorAll('details').forEach((node) => node.open = true)"
  )
  browser.wait_for("document.querySelectorAll('.body pre').length >= 1")
  time.sleep(0.2)
  assert browser.run('window.stolen') is None
  urls = [url for url in browser.requests if not url.startswith('data:')]
  assert urls == [page.resolve().as_uri() + '#stage=refine'] or urls == [
    page.resolve().as_uri()
  ]
  assert (
    browser.run(
      "document.querySelectorAll('.body :is(script, img, svg)').length"
    )
    == 0
  )
  content = browser.run("document.querySelector('.body').textContent")
  for payload in PAYLOADS[:5]:
    assert content.count(payload) >= 4  # question, answer, solution, refinement


def test_the_policy_forbids_other_scripts_and_requests(browser, page):
  # Would the page hold markup that a model wrote, it would still do nothing.
  browser.open(page)
  blocked = browser.run("""
    new Promise((resolve) => {
      const blocked = [];
      addEventListener('securitypolicyviolation', (event) => {
        blocked.push(event.effectiveDirective);
        if (blocked.length === 3) resolve(blocked.sort());
      });
      const script = document.createElement('script');
      script.textContent = 'window.stolen = 5';
      document.body.append(script);
      new Image().src = 'http://127.0.0.1:9/c';
      fetch('http://127.0.0.1:9/d').catch(() => null);
      setTimeout(() => resolve(blocked.sort()), 5000);
    })""")
  assert blocked == ['connect-src', 'img-src', 'script-src-elem']
  assert browser.run('window.stolen') is None


def test_tokens_are_coloured_by_probability(browser, tmp_path):
  settings = {'module': 'arithmetic_tokenizer', 'name': 'tokenizer'}
  tokenizer = arithmetic_tokenizer.tokenizer()
  text = 'Step 1: 3 + 4 = 7\nThe answer is é.'
  tokens = np.array(tokenizer.encode(text) + [tokenizer.eos[0]], np.int32)
  probabilities = np.full(len(tokens), 0.95)
  probabilities[:6] = 0.95, 0.7, 0.3, 0.1, 0.02, 0.001
  record = synthetic_run.message(Problem('p', 'q', '7'), 'solve', text=text)
  logprobs = np.log(probabilities).astype(np.float32)
  record = dataclasses.replace(record, tokens=tokens, logprobs=logprobs)
  page = write_records(
    tmp_path,
    [record],
    tokens=True,
    config={'models': {'solver': {'source': '', 'tokenizer': settings}}},
  )
  browser.open(page)
  browser.run("document.querySelector('.fold').open = true")
  browser.wait_for("document.querySelectorAll('pre .token').length > 0")
  spans = browser.run(
    "[...document.querySelectorAll('pre .token')]"
    '.map((node) => [node.className, node.textContent, node.title])'
  )
  assert [span[0] for span in spans[:7]] == [
    f'token t{i}' for i in (*range(6), 0)
  ]
  assert spans[1][1:] == [' 3', 'p 0.70, log p \u22120.36']
  content = ''.join(span[1] for span in spans)
  assert content.replace('\u23ce', '').replace('\u00b7', '') == text


def test_runs_side_by_side(browser, tmp_path):
  paths = [synthetic_run.write(tmp_path / name) for name in ('a', 'b')]
  page = html_report.write(*paths, out=tmp_path / 'both.html')
  browser.open(page)
  assert browser.texts('#status') == ['24 of 24 trees, 208 records']
  browser.open(page, 'run=1&where=rl/1')
  assert browser.texts('#status') == ['4 of 24 trees, 40 records']
  assert 'b' in browser.texts('.tree .badge')
  assert browser.texts('th.group')[:2] == ['a', 'b']


@pytest.mark.parametrize('pixels', [360, 1200])
def test_nothing_is_wider_than_the_screen(browser, page, pixels):
  browser.width(pixels)
  browser.open(page, 'stage=refine&open=9')
  widest = browser.run('document.documentElement.scrollWidth')
  browser.call('Emulation.clearDeviceMetricsOverride')
  assert widest <= pixels


def test_without_scripts_tables_are_there(browser, page):
  browser.call('Emulation.setScriptExecutionDisabled', value=True)
  browser.open(page)
  browser.call('Emulation.setScriptExecutionDisabled', value=False)
  (text,) = browser.texts('main')
  assert 'The browser of records is a script' in text
  assert 'balanced_accuracy' in text and 'eval/refcritic, before' in text
  style = "getComputedStyle(document.getElementById('filters')).display"
  assert browser.run(style) == 'none'


def test_ten_thousand_records_are_quick(browser, tmp_path):
  filler = ' '.join(f'and then {i} more' for i in range(40))  # 600 characters
  longer = {None: None}
  for number, record in enumerate(synthetic_run.trees(1000)):
    text = f'{number} {filler} {record.text}'
    longer[record] = dataclasses.replace(
      record, text=text, parent=longer[record.parent]
    )
  records = list(longer.values())[1:]
  assert len(records) == 10_000
  page = write_records(tmp_path, records)
  assert page.stat().st_size < 30e6
  loads, searches = [], []
  for number in range(3):  # other tests may have the machine's cores
    browser.open(page)
    loads.append(
      browser.run("performance.getEntriesByType('navigation')[0].duration")
    )
    browser.run(f"form.q.value = '{number} and then'; search()")
    searches.append(float(browser.run("$('status').dataset.ms")))
  assert browser.texts('#status')[0].endswith('matching records')
  print(f'load {min(loads):.0f} ms, search {min(searches):.0f} ms')
  assert min(loads) < 1000 and min(searches) < 1000
