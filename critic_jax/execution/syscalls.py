"""The system calls that processes of graders may not make, as a seccomp filter.

The filter refuses what a pure program can do without: to start processes and
threads, run files, open sockets, send signals, trace, mount, and every call
that names another process. Where such a call may also be about the caller, its
arguments decide. Calls that are newer than the ones reviewed here do not exist
for the filtered process; the others are allowed: it is no list of what is.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import tempfile
import termios
from typing import NamedTuple

# The numbers of calls from 424 on are those of all architectures.
LAST_REVIEWED = 469  # file_setattr, of Linux 6.17

REFUSED = """
  fork vfork clone clone3 execve execveat
  socket socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg
  kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open
  pidfd_send_signal pidfd_getfd ptrace process_vm_readv process_vm_writev
  process_madvise process_mrelease kcmp setpriority ioprio_set
  sched_setaffinity sched_setscheduler sched_setparam sched_setattr
  migrate_pages move_pages setpgid setsid capget capset
  mount umount2 pivot_root chroot unshare setns mknod mknodat open_by_handle_at
  name_to_handle_at fsopen fsmount fsconfig fspick move_mount open_tree
  open_tree_attr mount_setattr statmount listmount
  swapon swapoff quotactl quotactl_fd fanotify_init fanotify_mark
  memfd_create memfd_secret shmget shmat shmctl msgget msgsnd msgrcv msgctl
  semget semop semtimedop semctl mq_open mq_unlink
  io_uring_setup io_uring_enter io_uring_register io_setup userfaultfd bpf
  perf_event_open keyctl add_key request_key personality seccomp
  init_module finit_module delete_module kexec_load kexec_file_load reboot
  acct syslog settimeofday clock_settime adjtimex clock_adjtime sethostname
  setdomainname setuid setgid setreuid setregid setresuid setresgid setgroups
  setfsuid setfsgid
  ioperm iopl modify_ldt vhangup lookup_dcookie nfsservctl
""".split()
# The place of an argument that names a process: 0 is the caller, and allowed.
OWN_ONLY = {
  'prlimit64': 0, 'getpgid': 0, 'getsid': 0, 'get_robust_list': 0,
  'sched_getaffinity': 0, 'sched_getscheduler': 0, 'sched_getparam': 0,
  'sched_getattr': 0, 'sched_rr_get_interval': 0,
  'getpriority': 1, 'ioprio_get': 1,
}  # fmt: skip
# Commands, by the place of the argument: to send signals or bytes to others, or
# to make them wait; to outlive who started the process, or join others.
_F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP, _TIOCLINUX = 15, 0x8901, 0x8902, 0x541C
_TIOCSIG = 0x40045436
_PR_SET_PTRACER, _PR_SCHED_CORE = 0x59616D61, 62
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
COMMANDS = {
  'fcntl': (1, (
    fcntl.F_SETOWN, _F_SETOWN_EX, fcntl.F_SETSIG, fcntl.F_SETLEASE,
    fcntl.F_NOTIFY,
  )),
  'ioctl': (1, (
    termios.FIOASYNC, termios.TIOCSTI, termios.TIOCSPGRP, termios.TIOCSCTTY,
    _FIOSETOWN, _SIOCSPGRP, _TIOCLINUX, _TIOCSIG, termios.TIOCSWINSZ,
    termios.TIOCEXCL, termios.TCXONC,
  )),
  'prctl': (0, (
    _PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_PTRACER, _PR_SCHED_CORE,
  )),
}  # fmt: skip
# The clocks of other processes have negative numbers.
CLOCKS = ('clock_gettime', 'clock_getres', 'clock_nanosleep', 'timer_create')

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NOT_EQUAL, _MASKED_EQUAL = 1, 7  # SCMP_CMP_...
_INT = 2**32 - 1  # the kernel ignores the upper half of an argument


class _Comparison(ctypes.Structure):
  """libseccomp's `struct scmp_arg_cmp`."""

  _fields_ = [
    ('place', ctypes.c_uint),
    ('operator', ctypes.c_int),
    ('value', ctypes.c_uint64),
    ('masked_value', ctypes.c_uint64),
  ]


class _Rule(NamedTuple):
  """Refuses a call if all its comparisons hold."""

  name: str
  comparisons: tuple[tuple[int, int, int, int], ...] = ()


def _rules() -> list[_Rule]:
  rules = [_Rule(name) for name in REFUSED]
  for name, place in OWN_ONLY.items():
    rules.append(_Rule(name, ((place, _NOT_EQUAL, 0, 0),)))
  for name, (place, commands) in COMMANDS.items():
    for command in commands:
      rules.append(_Rule(name, ((place, _MASKED_EQUAL, _INT, command),)))
  for name in CLOCKS:
    rules.append(_Rule(name, ((0, _MASKED_EQUAL, 2**31, 2**31),)))
  is_command = (1, _MASKED_EQUAL, _INT, fcntl.F_SETFL)
  is_async = (2, _MASKED_EQUAL, os.O_ASYNC, os.O_ASYNC)
  return [*rules, _Rule('fcntl', (is_command, is_async))]


def make_filter() -> bytes:
  """Returns the filter for `code_host.confine`; b'' without libseccomp."""
  library = _library()
  if library is None:
    return b''
  context = library.seccomp_init(_ALLOW)
  try:
    for name, comparisons in _rules():
      number = library.seccomp_syscall_resolve_name(name.encode())
      if number >= 0:  # else unknown to libseccomp or to this architecture
        array = (_Comparison * len(comparisons))(*comparisons)
        if library.seccomp_rule_add_array(
          context, _ERRNO | errno.EPERM, number, len(array), array
        ):
          return b''
    with tempfile.TemporaryFile() as file:
      if library.seccomp_export_bpf(context, file.fileno()):
        return b''
      file.seek(0)
      return _no_newer_calls() + file.read()
  finally:
    library.seccomp_release(context)


def _library() -> ctypes.CDLL | None:
  try:
    library = ctypes.CDLL('libseccomp.so.2')
  except OSError:
    return None
  library.seccomp_init.restype = ctypes.c_void_p
  library.seccomp_init.argtypes = [ctypes.c_uint32]
  library.seccomp_rule_add_array.argtypes = [
    *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
    ctypes.POINTER(_Comparison),
  ]
  library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
  library.seccomp_release.argtypes = [ctypes.c_void_p]
  return library


def _no_newer_calls() -> bytes:
  """Returns instructions that end the filter for calls of greater numbers.

  These are also the numbers by which a kernel before 5.5 knows some refused
  calls once more, for x32 programs.
  """
  instruction = struct.Struct('HBBI')  # code, jumps if true and if false, value
  load_number, if_greater, answer = 0x20, 0x25, 0x06
  return b''.join(
    instruction.pack(*fields)
    for fields in (
      (load_number, 0, 0, 0),
      (if_greater, 0, 1, LAST_REVIEWED),
      (answer, 0, 0, _ERRNO | errno.ENOSYS),
    )
  )
