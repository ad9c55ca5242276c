"""Curves of cost, and the limits of the machine."""

import pytest

from critic_jax.bench import curves, machine
from critic_jax.bench.curves import Curve


def test_slope():
  x = [1, 2, 4, 8]
  assert curves.slope(x, [3 * v for v in x]) == pytest.approx(1)
  assert curves.slope(x, [5 * v**2 for v in x]) == pytest.approx(2)


def test_a_bend_shows_at_the_end():
  x = (1, 2, 4, 8, 16)
  facts = curves.facts(Curve('t', 'x', 'y', x, (1, 1, 1, 2, 4)))
  assert facts['end_slope'] == pytest.approx(1)
  assert facts['slope'] < 0.6


def test_records_are_trees():
  records = curves.make_records(22)
  stages = [record.stage for record in records]
  assert len(records) == 22
  assert [stages.count(s) for s in ('solve', 'critique', 'refine')] == [
    2,
    4,
    16,
  ]
  assert len({record.id for record in records}) == 22


def test_the_host_is_timed():
  assert 0 < curves.host_seconds(22) < 10


def test_sampling_and_updates_are_timed():
  tiny = dict(embed_dim=16, mlp_dim=32, num_layers=1)
  assert curves.sampling_seconds(rows=1, prompt=4, group=2, new=2, **tiny) > 0
  small = curves.update_cost(rows=1, length=8, vocab_size=64, **tiny)
  large = curves.update_cost(rows=1, length=8, vocab_size=4096, **tiny)
  assert small[0] > 0
  assert large[1] > small[1]


def test_a_figure(tmp_path):
  path = tmp_path / 'docs' / 'curves.png'
  curves.draw([Curve('t', 'x', 'y', (1, 2, 4), (1.0, 2.0, 4.0))] * 5, path)
  assert path.stat().st_size > 1000


def test_limits_of_the_machine():
  assert 1e8 < machine.matmul_flops('float32', (64, 128)) < 1e16
  assert 1e8 < machine.bandwidth(1 << 24) < 1e14


def test_best_seconds_leaves_out_the_first_call():
  calls = []
  assert machine.best_seconds(lambda: calls.append(1), repeats=2) < 1
  assert len(calls) == 3
