"""A queue that stays open: prompts of many callers through the same lanes.

Where `scheduler.run` ends with its prompts, an engine takes prompts from any
thread for as long as it lives. A lane has one row; each prompt has a seed, a
temperature, a limit and texts to stop at of its own, and takes the next lane
that is free, beside those under way. Decoding ends after a few steps, so that
prompts which have just come need not wait, and a lane whose caller has gone is
free at once.

A text depends on its own seed and number, and not on its neighbours.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.runtime import sharding
from critic_jax.sampling import decode, scheduler
from critic_jax.sampling.lanes import Lanes, constrain, empty_lanes
from critic_jax.sampling.lm import LM
from critic_jax.types import Params

_STEPS = 16  # tokens of a row until waiting prompts are looked for
_MAX_WAITING = 1024  # prompts in the queue


class FullError(RuntimeError):
  """The queue has no room."""


class Completion(NamedTuple):
  """A response.

  Attributes:
    text: what is given of it included, and without the text that it ended at.
    num_tokens: tokens that were sampled, the end of sequence included.
    finish: 'stop', or 'length' where it was cut at its limit.
  """

  text: str
  num_tokens: int
  finish: str


@dataclasses.dataclass(eq=False)
class Job:
  """A prompt, and the response that it waits for.

  Attributes:
    prompt: its tokens, at most the last of the model's `lengths`.
    sampling_params: temperature, top-k and top-p.
    max_new_tokens: at most the model's.
    seed: of its randomness, 0 to 2**32 - 1.
    number: tells apart the responses to a prompt of one seed.
    stop: texts that the response ends before.
    future: its `Completion`; once cancelled it needs no lane.
  """

  prompt: Sequence[int]
  sampling_params: SamplingParams
  max_new_tokens: int
  seed: int = 0
  number: int = 0
  stop: tuple[str, ...] = ()
  future: Future = dataclasses.field(default_factory=Future)


class Engine:
  """Samples what is submitted, in a thread of its own, until it is closed.

  Args:
    lm: the model without its parameters.
    params: its parameters.
    num_lanes: L, responses at once.
  """

  def __init__(self, lm: LM, params: Params, num_lanes: int):
    self.lm = lm
    self._params, self._num_lanes = params, num_lanes
    self._queue: collections.deque[Job] = collections.deque()
    self._changed = threading.Condition()
    self._is_closed = False
    self._error: Exception | None = None
    self._settings = dict(eos=np.array(lm.tokenizer.eos, np.int32))
    self._of_lanes = SamplingParams(
      np.ones(num_lanes, np.float32),
      np.zeros(num_lanes, np.int32),
      np.ones(num_lanes, np.float32),
    )
    self._thread = threading.Thread(target=self._run, daemon=True)

  def start(self) -> None:
    """Compiles what sampling needs, and begins to sample.

    Two prompts that begin alike and one that does not are all programs.
    """
    self._thread.start()
    prompt = [self.lm.tokenizer.eos[0]] * self.lm.lengths[0]
    params = self.lm.sampling_params
    jobs = [Job(prompt, params, 1) for _ in range(2 * self._num_lanes)]
    self.submit([*jobs, Job([prompt[0]], params, 1)])
    for job in jobs:
      job.future.result()

  def submit(self, jobs: Sequence[Job]) -> None:
    """Adds jobs to the queue, all or none.

    Raises:
      FullError: there are too many.
      RuntimeError: sampling has failed, or was closed.
    """
    with self._changed:
      if self._error or self._is_closed:
        reason = self._error or 'closed'
        raise RuntimeError(f'sampling has ended: {reason}') from self._error
      if len(self._queue) + len(jobs) > _MAX_WAITING:
        # Of those that wait, some may have been given up.
        waiting = [x for x in self._queue if not x.future.cancelled()]
        self._queue = collections.deque(waiting)
        if len(waiting) + len(jobs) > _MAX_WAITING:
          raise FullError(f'{len(waiting)} prompts wait')
      self._queue.extend(jobs)
      self._changed.notify()

  def close(self) -> None:
    """Ends sampling after the tokens under way; what waits is cancelled."""
    with self._changed:
      self._is_closed = True
      self._changed.notify()
    self._thread.join()

  def _take(self, number: int, *, waits: bool) -> list[Job] | None:
    """Returns at most `number` jobs of the queue; None to end."""
    with self._changed:
      while waits and not self._queue and not self._is_closed:
        self._changed.wait()
      if self._is_closed:
        return None
      jobs = []
      while self._queue and len(jobs) < number:
        job = self._queue.popleft()
        if not job.future.cancelled():
          jobs.append(job)
      return jobs

  def _run(self) -> None:
    job_of_lane: dict[int, Job] = {}
    try:
      with sharding.on_mesh_of(self._params):
        self._sample(job_of_lane)
    except Exception as error:  # of any kind: nobody else would be told
      logging.getLogger(__name__).exception('sampling has ended')
      self._error = error
    with self._changed:
      waiting, self._is_closed = [*self._queue, *job_of_lane.values()], True
    for job in waiting:
      if self._error and job.future.set_running_or_notify_cancel():
        failure = RuntimeError(f'{type(self._error).__name__}: {self._error}')
        failure.__cause__ = self._error
        job.future.set_exception(failure)
      else:
        job.future.cancel()

  def _sample(self, job_of_lane: dict[int, Job]) -> None:
    """Samples until the queue is closed.

    Args:
      job_of_lane: the job of each lane that is not free; empty, and kept true.
    """
    lm, num_lanes, clock = self.lm, self._num_lanes, 0
    lanes = empty_lanes(
      lm.model, num_lanes, 1, 1, lm.lengths[-1], lm.max_new_tokens
    )
    while True:
      num_free = num_lanes - len(job_of_lane)
      jobs = self._take(num_free, waits=not job_of_lane)
      if jobs is None:
        return
      lanes = self._fill(lanes, job_of_lane, jobs)
      if not job_of_lane:
        continue
      lanes = decode.decode(
        lm.model, self._params, lanes,
        num_lanes - len(job_of_lane) + 1,
        sampling_params=self._of_lanes,
        last_clock=clock + _STEPS,
        **self._settings,
      )  # fmt: skip
      samples, clock = jax.device_get((lanes.samples, lanes.clock))
      is_free = np.ones(num_lanes, bool)
      for lane, job in [*job_of_lane.items()]:
        row = samples.tokens[lane, : samples.length[lane]]
        if self._is_finished(job, row, samples.stopped[lane]):
          del job_of_lane[lane]
        else:
          is_free[lane] = False
      lanes = _free(lanes, is_free)

  def _fill(self, lanes: Lanes, job_of_lane, jobs) -> Lanes:
    """Puts jobs into free lanes, F at a time."""
    num_shards = sharding.num_shards_here('rows')
    size = scheduler.num_inserted(self._num_lanes, num_shards)
    for start in range(0, len(jobs), size):
      part = jobs[start : start + size]
      free = [x for x in range(self._num_lanes) if x not in job_of_lane]
      filled = free[: len(part)]
      job_of_lane |= zip(filled, part, strict=True)
      padding = size - len(part)
      tokens, length, shared_prefixes = scheduler.lay_out(
        [job.prompt for job in part], size, lanes.columns, num_shards
      )
      padded = [*part, *[part[0]] * padding]
      sampling_params = _stacked([job.sampling_params for job in padded])
      for of_lanes, values in zip(self._of_lanes, sampling_params, strict=True):
        of_lanes[filled] = values[: len(part)]
      lanes = decode.insert(
        self.lm.model,
        self._params,
        lanes,
        np.array([*filled, *[self._num_lanes] * padding], np.int32),
        tokens,
        length,
        _keys(
          np.array([job.seed for job in padded], np.uint32),
          np.array([job.number for job in padded], np.int32),
        ),
        sampling_params=sampling_params,
        shared_prefixes=shared_prefixes,
        **self._settings,
      )
    return lanes

  def _is_finished(self, job: Job, tokens, stopped: bool) -> bool:
    """Whether a job needs its lane no more; answers it if it has ended."""
    if job.future.cancelled():
      return True
    is_cut = len(tokens) >= job.max_new_tokens
    if is_cut and len(tokens) > job.max_new_tokens:
      tokens, stopped = tokens[: job.max_new_tokens], False
    if not (stopped or is_cut or job.stop):
      return False
    text = self.lm.decode_response(tokens)
    places = [place for s in job.stop if (place := text.find(s)) >= 0]
    if not (stopped or is_cut or places):
      return False
    finish = 'stop' if stopped or places else 'length'
    text = text[: min(places)] if places else text
    completion = Completion(text, len(tokens), finish)
    if job.future.set_running_or_notify_cancel():
      job.future.set_result(completion)
    return True


def _stacked(params: Sequence[SamplingParams]) -> SamplingParams:
  """Makes an array of each parameter."""
  temperature, top_k, top_p = zip(*params, strict=True)
  return SamplingParams(
    np.array(temperature, np.float32),
    np.array(top_k, np.int32),
    np.array(top_p, np.float32),
  )


@jax.jit
def _keys(seeds, numbers):
  """Makes a key of each seed and number."""
  return jax.vmap(lambda s, i: jax.random.fold_in(jax.random.key(s), i))(
    seeds, numbers
  )


@functools.partial(jax.jit, donate_argnums=0)
def _free(lanes: Lanes, is_free) -> Lanes:
  """Draws nothing more for the lanes that are free, bool[L]."""
  return constrain(lanes._replace(is_done=lanes.is_done | jnp.asarray(is_free)))
