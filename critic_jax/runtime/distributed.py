"""Several processes run one program, and divide its costs on the host.

Every process runs the same loop on the same examples and has all records of a
step, so that all that follows from them (rewards, advantages, batches, metrics)
is the same everywhere and the same as in one process. Costs are shared: each
process samples responses to every n-th prompt on its own devices, grades every
n-th answer with its own graders, and gives the others its results. Updates use
all devices together. The first process writes all files.

The exchange goes through the coordination service that jax.distributed starts,
under names that count; so threads may exchange at once. A process that dies is
noticed by its missing heartbeat and ends the others. A process that lives, and
says nothing for `WAIT_S` or takes no part in a common computation, is an error.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax._src.distributed import global_state  # has no public name

from critic_jax.terminal import printable
from critic_jax.types import Generate, Generation

WAIT_S = 3600.0  # seconds that a process may be later than another
HEARTBEAT_S = 60  # seconds without a sign of life until a process is dead
JOIN_S = 300  # seconds in which all processes start
_SAY_S = 10  # seconds after which a process says whom it waits for
_CHUNK = 2**20  # bytes of one value; the service is not made for more

_ENVIRONMENT = {
  'coordinator_address': 'CRITIC_JAX_COORDINATOR',
  'num_processes': 'CRITIC_JAX_NUM_PROCESSES',
  'process_id': 'CRITIC_JAX_PROCESS_ID',
}
_count = collections.Counter()
_lock = threading.Lock()


def initialize(environment=os.environ) -> None:
  """Joins the other processes of this run, if the environment names any.

  They are named by CRITIC_JAX_COORDINATOR (host:port of the first process),
  CRITIC_JAX_NUM_PROCESSES and CRITIC_JAX_PROCESS_ID, or found by
  jax.distributed on TPU pods and in SLURM's steps of several tasks.
  CRITIC_JAX_HEARTBEAT_S gives the seconds that a process may be silent, and
  CRITIC_JAX_JOIN_S those until all have started: then this process ends with
  an error, as jax's own deadline is an abort.

  Raises:
    ValueError: some of the variables are set and some are not, or cannot be
      meant; or nothing answers at the first process's address.
  """
  settings = {k: environment.get(v) for k, v in _ENVIRONMENT.items()}
  arguments = {k: v for k, v in settings.items() if v}
  if arguments and len(arguments) < len(settings):
    missing = [v for k, v in _ENVIRONMENT.items() if k not in arguments]
    raise ValueError(
      f'environment: got no {", ".join(missing)}; expected all of '
      f'{", ".join(_ENVIRONMENT.values())} or none'
    )
  if not arguments and not _is_cluster(environment):
    return
  for name in ('num_processes', 'process_id'):
    if name in arguments:
      arguments[name] = _number(environment, _ENVIRONMENT[name])
  heartbeat, join_s = HEARTBEAT_S, JOIN_S
  if environment.get('CRITIC_JAX_HEARTBEAT_S'):
    heartbeat = _number(environment, 'CRITIC_JAX_HEARTBEAT_S')
  if environment.get('CRITIC_JAX_JOIN_S'):
    join_s = _number(environment, 'CRITIC_JAX_JOIN_S')
  address = arguments.get('coordinator_address', '')
  with _joining(address or 'an address that the cluster names', join_s):
    if arguments:
      _check_join(**arguments, join_s=join_s)
    jax.distributed.initialize(
      **arguments,
      heartbeat_timeout_seconds=heartbeat,
      initialization_timeout=2 * join_s + 60,  # after ours
    )


@contextlib.contextmanager
def _joining(address: str, join_s: int) -> Iterator[None]:
  """Says whom the block waits for, and ends the process if it takes too long.

  The block waits in C++, where no exception reaches it.
  """

  def say():
    text = (
      f'waiting for the other processes, of which the first is at {address}; '
      f'at most {join_s} s (CRITIC_JAX_JOIN_S)'
    )
    print(printable(text), file=sys.stderr, flush=True)

  def end():
    text = (
      f'error: processes: got not all of them at {address} within {join_s} s; '
      'expected each to start by then, with another CRITIC_JAX_PROCESS_ID and '
      'the same CRITIC_JAX_NUM_PROCESSES; look at their logs, and start all of '
      'them again'
    )
    print(printable(text), file=sys.stderr, flush=True)
    os._exit(1)

  # A little later than the check of the address, whose error says more.
  timers = [threading.Timer(_SAY_S, say), threading.Timer(join_s + 1, end)]
  for timer in timers:
    timer.daemon = True
    timer.start()
  try:
    yield
  finally:
    for timer in timers:
      timer.cancel()


def _check_join(coordinator_address, num_processes, process_id, join_s) -> None:
  """Raises ValueError unless the first process can be reached, or be begun.

  Args:
    coordinator_address: host:port of the first process.
    num_processes: all processes.
    process_id: that of this one.
    join_s: seconds to wait for the first.
  """
  host, _, port = coordinator_address.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(
      f'CRITIC_JAX_COORDINATOR: got {coordinator_address!r}; expected host:port'
    )
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f'CRITIC_JAX_PROCESS_ID: got {process_id}; expected a number from 0 to '
      f'{num_processes - 1}, as CRITIC_JAX_NUM_PROCESSES is {num_processes}'
    )
  try:
    if process_id:
      _reach(host.strip('[]'), int(port), time.monotonic() + join_s)
    else:
      socket.create_server(('', int(port))).close()
  except OSError as error:
    if not process_id:
      raise ValueError(
        f'CRITIC_JAX_COORDINATOR: got the port {port}, where this first '
        f'process cannot listen ({error}); expected a free one; name another'
      ) from None
    raise ValueError(
      f'CRITIC_JAX_COORDINATOR: got no answer from {coordinator_address} '
      f'within {join_s} s ({error}); expected the first process there; start '
      'it, or look at its log'
    ) from None


def _reach(host: str, port: int, deadline: float) -> None:
  """Waits until something listens at an address, or raises OSError."""
  while True:
    remaining = deadline - time.monotonic()
    try:
      socket.create_connection((host, port), max(1.0, remaining)).close()
      return
    except OSError:
      if time.monotonic() + 1 > deadline:
        raise
    time.sleep(min(1.0, max(0.0, remaining)))


def _is_cluster(environment) -> bool:
  """Whether jax.distributed would find other processes by itself."""
  tasks = environment.get('SLURM_STEP_NUM_TASKS', '1')
  hosts = environment.get('TPU_WORKER_HOSTNAMES', '')
  return tasks != '1' or ',' in hosts


def _number(environment, name) -> int:
  if not environment[name].isdecimal():
    raise ValueError(f'{name}: got {environment[name]!r}; expected a number')
  return int(environment[name])


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Ends this process at once if the block raises and others run.

  An orderly end would wait for them, and they for this one.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1:
      raise
    text = (
      f'{traceback.format_exc()}'
      f'error: process {jax.process_index()} of {jax.process_count()} ends: '
      f'{str(error).splitlines()[0] if str(error) else type(error).__name__}\n'
      'If another process ended first, its log says why. Start all of them '
      'again: the run continues from its last checkpoint.'
    )
    print(printable(text), file=sys.stderr, flush=True)
    os._exit(1)


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


def exchange(name: str, payload: bytes) -> list[bytes]:
  """Gives every process the payloads of all, in the order of processes.

  Args:
    name: the kind of exchange; every process exchanges the same number of
      times under a name.
    payload: the bytes of this process.

  Raises:
    TimeoutError: a process sent nothing for `WAIT_S`.
  """
  if jax.process_count() == 1:
    return [payload]
  with _lock:
    _count[name] += 1
    number = _count[name]
  client = global_state.client
  own_index, payloads = jax.process_index(), []
  # Write the parts first: their number tells the others that all are there.
  parts = [payload[i : i + _CHUNK] for i in range(0, len(payload), _CHUNK)]
  for i, part in enumerate(parts):
    client.key_value_set_bytes(f'{name}/{number}/{own_index}/{i}', part)
  client.key_value_set_bytes(f'{name}/{number}/{own_index}', b'%d' % len(parts))
  for other in range(jax.process_count()):
    payloads.append(_read(client, f'{name}/{number}/{other}', other))
  # A process that has given this payload has read all earlier ones.
  client.key_value_delete(f'{name}/{number - 1}/{own_index}')
  return payloads


def _read(client, key, process) -> bytes:
  milliseconds = int(WAIT_S * 1000)
  try:
    number = int(client.blocking_key_value_get_bytes(key, milliseconds))
    return b''.join(
      client.blocking_key_value_get_bytes(f'{key}/{i}', milliseconds)
      for i in range(number)
    )
  except jax.errors.JaxRuntimeError as error:
    raise TimeoutError(
      f'process {process}: got nothing from it under {key} ({error}); '
      f'expected it to be as far as this one within {WAIT_S:.0f} s; look at '
      'its log, and start all processes again'
    ) from error


def wait(name: str) -> None:
  """Waits until every process has called this."""
  exchange(f'wait/{name}', b'')


def finished(arrays):
  """Waits for arrays that the devices of all processes compute.

  Devices wait without end for those of a process that lives and takes no part.
  After `WAIT_S` this process prints where it waits, and ends.
  """
  if jax.process_count() > 1:
    timer = threading.Timer(WAIT_S, _give_up)
    timer.daemon = True
    timer.start()
    try:
      jax.block_until_ready(arrays)
    finally:
      timer.cancel()
  return arrays


def _give_up() -> None:
  faulthandler.dump_traceback(all_threads=True)
  text = (
    f'error: process {jax.process_index()} of {jax.process_count()} ends: got '
    f'no result of what all devices compute for {WAIT_S:.0f} s; expected the '
    'other processes to take part; look at their logs, and start all of them '
    'again'
  )
  print(printable(text), file=sys.stderr, flush=True)
  os._exit(1)


def agreed(name: str, value):
  """Returns the first process's value in all processes; JSON must have it."""
  return json.loads(exchange(f'agree/{name}', json.dumps(value).encode())[0])


