"""A bare python behind walls, for programs that a model wrote.

Four protections:

  network    no socket reaches anything
  files      nothing can be written but a scratch folder in memory, nothing
             read but /usr, the libraries and python's own folder
  processes  nothing outside is seen or signalled, and nothing is started
  syscalls   the kernel's calls that a pure program does not need are refused

They use features of Linux:

  namespaces  by bubblewrap if it is installed, else by util-linux's `unshare`,
              both also for users who are not root: a root folder of read-only
              mounts without /proc and /etc, a network without devices, and
              process ids of its own, which all end with the first
  seccomp     a filter, compiled by libseccomp if it is installed (`syscalls`)
  limits      of resources, and an empty environment, always

If a machine lacks a protection, `find_walls` raises, unless the config accepts
that it is missing.

Limits of these guarantees: a hole in the kernel is a hole in these walls; the
clock, the processor's name and the files in /usr can be read; and time and
memory that a program takes within its limits are missing elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from typing import BinaryIO, NamedTuple

from critic_jax.execution import code_host, plain_data, syscalls

PROTECTIONS = ('network', 'files', 'processes', 'syscalls')
MAX_MESSAGE = 16 * 2**20  # bytes
_READY_S = 30.0  # for a bare python to start on a busy machine
_SCRATCH_BYTES = 16 * 2**20
_NOBODY = '65534'
_LIMITS = {
  'AS': 512 * 2**20,
  'FSIZE': 8 * 2**20,
  'NOFILE': 32,
  'NPROC': 0,  # none to be started; does not bind root, the filter does
  'CORE': 0,
  'CPU': 600,  # seconds; a program may have less
}


class Walls(NamedTuple):
  """The walls that this machine can build.

  Attributes:
    namespaces: 'bubblewrap', 'unshare', or '' for none.
    syscall_filter: the result of `syscalls.make_filter` in hexadecimal; '' for
      none.
  """

  namespaces: str
  syscall_filter: str


def find_walls(accept_missing: Collection[str] = ()) -> Walls:
  """Returns the walls that this machine can build; tries each out, once.

  Args:
    accept_missing: protections that may be missing.

  Raises:
    ValueError: there is no such protection, or one is missing that is not
      accepted.
  """
  if unknown := sorted(set(accept_missing) - set(PROTECTIONS)):
    raise ValueError(
      f'accept_missing: got {unknown}; expected some of {list(PROTECTIONS)}'
    )
  walls = _find_walls()
  lacking = missing(walls)
  if refused := [name for name in lacking if name not in accept_missing]:
    raise ValueError(
      f'sandbox: got no protection of {refused} on this machine; expected all '
      f'of {list(PROTECTIONS)}; install bubblewrap and libseccomp2, allow user '
      'namespaces, or run programs all the same with graders.accept_missing='
      f'{tuple(lacking)!r}'
    )
  return walls


def missing(walls: Walls) -> list[str]:
  """Returns the protections that these walls do not give."""
  namespaces, filtered = bool(walls.namespaces), bool(walls.syscall_filter)
  protections = dict(
    network=namespaces or filtered,
    files=namespaces,
    # The kernel lets root start more processes than its limit.
    processes=filtered or (namespaces and os.geteuid() != 0),
    syscalls=filtered,
  )
  return [name for name in PROTECTIONS if not protections[name]]


@functools.cache
def _find_walls() -> Walls:
  syscall_filter = syscalls.make_filter().hex()
  for filter_ in dict.fromkeys([syscall_filter, '']):
    for namespaces in ('bubblewrap', 'unshare', ''):
      walls = Walls(namespaces, filter_)
      with contextlib.suppress(OSError), Process('program', walls):
        return walls
  raise ChildProcessError(
    f'sandbox: got no answer of {sys.executable}; expected python to start'
  )


# Runs the texts of the one module that `code_host` imports, and of itself.
_START = """
import sys, types
room = 'critic_jax.execution'
for name in 'critic_jax', room, f'{room}.plain_data':
  sys.modules[name] = types.ModuleType(name)
