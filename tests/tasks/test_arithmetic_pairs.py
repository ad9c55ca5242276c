import random

import pytest

from critic_jax.tasks import arithmetic, arithmetic_pairs


def compare(noise=0.0, max_slips=3, num=200):
  return [
    arithmetic_pairs.solutions(
      problem, random.Random(problem.id), max_slips=max_slips, noise=noise
    )
    for problem in arithmetic.problems('train', num, min_steps=2, max_steps=4)
  ]


def test_a_right_solution_and_a_wrong_one():
  for comparison in compare():
    problem, (right, wrong) = comparison.problem, comparison.responses
    assert right.text == problem.solution and right.parsed['correct']
    assert not wrong.parsed['correct']
    assert arithmetic.first_error(problem, wrong.text) >= 0
    assert right.scores == dict(preference=1.0, right_share=1.0)
    assert wrong.scores['preference'] == 0 <= wrong.scores['right_share'] < 1
    assert (right.index, wrong.index) == (0, 1) and not comparison.messages


def test_so_many_labels_are_wrong_and_the_gold_is_kept():
  comparisons = compare(noise=0.3)
  flipped = [c for c in comparisons if c.responses[0].scores['preference'] == 0]
  assert all(c.responses[1].scores['preference'] == 1 for c in flipped)
  assert 40 < len(flipped) < 80  # 60 of 200, two standard errors are 13
  for with_noise, clean in zip(comparisons, compare(), strict=True):
    for ours, theirs in zip(with_noise.responses, clean.responses, strict=True):
      assert ours.text == theirs.text
      assert ours.scores['right_share'] == theirs.scores['right_share']
  assert len([c for c in compare(noise=1.0)
              if c.responses[0].scores['preference'] == 0]) == 200  # fmt: skip


def test_a_problem_has_the_same_label_whenever_it_comes():
  first, second = ([c.responses[0].scores for c in compare(noise=0.5)]
                   for _ in range(2))  # fmt: skip
  assert first == second


def test_one_slip_is_one():
  shares = {
    round((1 - c.responses[1].scores['right_share'])
          * len(arithmetic.read_steps(c.problem.solution)), 5)
    for c in compare(max_slips=1)
  }  # fmt: skip
  assert shares == {1.0}


def test_noise_is_a_probability():
  with pytest.raises(ValueError, match='noise: got 1.5; expected 0 to 1'):
    compare(noise=1.5, num=1)
