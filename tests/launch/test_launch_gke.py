"""Runs as job sets: what they are, and that each is there once."""

import json
import os
import pathlib

import grids
import pytest
from rich.console import Console

from critic_jax.launch import __main__ as launch
from critic_jax.launch import gke

STAND_INS = pathlib.Path(__file__).parent / 'stand_ins'
PODS = gke.Pods('image', 'tpu-v5-lite-podslice', '4x4', 4, 4, 'gs://b/c/d')


def pod(job_set):
  (job,) = job_set['spec']['replicatedJobs']
  spec = job['template']['spec']
  assert spec['parallelism'] == spec['completions']
  return spec['template']['spec']


def test_pods_find_each_other_and_the_bucket():
  job_set = gke.manifest(PODS, 'abc', ['python', '$(HOME) $x'])
  spec = pod(job_set)
  (container,) = spec['containers']
  assert container['command'] == ['python', '$$(HOME) $$x']
  env = {e['name']: e.get('value') for e in container['env']}
  assert env == {
    'CRITIC_JAX_COORDINATOR': 'critic-abc-workers-0-0.critic-abc:8476',
    'CRITIC_JAX_NUM_PROCESSES': '4',
    'CRITIC_JAX_PROCESS_ID': None,  # the pod's index
  }
  assert container['resources'] == {'limits': {'google.com/tpu': 4}}
  (volume,) = spec['volumes']
  assert volume['csi']['volumeAttributes'] == {
    'bucketName': 'b', 'mountOptions': 'implicit-dirs,only-dir=c/d'
  }  # fmt: skip
  assert container['volumeMounts'][0]['mountPath'] == '/critic_jax/runs'


def test_gpus_and_one_pod():
  pods = gke.Pods('image', 'nvidia-h100-80gb', '', 1, 8, 'gs://b')
  spec = pod(gke.manifest(pods, 'abc', ['python']))
  assert spec['nodeSelector'] == {
    'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'
  }
  (container,) = spec['containers']
  assert container['env'] == []
  assert container['resources'] == {'limits': {'nvidia.com/gpu': 8}}


def test_pods_make_up_the_topology():
  with pytest.raises(ValueError, match='topology: got 4x4 with 2 nodes of 4'):
    gke.manifest(PODS._replace(nodes=2), 'abc', ['python'])


def test_a_run_is_submitted_once_and_again_when_it_failed(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('PATH', f'{STAND_INS}:{os.environ["PATH"]}')
  monkeypatch.setenv('STAND_IN', str(tmp_path))
  path = grids.write(tmp_path)
  runs = launch.runs.load([path])[0].runs
  names = [gke.name(run.digest) for run in runs]
  items = [
    {'metadata': {'name': names[0]}, 'status': {'terminalState': 'Failed'}},
    {'metadata': {'name': names[1]}, 'status': {}},
  ]
  (tmp_path / 'jobsets').write_text(json.dumps({'items': items}))
  words = [str(path), f'--workdir={tmp_path / "runs"}', '--on=gke']
  words += ['--image=i', '--accelerator=nvidia-l4', '--bucket=gs://b/c']
  monkeypatch.setattr(launch.tpu, 'sync', lambda *_: ['true'])
  console = Console(record=True, width=200)
  launch.launch(launch.parse(words), console)
  applied = (tmp_path / 'applied').read_text()
  manifests = [
    json.loads(part) for part in applied.replace('}{', '}\n{').split('\n')
  ]
  assert [job['metadata']['name'] for job in manifests] == [names[0], names[2]]
  calls = (tmp_path / 'calls').read_text()
  assert calls.count('delete jobset') == 1 and f'jobset {names[0]}' in calls
  text = console.export_text()
  assert text.count(': submitted') == 2
  assert f'{runs[1].name}: is under way already' in text
  assert f'jobset-name={names[2]}' in text