exec(sys.argv.pop(1), vars(sys.modules[name]))
exec(sys.argv.pop(1))
"""


class Process:
  """A process of `code_host` behind walls, ready for messages.

  Args:
    role: 'program' or 'tests'.
    walls: a result of `find_walls`.
    cpu_s: seconds that it may compute, rounded up; then the kernel kills it.

  Raises:
    ChildProcessError: it did not start.
  """

  def __init__(self, role: str, walls: Walls, cpu_s: float = _LIMITS['CPU']):
    limits = {**_LIMITS, 'CPU': math.ceil(cpu_s)}
    settings = dict(limits=limits, filter=walls.syscall_filter)
    sources = [
      pathlib.Path(module.__file__).read_text()
      for module in (plain_data, code_host)
    ]
    command = [
      *(_python(), '-s', '-S', '-P', '-c', _START, *sources),
      *(role, json.dumps(settings)),
    ]
    # Start the process behind its walls, else in a folder of its own.
    self._scratch = None
    if not walls.namespaces:
      self._scratch = tempfile.TemporaryDirectory(prefix='scratch-')
    builders = dict(bubblewrap=_bubblewrap, unshare=_unshare)
    prefix = builders.get(walls.namespaces, list)()
    try:
      self._process = subprocess.Popen(
        [*prefix, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=self._scratch.name if self._scratch else '/',
        env={
          'PATH': '/usr/bin:/usr/sbin:/bin:/sbin',
          'LANG': 'C.UTF-8',
          'PYTHONHASHSEED': '0',
          'PYTHONDONTWRITEBYTECODE': '1',
        },
      )
    except OSError as error:  # no such tool
      self._remove_scratch()
      raise ChildProcessError(f'sandbox: {error}') from error
    # Wait until it is ready.
    for pipe in (self._process.stdin, self._process.stdout):
      os.set_blocking(pipe.fileno(), False)
    try:
      ready = self.receive(time.monotonic() + _READY_S) == b'"ready"'
    except (EOFError, TimeoutError):
      ready = False
    if not ready:
      self._process.kill()
      reason = self._process.stderr.read(2000).decode(errors='replace').strip()
      self.close()
      raise ChildProcessError(
        f'sandbox: got no answer of {prefix[:1] or command[:1]} ({reason}); '
        'expected it to start'
      )

  def __enter__(self) -> Process:
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def send(self, message: bytes, deadline: float) -> None:
    """Writes a message until `deadline` (time.monotonic).

    Raises:
      TimeoutError: it did not take the message in time.
      EOFError: it has ended.
    """
    data = memoryview(code_host.LENGTH.pack(len(message)) + message)
    while data:
      _wait(self._process.stdin, select.POLLOUT, deadline)
      try:
        data = data[os.write(self._process.stdin.fileno(), data) :]
      except BrokenPipeError:
        raise EOFError('the process has ended') from None

  def receive(self, deadline: float) -> bytes:
    """Returns the next message.

    Raises:
      TimeoutError: there is none at the deadline.
      EOFError: it has ended, or its message is longer than `MAX_MESSAGE`.
    """
    size = code_host.LENGTH.size
    [length] = code_host.LENGTH.unpack(self._read(size, deadline))
    if length > MAX_MESSAGE:
      raise EOFError(f'a message of {length} bytes')
    return self._read(length, deadline)

  def _read(self, size: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < size:
      _wait(self._process.stdout, select.POLLIN, deadline)
      data = os.read(self._process.stdout.fileno(), size - len(parts))
      if not data:
        raise EOFError('the process has ended')
      parts += data
    return bytes(parts)

  def close(self) -> None:
    """Kills the process and, by its namespace of ids, all that it started."""
    self._process.kill()
    self._process.wait()
    for pipe in ('stdin', 'stdout', 'stderr'):
      getattr(self._process, pipe).close()
    self._remove_scratch()

  def _remove_scratch(self) -> None:
    if self._scratch:
      self._scratch.cleanup()


def _wait(pipe: BinaryIO, event: int, deadline: float) -> None:
  poll = select.poll()  # `select` knows no descriptor above 1023
  poll.register(pipe, event)
  milliseconds = (deadline - time.monotonic()) * 1000
  if milliseconds <= 0 or not poll.poll(milliseconds):
    raise TimeoutError('the deadline has passed')


def _python() -> str:
  """Returns the interpreter from which a virtual environment was made."""
  return os.path.realpath(getattr(sys, '_base_executable', sys.executable))


def _folders() -> tuple[list[str], dict[str, str]]:
  """Returns the visible part of the disk: folders to mount, links to make."""
  mounts, links = ['/usr'], {}
  for name in ('/lib', '/lib32', '/lib64', '/bin', '/sbin'):
    if os.path.islink(name):
      links[name] = os.readlink(name)
    elif os.path.isdir(name):
      mounts.append(name)
  for name in dict.fromkeys([sys.base_prefix, sys.base_exec_prefix]):
    if not any(f'{name}/'.startswith(f'{mount}/') for mount in mounts):
      mounts.append(name)
  return mounts, links


def _bubblewrap() -> list[str]:
  mounts, links = _folders()
  options: list[str] = []
  for path in mounts:
    options += ['--ro-bind', path, path]
  for path, target in links.items():
    options += ['--symlink', target, path]
  return [
    *('bwrap', '--unshare-user', '--unshare-all', '--die-with-parent'),
    *('--uid', _NOBODY, '--gid', _NOBODY, '--hostname', 'sandbox'),
    *options,
    *('--ro-bind-try', '/etc/ld.so.cache', '/etc/ld.so.cache'),
    *('--dev-bind', '/dev/null', '/dev/null'),
    *('--size', str(_SCRATCH_BYTES), '--tmpfs', '/scratch'),
    *('--remount-ro', '/', '--chdir', '/scratch', '--'),
  ]


# $1: bytes of scratch; then folders to mount, links in pairs, and a command,
# each list ended by `--`. Mounts that cannot be made read-only fail it all. The
# shell stays as the first process: it ends with `unshare`, and all with it, and
# a program could unset that for itself.
_UNSHARE = """
set -e
size=$1; shift
mount -t tmpfs -o size=1m,mode=755 none /tmp
cd /tmp
while [ "$1" != -- ]; do
  mkdir -p ".$1"
  mount --bind "$1" ".$1"
  mount -o remount,bind,ro,nosuid ".$1"
  shift
done
shift
while [ "$1" != -- ]; do ln -s "$2" ".$1"; shift 2; done
shift
mkdir -p dev etc proc scratch old
if [ -e /etc/ld.so.cache ]; then cp /etc/ld.so.cache etc; fi
touch dev/null
mount --bind /dev/null dev/null
mount -t tmpfs -o "size=$size,mode=700,nosuid,nodev" none scratch
mount --rbind /proc proc
pivot_root . old
cd /
umount -l /old
rmdir /old
mount -o remount,bind,ro /
umount -l /proc
cd /scratch
setpriv --no-new-privs --bounding-set=-all --inh-caps=-all \\
  --ambient-caps=-all "$@"
"""


def _unshare() -> list[str]:
  mounts, links = _folders()
  return [
    *('setpriv', '--pdeathsig', 'KILL'),
    *('unshare', '--user', '--map-root-user', '--mount', '--pid', '--net'),
    *('--ipc', '--uts', '--fork', '--kill-child'),
    *('/bin/sh', '-c', _UNSHARE, 'sh', str(_SCRATCH_BYTES), *mounts, '--'),
    *(text for pair in links.items() for text in pair),
    '--',
  ]