def share(items: Sequence) -> Sequence:
  """Returns this process's share of the items: every n-th."""
  return items[jax.process_index() :: jax.process_count()]


def _merged(shares: Sequence[Sequence]) -> list:
  """Merges the shares of all processes, in the order of the items."""
  merged = [None] * sum(map(len, shares))
  for process, items in enumerate(shares):
    merged[process :: len(shares)] = items
  return merged


def joined(name: str, arrays):
  """Puts the rows of all processes one behind the other, in their order.

  Args:
    name: the kind of exchange.
    arrays: a tree of numpy arrays, [rows, ...] each, of the same shapes in all
      processes.
  """
  leaves, structure = jax.tree.flatten(arrays)
  payload = b''.join(x.tobytes() for x in leaves)
  payloads, start, results = exchange(name, payload), 0, []
  for x in leaves:
    parts = [p[start : start + x.nbytes] for p in payloads]
    rows = np.frombuffer(bytearray(b''.join(parts)), x.dtype)
    results.append(rows.reshape(-1, *x.shape[1:]))
    start += x.nbytes
  return structure.unflatten(results)


def sharing(generate: Generate) -> Generate:
  """Makes a sampler that all processes call alike; each samples a share."""
  if jax.process_count() == 1:
    return generate

  def generate_together(prompts, keys, n, max_prompts=0):
    indices = share(range(len(prompts)))
    picked = np.zeros(len(keys), np.int32)  # of one length: one program
    picked[: len(indices)] = indices
    max_prompts = -(-max(max_prompts, len(prompts)) // jax.process_count())
    responses = generate(
      [prompts[i] for i in indices], keys[picked], n, max_prompts
    )
    payloads = exchange('generate', _packed(responses))
    return _merged([_unpacked(payload, n) for payload in payloads])

  return generate_together


def sharing_grades(grade: Callable) -> Callable:
  """Makes a grader that all processes call alike; each grades a share."""
  if jax.process_count() == 1:
    return grade

  def grade_together(pairs):
    payloads = exchange('grade', json.dumps(grade(share(pairs))).encode())
    return _merged([json.loads(payload) for payload in payloads])

  return grade_together


def _packed(generations) -> bytes:
  """Writes generations as a line of JSON, then their arrays in a row."""
  flat = [generation for siblings in generations for generation in siblings]
  head = [[len(g.prompt_tokens), len(g.tokens), g.text, g.finish] for g in flat]
  arrays = [(g.prompt_tokens, g.tokens, g.logprobs) for g in flat]
  data = b''.join(array.tobytes() for triple in arrays for array in triple)
  return json.dumps(head).encode() + b'\n' + data


def _unpacked(payload, n) -> list[list[Generation]]:
  head, _, data = payload.partition(b'\n')
  flat, offset = [], 0

  def take(number, dtype):
    nonlocal offset
    offset += 4 * number
    return np.frombuffer(data, dtype, number, offset - 4 * number)

  for num_prompt, number, text, finish in json.loads(head):
    flat.append(
      Generation(
        take(num_prompt, np.int32),
        take(number, np.int32),
        take(number, np.float32),
        text,
        finish,
      )
    )
  return [flat[i : i + n] for i in range(0, len(flat), n)]
