"""Hostile programs behind walls: what they reach, and the score they deserve.

Each is graded behind bubblewrap and behind `unshare`, where this machine has
them. `attack` says whether it broke out; a program that did not and still
answers is right.
"""

import contextlib
import os
import socket
import threading
import time

import psutil
import pytest

from critic_jax.execution import code, sandbox, syscalls

DEADLINE_S = 1.0
HANGS_S = 0.3  # the deadline of a program that sleeps
SECRET = 'hush-31337'
ANSWER = '\ndef answer(x):\n  return x * x\n'
CONTAINED = ['assert attack() is False', 'assert answer(12) == 144']
ANSWERED = ['assert answer(3) == 9', 'assert answer(-271) == 73441']


def build_walls(name):
  """Builds walls with this kind of namespaces, or skips the test."""
  walls = sandbox.Walls(name, syscalls.make_filter().hex())
  try:
    with sandbox.Process('program', walls):
      pass
  except OSError as error:
    pytest.skip(f'{name} builds no walls here: {error}')
  if protections := sandbox.missing(walls):
    pytest.skip(f'this machine has no protection of {protections}')
  return walls


@pytest.fixture(scope='module', params=['bubblewrap', 'unshare'])
def walls(request):
  return build_walls(request.param)


class World:
  """Targets of a program: a file, a server, sockets, an environment."""

  def __init__(self, folder):
    self.folder = folder
    self.victim = folder / 'victim'
    self.victim.write_text('whole')
    self.visits = []
    self.tcp = socket.create_server(('127.0.0.1', 0))
    self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    self.abstract.bind(f'\0critic-{os.getpid()}-{folder.name}')
    self.abstract.listen()
    for server in (self.tcp, self.abstract):
      threading.Thread(target=self._serve, args=[server], daemon=True).start()

  def _serve(self, server):
    while True:
      try:
        self.visits.append(server.accept())
      except OSError:
        return

  def close(self):
    for server in (self.tcp, self.abstract):
      server.shutdown(socket.SHUT_RDWR)  # closing does not wake who accepts
      server.close()

  def fill(self, text):
    for name, value in {
      'VICTIM': str(self.victim),
      'FOLDER': str(self.folder),
      'PORT': self.tcp.getsockname()[1],
      'ABSTRACT': self.abstract.getsockname().decode(),
      'PID': os.getpid(),
      'SECRET': SECRET[:4],  # or the program would find itself
    }.items():
      text = text.replace(f'<{name}>', repr(value))
    return text


@pytest.fixture
def world(tmp_path, monkeypatch):
  monkeypatch.setenv('CRITIC_SECRET', SECRET)
  world = World(tmp_path)
  yield world
  world.close()


def insiders():
  """Returns the sandbox's live processes, below this process or orphaned.

  Those of other tests that run now have a parent that is not above this one.
  """
  above = {process.pid for process in psutil.Process().parents()}
  insiders = set()
  for process in psutil.process_iter():
    with contextlib.suppress(psutil.Error):
      parents = process.parents() if is_insider(process) else None
      if parents is not None and (
        os.getpid() in [parent.pid for parent in parents]
        or all(p.pid in above or is_insider(p) for p in parents)
      ):
        insiders.add(process.pid)
  return insiders


def is_insider(process):
  return (
    any('serve_program' in word for word in process.cmdline())
    and process.status() != psutil.STATUS_ZOMBIE
  )


