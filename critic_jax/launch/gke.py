"""GKE: each run is a job set, whose pods train it together.

A job set is named by its run's digest, so no run has two. Its pods mount the
bucket as `runs`, start the same command, and find each other by the
variables CRITIC_JAX_*. If a node is preempted, all pods are started again on
others, which is no failure, and the run continues from its last checkpoint.

Written from the documentation of Google and JobSet and never run on a cluster
by us.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FOLDER = '/critic_jax'  # the working directory of the image
_PORT = 8476
_WORKERS = 'workers'  # the name of the job


class Pods(NamedTuple):
  """The pods of a run.

  Attributes:
    image: an image with this checkout in /critic_jax, as tpu_scripts/Dockerfile
      makes it.
    accelerator: GKE's name, e.g. 'tpu-v5-lite-podslice' or 'nvidia-h100-80gb'.
    topology: the shape of the TPUs, e.g. '4x4'; '' for GPUs.
    nodes: number of pods, each on a node of its own.
    chips: accelerators of each node.
    bucket: gs://NAME/FOLDER, which is mounted.
  """

  image: str
  accelerator: str
  topology: str
  nodes: int
  chips: int
  bucket: str


def name(digest: str) -> str:
  """Returns the name of a run's job set."""
  return f'critic-{digest}'


def manifest(pods: Pods, digest: str, command: Sequence[str]) -> dict[str, Any]:
  """Returns a run's job set.

  Args:
    pods: the pods that it runs on.
    digest: the run's digest.
    command: the words that each pod starts; no shell reads them.

  Raises:
    ValueError: the pods do not make up the topology.
  """
  shape = [int(n) for n in re.findall(r'\d+', pods.topology)]
  if shape and math.prod(shape) != pods.nodes * pods.chips:
    raise ValueError(
      f'topology: got {pods.topology} with {pods.nodes} nodes of {pods.chips} '
      f'chips; expected {math.prod(shape)} chips; give --nodes and --chips'
    )
  job = {
    'parallelism': pods.nodes,
    'completions': pods.nodes,
    'backoffLimit': 0,
    # An evicted pod has this condition; any other failure is the command's.
    'podFailurePolicy': {
      'rules': [
        {
          'action': 'FailJob',
          'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}],
        }
      ]
    },
    'template': {
      'metadata': {'annotations': {'gke-gcsfuse/volumes': 'true'}},
      'spec': _pod(pods, digest, command),
    },
  }
  preempted = {
    'action': 'RestartJobSetAndIgnoreMaxRestarts',
    'onJobFailureReasons': ['PodFailurePolicy'],
  }
  workers = {'name': _WORKERS, 'replicas': 1, 'template': {'spec': job}}
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {'name': name(digest)},
    'spec': {
      'failurePolicy': {'maxRestarts': 0, 'rules': [preempted]},
      'replicatedJobs': [workers],
    },
  }


def _pod(pods: Pods, digest: str, command: Sequence[str]) -> dict[str, Any]:
  tpu = pods.accelerator.startswith('tpu')
  kind = 'gke-tpu-accelerator' if tpu else 'gke-accelerator'
  nodes = {f'cloud.google.com/{kind}': pods.accelerator}
  if tpu:
    nodes['cloud.google.com/gke-tpu-topology'] = pods.topology
  bucket, _, folder = pods.bucket.removeprefix('gs://').partition('/')
  options = ['implicit-dirs', f'only-dir={folder}' if folder else '']
  attributes = {
    'bucketName': bucket,
    'mountOptions': ','.join(filter(None, options)),
  }
  container = {
    'name': 'train',
    'image': pods.image,
    'workingDir': FOLDER,
    # Kubernetes replaces $(NAME) in a command; $$ is a $.
    'command': [word.replace('$', '$$') for word in command],
    'env': _processes(pods, digest),
    'resources': {
      'limits': {'google.com/tpu' if tpu else 'nvidia.com/gpu': pods.chips}
    },
    'volumeMounts': [{'name': 'runs', 'mountPath': f'{FOLDER}/runs'}],
  }
  driver = {
    'driver': 'gcsfuse.csi.storage.gke.io',
    'volumeAttributes': attributes,
  }
  return {
    'restartPolicy': 'Never',
    'nodeSelector': nodes,
    'containers': [container],
    'volumes': [{'name': 'runs', 'csi': driver}],
  }


def _processes(pods: Pods, digest: str) -> list[dict[str, Any]]:
  """Returns the variables by which the pods find each other."""
  if pods.nodes == 1:
    return []
  first = f'{name(digest)}-{_WORKERS}-0-0.{name(digest)}'
  index = 'batch.kubernetes.io/job-completion-index'
  field = {'fieldRef': {'fieldPath': f"metadata.annotations['{index}']"}}
  return [
    {'name': 'CRITIC_JAX_COORDINATOR', 'value': f'{first}:{_PORT}'},
    {'name': 'CRITIC_JAX_NUM_PROCESSES', 'value': str(pods.nodes)},
    {'name': 'CRITIC_JAX_PROCESS_ID', 'valueFrom': field},
  ]


LIST = ('kubectl', 'get', 'jobsets', '--output=json')
APPLY = ('kubectl', 'apply', '--filename=-')


def states() -> dict[str, str]:
  """Returns the cluster's job sets: 'Completed', 'Failed', or '' under way.

  Raises:
    ValueError: the cluster does not answer.
  """
  result = subprocess.run(LIST, capture_output=True, text=True, check=False)
  if result.returncode:
    raise ValueError(
      f'kubectl: got {result.stderr.strip()!r}; expected the job sets of a '
      f'cluster; see whether `{" ".join(LIST)}` works'
    )
  return {
    item['metadata']['name']: item.get('status', {}).get('terminalState', '')
    for item in json.loads(result.stdout)['items']
  }


def submit(job_set: Mapping[str, Any], job_states: Mapping[str, str]) -> str:
  """Submits a run's job set, and returns what was done in words.

  Args:
    job_set: the result of `manifest`.
    job_states: the result of `states`; a job set of the same name that has
      ended is deleted first.

  Raises:
    ValueError: a command failed.
  """
  job_name = job_set['metadata']['name']
  if job_states.get(job_name) == '':
    return 'is under way already'
  if job_name in job_states:
    _call(delete(job_name))
  _call(APPLY, json.dumps(job_set))
  return 'submitted'


def delete(job_name: str) -> list[str]:
  """Returns the words that delete a job set."""
  return ['kubectl', 'delete', 'jobset', job_name]


def follow(job_name: str) -> list[str]:
  """Returns the words that show a job set's output."""
  selector = f'--selector=jobset.sigs.k8s.io/jobset-name={job_name}'
  return ['kubectl', 'logs', '--follow', '--prefix', selector]


def _call(words: Sequence[str], text: str = '') -> None:
  result = subprocess.run(words, input=text, text=True, check=False)
  if result.returncode:
    raise ValueError(
      f'command: got exit status {result.returncode} of {" ".join(words)}; '
      'expected 0'
    )
