"""The filter of system calls: what reaches another process is refused by it.

A process behind the filter alone makes each call that names another process,
its own child to be, and the child goes on undisturbed.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from critic_jax.execution import syscalls

if not syscalls.make_filter():
  pytest.skip('no libseccomp2 here: no filter', allow_module_level=True)

P = 'pid'  # in arguments: the other process; a pointer to nothing is 0
# Calls that name a process, by `pid_t` in Linux's include/linux/syscalls.h, by
# (which, who), by a descriptor of a process, or by an option.
NAMING = [
  ('kill', P, 0),
  ('tkill', P, 0),
  ('tgkill', P, P, 0),
  ('rt_sigqueueinfo', P, 1, 0),
  ('rt_tgsigqueueinfo', P, P, 1, 0),
  ('pidfd_open', P, 0),
  ('pidfd_send_signal', 3, 0, 0, 0),
  ('pidfd_getfd', 3, 0, 0),
  ('process_madvise', 3, 0, 0, 0, 0),
  ('process_mrelease', 3, 0),
  ('ptrace', 16, P, 0, 0),
  ('process_vm_readv', P, 0, 0, 0, 0, 0),
  ('process_vm_writev', P, 0, 0, 0, 0, 0),
  ('kcmp', P, P, 0, 0, 0),
  ('perf_event_open', 0, P, -1, -1, 0),
  ('get_robust_list', P, 0, 0),
  ('prlimit64', P, 7, 0, 0),
  ('prlimit64', 2**32, 7, 0, 0),  # the upper half is ignored, or refused
  ('setpgid', P, P),
  ('setpgid', 0, P),
  ('getpgid', P),
  ('getsid', P),
  ('sched_setaffinity', P, 0, 0),
  ('sched_getaffinity', P, 0, 0),
  ('sched_setscheduler', P, 0, 0),
  ('sched_getscheduler', P),
  ('sched_setparam', P, 0),
  ('sched_getparam', P, 0),
  ('sched_setattr', P, 0, 0),
  ('sched_getattr', P, 0, 0, 0),
  ('sched_rr_get_interval', P, 0),
  ('setpriority', 0, P, 0),
  ('setpriority', 2, 0, 0),  # all processes of this user
  ('getpriority', 0, P),
  ('ioprio_set', 1, P, 0),
  ('ioprio_set', 3, 0, 0),  # all processes of this user
  ('ioprio_get', 1, P),
  ('migrate_pages', P, 0, 0, 0),
  ('move_pages', P, 0, 0, 0, 0, 0),
  ('capget', 0, 0),
  ('setns', 3, 0),
  ('prctl', syscalls._PR_SET_PTRACER, P, 0, 0, 0),
  ('prctl', syscalls._PR_SCHED_CORE, 2, P, 0, 0),
  ('prctl', syscalls._PR_SET_PDEATHSIG, 0, 0, 0, 0),
  ('clock_gettime', 'clock', 0),
  ('clock_getres', 'clock', 0),
  ('clock_nanosleep', 'clock', 0, 0, 0),
  ('timer_create', 'clock', 0, 0),
  ('fcntl', 0, fcntl.F_SETOWN, P),
  ('fcntl', 0, 2**32 + fcntl.F_SETOWN, P),
  ('fcntl', 0, syscalls._F_SETOWN_EX, 0),
  ('fcntl', 0, fcntl.F_SETSIG, signal.SIGKILL),
  ('fcntl', 0, fcntl.F_SETFL, os.O_ASYNC),
  ('fcntl', 0, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK),
  ('fcntl', 0, fcntl.F_SETLEASE, 0),
  ('fcntl', 0, fcntl.F_NOTIFY, 0),
  ('ioctl', 0, 0x5452, 0),  # FIOASYNC
  ('ioctl', 0, 0x8901, 0),  # FIOSETOWN
  ('ioctl', 0, 0x8902, 0),  # SIOCSPGRP
  ('ioctl', 0, 0x5412, 0),  # TIOCSTI, which types at a terminal
  ('ioctl', 0, 0x5410, 0),  # TIOCSPGRP
  ('ioctl', 0, 0x40045436, signal.SIGKILL),  # TIOCSIG, to a terminal's group
  ('ioctl', 0, 0x5414, 0),  # TIOCSWINSZ, of which it gets SIGWINCH
  ('ioctl', 0, 0x540C, 0),  # TIOCEXCL: nobody else opens the terminal
  ('ioctl', 0, 0x540A, 0),  # TCXONC, which stops who writes there
]
# What a call about the process itself gets: 0 or a number, not EPERM.
ABOUT_ITSELF = [
  ('prlimit64', 0, 7, 0, 0),
  ('getpgid', 0),
  ('getsid', 0),
  ('sched_getscheduler', 0),
  ('getpriority', 0, 0),
  ('ioprio_get', 1, 0),
  ('fcntl', 0, fcntl.F_GETFD, 0),
  ('fcntl', 0, fcntl.F_SETFL, os.O_NONBLOCK),
  ('clock_getres', 2, 0),
  ('prctl', 38, 1, 0, 0, 0),  # PR_SET_NO_NEW_PRIVS
]
# All other calls that libseccomp knows by name: none of them reaches a process
# that is no child of the caller, but by files or by taking up the machine.
REVIEWED = """
  read write open close stat fstat lstat poll lseek mmap mprotect munmap brk
  rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64 readv writev access
  pipe select sched_yield mremap msync mincore madvise dup dup2 pause nanosleep
  getitimer alarm setitimer getpid sendfile recvfrom recvmsg shutdown
  getsockname getpeername setsockopt getsockopt exit wait4 uname shmdt flock
  fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir
  rmdir creat link unlink symlink readlink chmod fchmod chown fchown lchown
  umask gettimeofday getrlimit getrusage sysinfo times getuid getgid geteuid
  getegid getppid getpgrp getgroups getresuid getresgid rt_sigpending
  rt_sigtimedwait rt_sigsuspend sigaltstack utime uselib ustat statfs fstatfs
  sysfs sched_get_priority_max sched_get_priority_min mlock munlock mlockall
  munlockall _sysctl arch_prctl setrlimit sync create_module get_kernel_syms
  query_module getpmsg putpmsg afs_syscall tuxcall security gettid readahead
  setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr
  llistxattr flistxattr removexattr lremovexattr fremovexattr time futex
  set_thread_area io_destroy io_getevents io_submit io_cancel get_thread_area
  epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64
  set_tid_address restart_syscall fadvise64 timer_settime timer_gettime
  timer_getoverrun timer_delete exit_group epoll_wait epoll_ctl utimes vserver
  mbind set_mempolicy get_mempolicy mq_timedsend mq_timedreceive mq_notify
  mq_getsetattr waitid inotify_init inotify_add_watch inotify_rm_watch openat
  mkdirat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat
  readlinkat fchmodat faccessat pselect6 ppoll set_robust_list splice tee
  sync_file_range vmsplice utimensat epoll_pwait signalfd timerfd_create eventfd
  fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1
  dup3 pipe2 inotify_init1 preadv pwritev recvmmsg syncfs getcpu renameat2
  getrandom membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect
  pkey_alloc pkey_free statx io_pgetevents rseq close_range openat2 faccessat2
  epoll_pwait2 landlock_create_ruleset landlock_add_rule landlock_restrict_self
  futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack
  futex_wake futex_wait futex_requeue uretprobe uprobe lsm_get_self_attr
  lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
  removexattrat file_getattr file_setattr
