"""Runs a worker in a process of its own: a JSON object a line, in and out.

    PYTHON -P worker.py WORKER.py

This script and the workers in peers/ run in the Python of a peer's environment
and import nothing of critic_jax. A worker is a module with one function:

    prepare(setup, by_stages) -> {'versions': {...}, 'sample' or 'update': ...,
                                  'facts': ...}

`setup` has 'model' (the fields of TransformerConfig), 'dtype', 'seed' and
'work' (the fields of `work.Work`, with its 'kind'). Then

    sample(prompts, seed) -> for each stage, its responses as token lists
    update(rows) -> the loss before the update
    facts() -> further facts about a call, such as 'compiled_bytes'

return when the result is on the host; 'facts' may be left out. `by_stages`
makes a `sample` of a `generate`, one stage after the other.

A setup with a 'topology' is of an update that is compiled for one and not run.
Then the module has instead

    lower(setup) -> {'versions': {...}, 'jaxpr': ..., 'lowered': ...}

and the setup has 'mesh', sizes by the axes that are not 1, and 'hlo', the file
that the program's text is written to. The answer is `compiled_facts`.

The first request is {'setup': ...} and is answered by {'versions': ...}; each
further one is {'prompts': ..., 'seed': ...}, answered by 'seconds',
'peak_bytes' (the process's high-water mark during the call), 'loss' of an
update, and the facts. An error is answered by {'error': its text}.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import resource
import sys
import time
import traceback

_STATUS = pathlib.Path('/proc/self/status')
_CLEAR = pathlib.Path('/proc/self/clear_refs')


def by_stages(work, prompts, generate, seed):
  """Samples a tree, all of a stage before the next.

  Args:
    work: the fields of `work.Work`.
    prompts: token lists of the first stage.
    generate: `(role, prompts, samples, new, seed) -> token lists`, the
      samples of a prompt adjacent.
    seed: the seed of the first stage; later ones count up from it.

  Returns:
    The responses of each stage.
  """
  responses = []
  for number, stage in enumerate(work['stages']):
    if number:
      parent = work['stages'][number - 1]
      template = list(range(1, 1 + stage['template']))
      start = parent['new'] - stage['carry']
      prompts = [
        prompt + response[start:] + template
        for prompt, response in zip(
          _repeat(prompts, parent['samples']), responses[-1], strict=True
        )
      ]
    responses.append(
      generate(
        stage['role'], prompts, stage['samples'], stage['new'], seed + number
      )
    )
  return responses


def _repeat(rows, times):
  return [row for row in rows for _ in range(times)]


def check(work, responses):
  """Raises a ValueError unless every response has its stage's length."""
  rows = work['rows']
  for stage, answers in zip(work['stages'], responses, strict=True):
    rows *= stage['samples']
    lengths = sorted({len(tokens) for tokens in answers})
    if len(answers) != rows or lengths != [stage['new']]:
      raise ValueError(
        f'responses: got {len(answers)} of lengths {lengths}; expected {rows} '
        f'of {stage["new"]} tokens'
      )


def measure(worker, work, prompts, seed):
  """Calls the worker and returns the time, the peak memory and the facts."""
  try:
    _CLEAR.write_text('5')  # the high-water mark starts anew
  except OSError:
    pass  # the mark is that of the process since its start
  start = time.perf_counter()
  if work['stages']:
    responses, outcome = worker['sample'](prompts, seed), {}
  else:
    responses, outcome = None, {'loss': worker['update'](prompts)}
  seconds = time.perf_counter() - start
  if responses is not None:
    check(work, responses)
  facts = worker['facts']() if 'facts' in worker else {}
  return {'seconds': seconds, 'peak_bytes': peak_bytes(), **outcome, **facts}


def compiled_facts(worker, hlo):
  """Compiles what `lower` gives: the compiler's figures of a device."""
  start = time.perf_counter()
  compiled = worker['lowered'].compile()
  seconds = time.perf_counter() - start
  pathlib.Path(hlo).write_text(compiled.as_text())
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  flops = load(pathlib.Path(__file__).with_name('jaxpr_flops.py'))
  return {
    'versions': worker['versions'],
    'all_flops': flops.count(worker['jaxpr']),
    'arguments': memory.argument_size_in_bytes,
    'temporaries': memory.temp_size_in_bytes,
    'results': memory.output_size_in_bytes - memory.alias_size_in_bytes,
    'compile_seconds': seconds,
    'cost_analysis': {k: v for k, v in cost.items() if '{' not in k},
  }


def peak_bytes():
  """Returns the high-water mark of this process's memory, in bytes."""
  try:
    match = re.search(r'VmHWM:\s*(\d+) kB', _STATUS.read_text())
  except OSError:
    match = None
  if match:
    return int(match[1]) * 1024
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def load(path):
  """Loads a module from its file: its name may be that of a package."""
  spec = importlib.util.spec_from_file_location('bench_worker', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def serve(path, requests, answer):
  """Answers each line of `requests`."""
  worker = work = None
  for line in requests:
    request = json.loads(line)
    try:
      if 'topology' in request.get('setup', ()):
        worker = load(path).lower(request['setup'])
        answer(compiled_facts(worker, request['setup']['hlo']))
      elif 'setup' in request:
        work = request['setup']['work']
        worker = load(path).prepare(request['setup'], by_stages)
        answer({'versions': worker['versions']})
      else:
        answer(measure(worker, work, request['prompts'], request['seed']))
    except Exception as error:
      traceback.print_exc()
      text = ' '.join(str(error).split())
      answer({'error': f'{type(error).__name__}: {text[:500]}'})


def main():
  """Serves on stdin and stdout."""
  # Libraries print to stderr: stdout is for answers alone.
  out = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)

  def answer(reply):
    out.write(json.dumps(reply) + '\n')
    out.flush()

  serve(sys.argv[1], sys.stdin, answer)


if __name__ == '__main__':
  main()
