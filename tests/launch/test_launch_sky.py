"""Runs as SkyPilot's managed jobs: their tasks, and that each is there once."""

import importlib.util
import json
import os
import subprocess
import sys

import grids
import pytest
from rich.console import Console

from critic_jax.launch import __main__ as launch
from critic_jax.launch import sky

TPUS = sky.Machines(
  'tpu-v5litepod-16', 'gcp/us-west4/us-west4-a', 'v2-alpha', 1, True, 'gs://b/c'
)
GPUS = sky.Machines('H100:8', '', '', 2, False, 'gs://b')


def test_a_slice_is_one_node_and_gpus_find_each_other():
  tpus, gpus = (sky.task(m, 'abc', ['python', '$x']) for m in (TPUS, GPUS))
  assert tpus['resources'] == {
    'accelerators': 'tpu-v5litepod-16',
    'infra': 'gcp/us-west4/us-west4-a',
    'use_spot': True,
    'accelerator_args': {'runtime_version': 'v2-alpha'},
  }
  assert tpus['run'] == "python '$x'\n" and '[tpu]' in tpus['setup']
  assert gpus['resources'] == {'accelerators': 'H100:8'}
  assert '[gpu]' in gpus['setup'] and gpus['num_nodes'] == 2
  code = gpus['run'].replace("python '$x'", 'env | grep CRITIC_JAX | sort')
  variables = {
    'SKYPILOT_NODE_IPS': '10.0.0.1\n10.0.0.2', 'SKYPILOT_NUM_NODES': '2',
    'SKYPILOT_NODE_RANK': '1', 'PATH': '/usr/bin:/bin',
  }  # fmt: skip
  process = subprocess.run(
    ['bash', '-c', code], env=variables, capture_output=True, text=True
  )
  assert process.stdout.split() == [
    'CRITIC_JAX_COORDINATOR=10.0.0.1:8476',
    'CRITIC_JAX_NUM_PROCESSES=2',
    'CRITIC_JAX_PROCESS_ID=1',
  ]


@pytest.mark.parametrize('machines', [TPUS, GPUS])
def test_skypilot_takes_the_tasks(machines, tmp_path):
  """Its own validation does, where it is installed."""
  if importlib.util.find_spec('sky') is None:
    pytest.skip('needs pip install skypilot')
  file = tmp_path / 'task.yaml'
  file.write_text(sky.text(sky.task(machines, 'abc', ['python', "'$x' \n#"])))
  code = (
    'import sys, sky; task = sky.Task.from_yaml(sys.argv[1]);'
    ' print(task.num_nodes, list(task.resources)[0].accelerators, task.run)'
  )
  process = subprocess.run(
    [sys.executable, '-c', code, file], capture_output=True, text=True,
    cwd=tmp_path, env=os.environ | {'HOME': str(tmp_path)},
  )  # fmt: skip
  assert process.returncode == 0, process.stderr
  [kind] = {'H100', 'tpu-v5litepod-16'} & {machines.accelerators.split(':')[0]}
  assert f'{machines.nodes} {{{kind!r}:' in process.stdout
  assert "python ''\"'\"'$x'\"'\"' \n#'" in process.stdout


def start(tmp_path, monkeypatch, answer, status=0):
  """Launches a grid of three with a stand-in for sky, which keeps its words."""
  tools = tmp_path / 'tools'
  tools.mkdir()
  (tools / 'sky').write_text(
    f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
    f'if [ "$2" = queue ]; then cat {tmp_path}/answer; exit {status}; fi\n'
  )
  (tools / 'sky').chmod(0o755)
  (tmp_path / 'answer').write_text(answer)
  monkeypatch.setenv('PATH', f'{tools}:/usr/bin:/bin')
  monkeypatch.setattr(sky, 'sync', lambda *_: ['true'])
  words = [str(grids.write(tmp_path)), f'--workdir={tmp_path / "runs"}']
  words += ['--on=sky', '--accelerators=L4:1', '--bucket=gs://b/c']
  console = Console(record=True, width=200)
  launch.launch(launch.parse(words), console)
  return console.export_text()


def test_a_run_that_is_under_way_is_not_started_again(tmp_path, monkeypatch):
  runs = launch.runs.load([grids.write(tmp_path)])[0].runs
  names = [sky.name(run.digest) for run in runs]
  jobs = [{'job_name': names[1], 'status': 'RUNNING'}, {'job_name': None}]
  text = start(tmp_path, monkeypatch, json.dumps(jobs))
  assert text.count(': submitted') == 2
  assert f'{runs[1].name}: is under way already' in text
  files = [tmp_path / 'runs' / 'sky' / f'{names[i]}.yaml' for i in (0, 2)]
  assert (tmp_path / 'calls').read_text().splitlines()[1:] == [
    f'jobs launch --yes --detach-run {file}' for file in files
  ]
  assert f'name: "{names[0]}"' in files[0].read_text()
  assert f'sky jobs cancel --name={names[1]}' in text


def test_what_sky_answers_is_told(tmp_path, monkeypatch):
  with pytest.raises(
    ValueError, match="sky: got 'no controller'; expected the"
  ):
    start(tmp_path, monkeypatch, 'no controller', status=1)
  monkeypatch.setenv('PATH', str(tmp_path / 'none'))
  with pytest.raises(ValueError, match='sky: got no such command'):
    sky.unfinished()