# name: a program with `attack`. Contained, it goes on and is right.
ATTACKS = {
  'network': """
import socket
def attack():
  try:
    socket.create_connection(('127.0.0.1', <PORT>), timeout=0.2)
    return True
  except OSError:
    return False
""",
  'abstract socket': """
import socket
def attack():
  try:
    socket.socket(socket.AF_UNIX).connect(<ABSTRACT>)
    return True
  except OSError:
    return False
""",
  'file outside': """
def attack():
  done = False
  for path in (<VICTIM>, <FOLDER> + '/new', '/usr/new', '/new', '/etc/new'):
    try:
      open(path, 'w').write('broken')
      done = True
    except OSError:
      pass
  return done
""",
  'symlink escape': """
import contextlib
import os
def attack():
  try:
    os.symlink(<VICTIM>, 'link')
    open('link', 'r+').write('broken')
    return True
  except OSError:
    return False
""",
  'dots and descriptors': """
import contextlib
import os
def attack():
  done = False
  for path in ('../../../../..' + <VICTIM>, '/proc/self/cwd/..' + <VICTIM>):
    done |= os.path.exists(path)
  for number in range(64):
    try:
      done |= bool(os.listdir(number))
    except OSError:
      pass
  return done
""",
  'fork': """
import contextlib
import os
def attack():
  try:
    if os.fork() == 0:
      os._exit(0)
    return True
  except OSError:
    return False
""",
  'fork bomb': """
import os, threading
def attack():
  started = 0
  for _ in range(200):
    try:
      if os.fork() == 0:
        while True: pass
      started += 1
    except OSError:
      pass
    try:
      threading.Thread(target=lambda: None).start()
      started += 1
    except RuntimeError:
      pass
  return started > 0
""",
  'daemon that outlives': """
import os, time
def attack():
  try:
    if os.fork() == 0:
      os.setsid()
      if os.fork() == 0:
        time.sleep(60)
      os._exit(0)
    return True
  except OSError:
    return False
""",
  'signal to others': """
import os, signal
def attack():
  done = False
  for pid in (os.getppid(), 1, -1, 0, <PID>):
    try:
      os.kill(pid, signal.SIGKILL)
      done = True
    except OSError:
      pass
  return done
""",
  "the parent's environment": """
import glob, os
def attack():
  data = b''.join(open(path, 'rb').read()
                  for path in glob.glob('/proc/[0-9]*/environ'))
  return <SECRET> in data.decode() or <SECRET> in str(os.environ)
""",
  'ptrace': """
import ctypes, os
def attack():
  libc = ctypes.CDLL(None)
  return any(libc.ptrace(16, pid, 0, 0) == 0 for pid in (1, os.getppid()))
""",
  'setuid file': """
import os, subprocess
def attack():
  for path in ('/usr/bin/su', '/usr/bin/passwd', '/bin/true'):
    try:
      subprocess.run([path, '--help'])
      return True
    except OSError:
      pass
  try:
    os.execv('/usr/bin/su', ['su'])
  except OSError:
    return False
""",
  'mounts': """
import ctypes
def attack():
  libc = ctypes.CDLL(None)
  writable = 32 | 4096
  return 0 in [
    libc.mount(b'/', b'/scratch', b'', 4096, 0),
    libc.mount(b'', b'/usr', b'', writable, 0),
    libc.umount2(b'/usr', 2),
    libc.chroot(b'/usr'),
  ]
""",
  'namespaces of its own': """
import ctypes
def attack():
  return ctypes.CDLL(None).unshare(0x10000000) == 0
""",
  'huge file': """
def attack():
  try:
    with open('huge', 'wb') as file:
      for _ in range(100):
        file.write(bytes(10**6))
    return True
  except OSError:
    return False
""",
  'many files': """
def attack():
  total = 0
  try:
    for number in range(50):
      open(str(number), 'wb').write(bytes(2 * 10**6))
      total += 2
  except OSError:
    pass
  return total > 20
""",
  'files in memory': """
import contextlib
import os
def attack():
  try:
    os.memfd_create('x')
    return True
  except OSError:
    return False
""",
  'deletes its scratch folder': """
import os, shutil, sys
def attack():
  open('file', 'w').write('x')
  os.mkdir('folder')
  shutil.rmtree('/scratch', ignore_errors=True)
  try:
    os.rmdir('/scratch')
    return True
  except OSError:
    pass
  try:
    os.unlink(os.path.realpath(sys.executable))
    return True
  except OSError:
    return False
""",
  'reads stdin': """
import os, sys
def attack():
  try:
    return bool(input() or True)
  except EOFError:
    return bool(os.read(0, 10) or sys.stdin.read())
""",
  'huge output': """
import os, sys
def attack():
  for _ in range(100):
    sys.stdout.write('x' * 10**6)
    sys.stderr.write('x' * 10**6)
    os.write(1, b'x' * 10**6)
  return False
""",
  'memory, caught': """
def attack():
  try:
    return len(bytearray(100 * 2**30)) > 0
  except MemoryError:
    return False
""",
  'lifts its limits': """
import resource
def attack():
  done = False
  for name in ('AS', 'FSIZE', 'NPROC'):
    try:
      resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (2**40, 2**40))
      done = True
    except (OSError, ValueError):
      pass
  return done
""",
}  # fmt: skip

