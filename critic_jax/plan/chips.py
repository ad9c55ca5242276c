"""Chips as plain data: the figures of their makers' data sheets.

TPUs: docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e}; interconnect there is given
for both directions, half of it is here, and the network is the hosts' cards
over their chips. GPUs: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200
SXM, dense rates (H100's and H200's sheets print those with sparsity, twice as
many); NVLink, half of both directions, and the cards of a DGX, one a GPU. 'cpu'
is the machine of LOG.md, 2 cores, as `critic_jax.bench` measured it.
"""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
  """The figures of one device.

  Attributes:
    memory: bytes.
    flops: flops a second of matrix products in bfloat16.
    float32_flops: flops a second as jax multiplies float32 by default: in one
      pass of bfloat16 on TPUs, in TF32 on GPUs.
    bandwidth: bytes a second of its memory.
    link: bytes a second that it sends to chips beside it.
    network: bytes a second that it sends to others.
    domain: number of chips that are beside each other.
    platform: jax's name for devices of its kind.
  """

  memory: float
  flops: float
  float32_flops: float
  bandwidth: float
  link: float
  network: float
  domain: int
  platform: str


CHIPS = {
  'v5e': Chip(
    memory=16e9, flops=197e12, float32_flops=197e12, bandwidth=819e9,
    link=200e9, network=3.1e9, domain=256, platform='tpu',
  ),
  'v5p': Chip(
    memory=95 * 2**30, flops=459e12, float32_flops=459e12, bandwidth=2765e9,
    link=600e9, network=6.2e9, domain=8960, platform='tpu',
  ),
  'v6e': Chip(
    memory=32e9, flops=918e12, float32_flops=918e12, bandwidth=1638e9,
    link=400e9, network=12.5e9, domain=256, platform='tpu',
  ),
  'a100': Chip(
    memory=80e9, flops=312e12, float32_flops=156e12, bandwidth=2039e9,
    link=300e9, network=25e9, domain=8, platform='gpu',
  ),
  'h100': Chip(
    memory=80e9, flops=989e12, float32_flops=494e12, bandwidth=3350e9,
    link=450e9, network=50e9, domain=8, platform='gpu',
  ),
  'h200': Chip(
    memory=141e9, flops=989e12, float32_flops=494e12, bandwidth=4800e9,
    link=450e9, network=50e9, domain=8, platform='gpu',
  ),
  'cpu': Chip(
    memory=24e9, flops=466e9, float32_flops=466e9, bandwidth=47e9,
    link=47e9, network=1e9, domain=1, platform='cpu',
  ),
}  # fmt: skip
