"""Devices to compile for: which there are, and errors before compiling."""

import importlib.util
import os

import jax
import pytest

from critic_jax.plan import topology
from critic_jax.plan.chips import CHIPS
from critic_jax.runtime import compilation


@pytest.mark.libtpu
@pytest.mark.parametrize(
  ('chip', 'sizes', 'kind'),
  [
    ('v5e', dict(fsdp=4, tensor=2), 'TPU v5 lite'),
    ('v6e', dict(fsdp=2, tensor=2, sequence=2), 'TPU v6 lite'),
    ('v5p', dict(fsdp=16, tensor=4), 'TPU v5'),
    ('v6e', dict(fsdp=16, tensor=4), 'TPU v6 lite'),  # of 8x8
    ('v5p', dict(data=1), 'TPU v5'),
  ],
)
def test_a_mesh_of_chips(chip, sizes, kind):
  before = dict(os.environ)
  mesh = topology.make_mesh(chip, sizes)
  assert {k: n for k, n in mesh.shape.items() if n > 1} == {
    k: n for k, n in sizes.items() if n > 1
  }
  assert {d.device_kind for d in mesh.devices.flat} == {kind}
  assert compilation.platform(mesh) == CHIPS[chip].platform == 'tpu'
  assert os.environ == before  # what libtpu reads is not left to children
  assert jax.default_backend() == 'cpu'


@pytest.mark.libtpu
@pytest.mark.parametrize('chip', ('v5e', 'v6e', 'v5p'))
def test_libtpu_knows_every_slice(chip):
  """Large ones share their form with smaller ones."""
  names = topology._all_topologies(chip)
  names = {s: n for s, n in names.items() if n <= 512}
  assert {1, 4, 8, 16, 32, 64, 128, 256} <= set(names.values())
  assert (chip == 'v5p') == ('4x4x16' in names)
  for sides, number in names.items():
    assert len(topology._devices(chip, sides)) == number


def test_slices_are_as_near_to_a_cube_as_they_can_be():
  slices = topology.topologies_of('v5p')
  assert [slices[n] for n in (4, 8, 64, 128, 192, 256, 4096)] == [
    '2x2x1', '2x2x2', '4x4x4', '4x4x8', '4x4x12', '4x8x8', '16x16x16',
  ]  # fmt: skip


def test_a_topology_by_its_name():
  sizes = dict(data=-1, fsdp=4)  # the rest of the named one
  assert topology.find('v5p', sizes, '2x2x4') == '2x2x4'
  assert topology.find('v5e', dict(fsdp=8), 'v5e:2X4') == '2x4'
  # Several slices have 256 chips, and a slice has no order of its sides.
  assert topology.find('v5p', sizes, '4x4x16') == '4x4x16'
  assert topology.find('v5p', sizes, '8x8x4') == '4x8x8'
  assert topology.find('v5p', sizes, '16x4x4') == '4x4x16'
  assert topology.find('v5p', dict(fsdp=4), '1x2x2') == '2x2x1'
  assert topology.find('v6e', dict(fsdp=8), '4x2') == '2x4'
  assert topology.find('cpu', dict(data=5)) == '5'


@pytest.mark.libtpu
@pytest.mark.parametrize(
  ('chip', 'sizes', 'name', 'message'),
  [
    ('v5p', dict(fsdp=6), '', 'mesh: got 6 devices of v5p; expected a number '
     'that forms a topology: 1, 4, 8, 16, 32, 64, 128'),
    ('v5e', dict(fsdp=512), '', 'mesh: got 512 devices of v5e; .*128, 256$'),
    ('v5p', dict(fsdp=8), '3x3x3', "topology: got '3x3x3' of v5p; expected "
     'one of 1x1x1, 2x2x1, 2x2x2, 2x2x4, 2x4x4, 4x4x4, .* 16x16x24$'),
    ('v5p', dict(fsdp=8), '4x4x6', "topology: got '4x4x6' of v5p"),
    ('v6e', dict(fsdp=8), '2x2x2', "topology: got '2x2x2' of v6e"),
    ('v5e', dict(fsdp=16), 'v5e:2x4', "mesh: got {.*'fsdp': 16.*} for 8 dev"),
    ('v5p', dict(fsdp=3, tensor=-1), '2x2x2', "'tensor': -1.* for 8 devices"),
  ],
)  # fmt: skip
def test_what_does_not_exist_or_fit_is_told(chip, sizes, name, message):
  with pytest.raises(ValueError, match=message):
    topology.make_mesh(chip, sizes, name)


def test_a_number_of_gpus_that_no_hosts_have():
  assert topology.topologies_of('a100')[16] == '2x8'
  assert 12 not in topology.topologies_of('a100')
  with pytest.raises(ValueError, match="topology: got '8x1' of a100"):
    topology.find('a100', dict(fsdp=8), '8x1')  # hosts come first


@pytest.mark.parametrize(
  ('chip', 'extra'), [('v5e', 'tpu'), ('h100', 'gpu'), ('cpu', None)]
)
def test_a_missing_compiler_is_told_before_all_else(chip, extra, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name == 'jax')
  if extra is None:
    return topology.check_compiler(chip)
  with pytest.raises(
    ValueError, match=rf'chip: got {chip} .* pip install -e .\.\[{extra}\]'
  ):
    topology.make_mesh(chip, dict(fsdp=7), 'nonsense')


def test_a_chip_that_does_not_exist():
  with pytest.raises(ValueError, match="chip: got 'v9'"):
    topology.check_compiler('v9')