""".split()

# Filters itself, then makes calls and prints the errors that they get.
CALLER = """
import ctypes, json, sys
from critic_jax.execution import code_host
filter_, calls = json.loads(sys.argv[1])
code_host.confine({}, bytes.fromhex(filter_))
libc = ctypes.CDLL(None, use_errno=True)
errors = []
for call in calls:
  ctypes.set_errno(0)
  failed = libc.syscall(*map(ctypes.c_long, call)) == -1
  errors.append(ctypes.get_errno() if failed else 0)
print(json.dumps(errors))
"""


def names():
  """Names of this architecture's calls, as libseccomp knows them, by number."""
  library = ctypes.CDLL('libseccomp.so.2')
  library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
  library.seccomp_arch_native.restype = ctypes.c_uint32
  arch = ctypes.c_uint32(library.seccomp_arch_native())
  by_number = {
    number: library.seccomp_syscall_resolve_num_arch(arch, number)
    for number in range(1024)
  }
  return {k: name.decode() for k, name in by_number.items() if name}


def errors(calls):
  """The errors of numbered calls behind the filter."""
  arguments = json.dumps([syscalls.make_filter().hex(), calls])
  process = subprocess.run(
    [sys.executable, '-c', CALLER, arguments],
    stdin=subprocess.PIPE, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert process.returncode == 0, process.stderr
  return json.loads(process.stdout)


@pytest.fixture
def other():
  """Another process, which goes on undisturbed."""
  with subprocess.Popen(['sleep', '60']) as process:
    yield process
    assert process.poll() is None
    process.kill()


def test_no_call_names_another_process(other):
  numbers = {name: number for number, name in names().items()}
  clock = (~other.pid << 3) | 2
  values = {P: other.pid, 'clock': clock}
  calls = [call for call in [*NAMING, *ABOUT_ITSELF] if call[0] in numbers]
  results = errors(
    [[numbers[c[0]], *(values.get(x, x) for x in c[1:])] for c in calls]
  )
  reached = {
    call: os.strerror(error)
    for call, error in zip(calls, results, strict=True)
    if (error == errno.EPERM) != (call in NAMING)
  }
  assert not reached


def test_every_refused_call_is_tried():
  tried = {name for name, *_ in NAMING}
  ruled = {*syscalls.OWN_ONLY, *syscalls.COMMANDS, *syscalls.CLOCKS}
  assert ruled <= tried
  assert not set(syscalls.REFUSED) & ruled
  assert len(syscalls.REFUSED) == len(set(syscalls.REFUSED))


def test_every_call_is_refused_or_reviewed():
  """A call of a newer kernel is reviewed when `LAST_REVIEWED` is raised."""
  ruled = {*syscalls.OWN_ONLY, *syscalls.COMMANDS, *syscalls.CLOCKS}
  known = {
    name for number, name in names().items()
    if number <= syscalls.LAST_REVIEWED
  }  # fmt: skip
  if os.uname().machine in ('x86_64', 'aarch64'):
    assert not known - {*syscalls.REFUSED} - ruled - {*REVIEWED}
  assert not {*REVIEWED} & ({*syscalls.REFUSED} | ruled)


def test_calls_of_newer_kernels_do_not_exist():
  last = syscalls.LAST_REVIEWED
  # 524 was once another number of rt_sigqueueinfo; 2**30 is the mark of x32.
  calls = [[last + 1, 0], [524, 0, 0, 0], [1000, 0], [2**30 + 39]]
  assert errors(calls) == [errno.ENOSYS] * 4
  assert errors([[last, -1, 0, 0, 0, 0]]) != [errno.EPERM]


def test_a_signal_by_way_of_a_pipe_does_not_arrive(other):
  """The kernel sends SIGIO, or another, when a pipe has something to read."""
  program = """
import fcntl, json, os, sys
from critic_jax.execution import code_host
filter_, pid = json.loads(sys.argv[1])
code_host.confine({}, bytes.fromhex(filter_))
read_end, write_end = os.pipe()
for command, value in [(fcntl.F_SETOWN, pid), (fcntl.F_SETSIG, 9),
                       (fcntl.F_SETFL, os.O_ASYNC)]:
  try:
    fcntl.fcntl(read_end, command, value)
    print('done')
  except PermissionError:
    pass
os.write(write_end, b'x')
"""
  arguments = json.dumps([syscalls.make_filter().hex(), other.pid])
  output = subprocess.run(
    [sys.executable, '-c', program, arguments],
    capture_output=True, text=True, check=True,
  ).stdout  # fmt: skip
  assert output == ''