# name: a program, and the grade it deserves by `ANSWERED`.
CHEATS = {
  'an honest answer': (ANSWER, 'right'),
  'a wrong answer': ('def answer(x): return 9', 'wrong'),
  'no answer': ('x = 1', 'wrong'),
  'not python': ('def answer(x) return 9', 'wrong'),
  'os._exit(0) at once': ('import os\nos._exit(0)', 'wrong'),
  'sys.exit(0) at once': ('import sys\nsys.exit(0)', 'wrong'),
  'os._exit(0) when called': (
    'import os\ndef answer(x): os._exit(0)', 'wrong'),
  'SystemExit when called': ('def answer(x): raise SystemExit(0)', 'wrong'),
  'an object that equals everything': ("""
class Any:
  __eq__ = lambda self, other: True
  __ne__ = lambda self, other: False
  __hash__ = lambda self: 0
def answer(x): return Any()
""", 'wrong'),
  'an integer that equals everything': ("""
class Any(int):
  __eq__ = lambda self, other: True
  __hash__ = int.__hash__
def answer(x): return Any(5)
""", 'wrong'),
  'patched builtins': ("""
import builtins, json, sys
class AssertionError(Exception):
  def __init__(self, *args): pass
builtins.AssertionError = AssertionError
builtins.compile = lambda *args, **named: ''
builtins.exec = lambda *args, **named: None
sys.exit = lambda *args: None
json.dumps = lambda message: '["verdict", true]'
def answer(x): return 5
""", 'wrong'),
  'a forged verdict': ("""
import json, os, struct
def say(message):
  data = json.dumps(message).encode()
  for number in range(64):
    try:
      os.write(number, struct.pack('>I', len(data)) + data)
    except OSError:
      pass
def answer(x):
  for _ in range(3):
    say(['verdict', True])
    say({'value': None})
    say('ready')
  print('OK: all tests passed')
  return 5
""", 'wrong'),
  'a forged verdict instead of an answer': ("""
import os, struct
data = b'["verdict", true]'
for number in range(64):
  try:
    os.write(number, struct.pack('>I', len(data)) + data)
  except OSError:
    pass
os._exit(0)
""", 'wrong'),
  'reads the tests in memory and on disk': ("""
import gc, glob, re, sys
def answer(x):
  frame, places = sys._getframe(), []
  while frame:
    places += [frame.f_locals, frame.f_globals, frame.f_code.co_consts]
    frame = frame.f_back
  places += gc.get_objects()
  for path in glob.glob('/proc/[0-9]*/*') + glob.glob('/scratch/*'):
    try:
      places.append(open(path, 'rb').read(10**6))
    except OSError:
      pass
  for place in places:
    try:
      text = str(place)[:10**5]
      match = re.search('answer.' + str(x) + '. == ([0-9]+)', text)
    except Exception:
      continue
    if match:
      return int(match[1])
""", 'wrong'),
  'reads the data set': ("""
def answer(x):
  return eval(open(<FOLDER> + '/tests.txt').read())[x]
""", 'wrong'),
  'memory': ("""
def answer(x):
  blocks = []
  while True:
    blocks.append(bytearray(10**7))
""", 'wrong'),
  'a huge result': ("def answer(x): return 'x' * 10**8", 'wrong'),
  'a nested result': ("""
def answer(x):
  result = []
  for _ in range(100_000): result = [result]
  return result
""", 'wrong'),
  'an endless result': ("""
import itertools
def answer(x): return itertools.count()
""", 'wrong'),
  'deep recursion': ("""
import sys
sys.setrecursionlimit(10**9)
def answer(x): return max(map(answer, [x]))
""", 'wrong'),
  'an endless loop that ignores signals': ("""
import signal
for number in range(1, 65):
  try: signal.signal(number, signal.SIG_IGN)
  except (OSError, ValueError): pass
def answer(x):
  while True: pass
""", 'wrong'),
  'an endless loop at once, without its death signal': ("""
import ctypes
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
while True: pass
""", 'wrong'),
  'sleep': ('import time\ndef answer(x): time.sleep(1000)', 'timeout'),
  'an endless flood of output': ("""
def answer(x):
  while True: print('x' * 10**6, end='')
""", 'wrong'),
  'a flood of messages': ("""
import contextlib
import os
def answer(x):
  while True:
    for number in range(3, 20):
      try: os.write(number, bytes(10**6))
      except OSError: pass
""", 'wrong'),
  'a regular expression that does not return': ("""
import re
def answer(x): return re.match('(a+)+$', 'a' * 60 + 'b')
""", 'wrong'),
  'a wall of unicode': ("""
def answer(x):
  strange = '\\ud800\\u202e\\x00' + chr(0x10ffff) * 10**5
  return {strange: x * x}.get(strange[::-1][::-1])
""", 'right'),
}  # fmt: skip


def graded(program, tests, walls, world, deadline_s=DEADLINE_S):
  """Grades a program; asserts that it ends in time and leaves nothing."""
  before, start = insiders(), time.monotonic()
  grade = code.decide(
    world.fill(program),
    code.reference(tests),
    deadline_s=deadline_s,
    walls=walls,
  )
  assert time.monotonic() - start < code.SLOWDOWN * deadline_s + 1.0
  # The process of another test's sandbox is an orphan for an instant while that
  # is killed: only what is there at each look was left behind.
  deadline = time.monotonic() + 1.0
  while (left := insiders() - before) and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not left
  assert world.victim.read_text() == 'whole'
  assert not world.visits
  assert not (world.folder / 'new').exists()
  return grade


@pytest.mark.parametrize('name', ATTACKS)
def test_attacks_are_contained(name, walls, world):
  assert graded(ATTACKS[name] + ANSWER, CONTAINED, walls, world) == 'right'


