"""Combinators of grids."""

import pytest

from configs import grid

A = grid.sweep('a', [1, 2])
B = grid.sweep('b', ['x', 'y'])


def test_sweep():
  assert A == [{'a': 1}, {'a': 2}]
  assert grid.sweep('a.b', range(1)) == [{'a.b': 0}]


@pytest.mark.parametrize('values', ['wrong', []])
def test_a_sweep_has_values(values):
  with pytest.raises(ValueError, match='sweep of gate: got .*list of values'):
    grid.sweep('gate', values)


def test_product_is_each_with_each_the_last_fastest():
  assert grid.product(A, B) == [
    {'a': 1, 'b': 'x'},
    {'a': 1, 'b': 'y'},
    {'a': 2, 'b': 'x'},
    {'a': 2, 'b': 'y'},
  ]
  assert len(grid.product(A, B, grid.sweep('c', [1, 2, 3]))) == 12
  assert grid.product(A) == A


def test_zipped_is_first_with_first():
  assert grid.zipped(A, B) == [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}]
  with pytest.raises(ValueError, match=r'got grids of \[2, 1\]'):
    grid.zipped(A, grid.sweep('b', [1]))


def test_chain_is_one_after_the_other():
  assert grid.chain(B, A) == [{'b': 'x'}, {'b': 'y'}, {'a': 1}, {'a': 2}]


@pytest.mark.parametrize('combine', [grid.product, grid.zipped])
def test_a_name_is_swept_once(combine):
  with pytest.raises(ValueError, match=r"got \['a'\] in two grids"):
    combine(A, grid.sweep('a', [3, 4]))


def test_points_are_not_shared():
  points = grid.chain(grid.product(A), grid.product(A))
  points[0]['a'] = 9
  assert points[2] == {'a': 1} and A[0] == {'a': 1}
