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
    float32_flops: the same as jax multiplies float32 by default: in one pass
      of bfloat16 on TPUs, in TF32 on GPUs.
    bandwidth: bytes a second of its memory.
    link: bytes a second that it sends to chips beside it.
    network: bytes a second that it sends to others.
    domain: number of chips that are beside each other.
  """

  memory: float
  flops: float
  float32_flops: float
  bandwidth: float
  link: float
  network: float
  domain: int


# memory, flops, float32_flops, bandwidth, link, network, domain
CHIPS = {
  'v5e': Chip(16e9, 197e12, 197e12, 819e9, 200e9, 3.1e9, 256),
  'v5p': Chip(95 * 2**30, 459e12, 459e12, 2765e9, 600e9, 6.2e9, 8960),
  'v6e': Chip(32e9, 918e12, 918e12, 1638e9, 400e9, 12.5e9, 256),
  'a100': Chip(80e9, 312e12, 156e12, 2039e9, 300e9, 25e9, 8),
  'h100': Chip(80e9, 989e12, 494e12, 3350e9, 450e9, 50e9, 8),
  'h200': Chip(141e9, 989e12, 494e12, 4800e9, 450e9, 50e9, 8),
  'cpu': Chip(24e9, 466e9, 466e9, 47e9, 47e9, 1e9, 1),
}