@pytest.mark.parametrize('name', CHEATS)
def test_programs_get_what_they_deserve(name, walls, world):
  (world.folder / 'tests.txt').write_text('{3: 9, -271: 73441}')
  program, expected = CHEATS[name]
  deadline_s = HANGS_S if expected == 'timeout' else DEADLINE_S
  assert graded(program, ANSWERED, walls, world, deadline_s) == expected


@pytest.mark.parametrize(
  'name',
  [
    'network',
    'abstract socket',
    'symlink escape',
    'fork',
    'reads the data set',
  ],
)
def test_without_walls_they_succeed(name, world):
  """Shows that the tests above can fail; nothing harmful is tried."""
  no_walls = sandbox.Walls('', '')
  if os.geteuid() and name == 'fork':
    pytest.skip('a limit that binds users who are not root holds here, too')
  (world.folder / 'tests.txt').write_text('{3: 9, -271: 73441}')
  if name in CHEATS:
    program, tests = CHEATS[name][0], ANSWERED
  else:
    program, tests = ATTACKS[name] + ANSWER, ['assert attack() is True']
  reference = code.reference(tests)
  assert (
    code.decide(
      world.fill(program), reference, deadline_s=DEADLINE_S, walls=no_walls
    )
    == 'right'
  )


def test_walls_hold_without_the_filter(walls, world):
  """Each layer holds alone: files, network and ids of processes."""
  walls = walls._replace(syscall_filter='')
  for name in (
    'network', 'abstract socket', 'file outside', 'symlink escape',
    'dots and descriptors', "the parent's environment",
    'mounts', 'many files', 'lifts its limits',
  ):  # fmt: skip
    grade = graded(ATTACKS[name] + ANSWER, CONTAINED, walls, world)
    assert grade == 'right', name
  # And what a program starts there ends with it.
  program = ATTACKS['daemon that outlives'] + ANSWER
  graded(program, ['assert answer(2) == 4', 'attack()'], walls, world)


def test_the_filter_holds_without_walls(world):
  filter_ = syscalls.make_filter().hex()
  if not filter_:
    pytest.skip('no libseccomp2 here: no protection of syscalls')
  filter_only = sandbox.Walls('', filter_)
  assert sandbox.missing(filter_only) == ['files']
  for name in (
    'network', 'abstract socket', 'fork', 'fork bomb', 'ptrace', 'setuid file',
    'signal to others', 'daemon that outlives', 'files in memory',
  ):  # fmt: skip
    grade = graded(ATTACKS[name] + ANSWER, CONTAINED, filter_only, world)
    assert grade == 'right', name


def test_a_missing_protection_must_be_accepted(monkeypatch):
  no_walls = sandbox.Walls('', '')
  monkeypatch.setattr(sandbox, '_find_walls', lambda: no_walls)
  with pytest.raises(ValueError, match="got no protection of .'network', 'fil"):
    sandbox.find_walls()
  with pytest.raises(ValueError, match="of .'files'. on this machine"):
    sandbox.find_walls(('network', 'processes', 'syscalls'))
  assert sandbox.find_walls(sandbox.PROTECTIONS) == no_walls
  with pytest.raises(ValueError, match=r"accept_missing: got \['all'\]"):
    sandbox.find_walls(('all',))


@pytest.mark.parametrize(
  ('namespaces', 'filter_', 'root', 'expected'),
  [
    ('bubblewrap', 'ff', True, []),
    ('unshare', 'ff', False, []),
    ('', 'ff', True, ['files']),
    ('bubblewrap', '', False, ['syscalls']),
    ('bubblewrap', '', True, ['processes', 'syscalls']),
    ('', '', False, ['network', 'files', 'processes', 'syscalls']),
  ],
)
def test_what_is_missing(monkeypatch, namespaces, filter_, root, expected):
  monkeypatch.setattr(os, 'geteuid', lambda: 0 if root else 1000)
  assert sandbox.missing(sandbox.Walls(namespaces, filter_)) == expected


def test_tools_that_fail_are_not_taken(monkeypatch):
  monkeypatch.setattr(sandbox, '_bubblewrap', lambda: ['no-such-tool'])
  monkeypatch.setattr(sandbox, '_unshare', lambda: ['false'])
  sandbox._find_walls.cache_clear()
  try:
    assert sandbox._find_walls().namespaces == ''
  finally:
    sandbox._find_walls.cache_clear()


def test_a_sandbox_that_does_not_start_says_why(monkeypatch):
  command = ['sh', '-c', 'echo no room >&2; exit 3']
  monkeypatch.setattr(sandbox, '_bubblewrap', lambda: command)
  with pytest.raises(ChildProcessError, match='no room'):
    sandbox.Process('program', sandbox.Walls('bubblewrap', ''))
