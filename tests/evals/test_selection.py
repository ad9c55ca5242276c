"""Selection among solutions, against the listing of all subsets."""

import dataclasses
import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest

from critic_jax.evals import selection, voting
from critic_jax.evals.statistics import Estimate
from critic_jax.report import eval_plots
from critic_jax.types import Problem, Record

EMPTY = np.zeros(0, np.int32)
YES, NO = 'correct', 'incorrect'


def record(problem, stage, parent, index, parsed, scores=None):
  return Record(
    Problem(problem, '', '0'), stage, parent, index, EMPTY, EMPTY, EMPTY, '',
    'stop', parsed, scores or {},
  )  # fmt: skip


def pool(*solutions, problem='p'):
  """Makes solutions (answer, verdicts, score or none); '0' is right."""
  records = []
  for index, (answer, verdicts, *score) in enumerate(solutions):
    grade = {'0': 'right', None: 'unparsable'}.get(answer, 'wrong')
    parsed = {'answer': answer, 'correct': answer == '0', 'grade': grade}
    scores = {'score': score[0]} if score else {}
    solution = record(problem, 'solve', None, index, parsed, scores)
    records.append(solution)
    for number, verdict in enumerate(verdicts):
      parsed = {'verdict': verdict, 'status': 'ok' if verdict else 'missing'}
      records.append(record(problem, 'critique', solution, number, parsed))
  return records


def values(records, ks=None):
  """Returns the values by method: float[K]."""
  curves = selection.curves(records, ks)
  return {m: [e.value for e in curve.values()] for m, curve in curves.items()}


# The definitions, by listing: everything that may be chosen, equally likely.


def mean(numbers):
  numbers = list(numbers)
  return sum(numbers, Fraction(0)) / len(numbers)


def vote(solutions, weight):
  """Whether the answer is right, over ties; None if no vote has weight."""
  totals = {}
  for solution in solutions:
    if solution[0] is not None:
      answer = solution[0]
      totals[answer] = totals.get(answer, 0) + weight(solution)
  best = max(totals.values(), default=0)
  if best == 0:
    return None
  return mean(a == '0' for a, total in totals.items() if total == best)


def equal_weight(_):
  return 1


def share(solution):
  verdicts = solution[1]
  return Fraction(verdicts.count(YES), len(verdicts)) if verdicts else 0


def accepted_solutions(solutions):
  return [s for s in solutions if share(s) > Fraction(1, 2) and s[0]]


def keep_at_random(solutions):
  number = len(accepted_solutions(solutions))
  voters = [s for s in solutions if s[0]]
  if not number:
    return vote(solutions, equal_weight)
  return mean(
    vote(s, equal_weight) for s in itertools.combinations(voters, number)
  )


def best(solutions):
  scored = any(len(s) > 2 for s in solutions)
  scores = [s[2] if scored else share(s) for s in solutions]
  top = [s for s, x in zip(solutions, scores, strict=True) if x == max(scores)]
  return mean(s[0] == '0' for s in top)


DEFINITIONS = {
  'pass': lambda s: any(x[0] == '0' for x in s),
  'majority': lambda s: vote(s, equal_weight) or 0,
  'filtered': lambda s: (
    vote(accepted_solutions(s), equal_weight)
    if accepted_solutions(s)
    else vote(s, equal_weight) or 0
  ),
  'random_filtered': lambda s: keep_at_random(s) or 0,
  'weighted': lambda s: (
    vote(s, equal_weight) or 0 if vote(s, share) is None else vote(s, share)
  ),
  'best_of': best,
}


def listed(solutions, k):
  """Computes the accuracy of each method over all subsets of k."""
  subsets = list(itertools.combinations(solutions, k))
  return {m: mean(map(fn, subsets)) for m, fn in DEFINITIONS.items()}


def draw(rng, n, *, scored=False):
  """Draws solutions with ties, missing answers and verdicts, 0-3 critiques."""
  names = ['0', '1', '2', '3', None]
  verdicts = [YES, NO, None]
  odds = rng.dirichlet([1, 1, 1])
  return [
    (
      names[rng.choice(5, p=[0.3, 0.25, 0.2, 0.1, 0.15])],
      [verdicts[i] for i in rng.choice(3, rng.integers(4), p=odds)],
      *([int(rng.integers(3))] if scored else []),
    )
    for _ in range(n)
  ]


@pytest.mark.parametrize('seed', range(12))
def test_every_method_agrees_with_the_listing_of_all_subsets(seed):
  rng = np.random.default_rng(seed)
  n = int(rng.integers(2, 8))
  solutions = draw(rng, n, scored=seed % 3 == 0)
  solutions[0] = (solutions[0][0], [YES, NO, YES], *solutions[0][2:])
  ks = list(range(1, n + 1))
  got = values(pool(*solutions), ks)
  assert list(got) == list(selection.METHODS) == list(DEFINITIONS)
  for k in ks:
    for method, value in listed(solutions, k).items():
      assert got[method][k - 1] == pytest.approx(float(value)), (method, k)


def test_by_hand():
  # Three solutions 0, 1, 1; the critic accepts the right one and one of the 1s.
  records = pool(('0', [YES]), ('1', [YES]), ('1', [NO]))
  got = values(records, [1, 2, 3])
  assert got['pass'] == pytest.approx([1 / 3, 2 / 3, 1])
  # k = 2: {0, 1} twice, a tie: 1/2 each; {1, 1}: 0.
  assert got['majority'] == pytest.approx([1 / 3, 1 / 3, 0])
  # k = 2: {0, accepted 1} ties; {0, rejected 1} is 0; {1, 1} is wrong.
  # k = 3: 0 and 1 are kept: a tie.
  assert got['filtered'] == pytest.approx([1 / 3, (1 / 2 + 1) / 3, 1 / 2])
  # k = 2: {0, 1a} keeps both: 1/2; {0, 1b} keeps one of them: 1/2; {1, 1}: 0.
  # k = 3: two of three are kept: 0 and a 1 in two of three cases, then a tie.
  assert got['random_filtered'] == pytest.approx([1 / 3, 1 / 3, 2 / 3 * 1 / 2])


def test_a_problem_whose_prompt_did_not_fit_is_not_solved():
  refused = [
    dataclasses.replace(solution, finish='prompt')
    for solution in pool((None, []), (None, []), problem='long')
  ]
  got = values(pool(('0', []), ('0', [])) + refused, [1, 2])
  assert got['pass'] == pytest.approx([1 / 2, 1 / 2])
  assert got['majority'] == pytest.approx([1 / 2, 1 / 2])


def test_names_and_numbers_of_solutions():
  twelve = [('0', [YES])] * 6 + [('1', [NO])] * 6
  records = pool(*twelve, problem='a') + pool(*twelve, problem='b')
  records += pool(*twelve[4:10], problem='too few') + pool(('0', [YES]))
  records += pool(*twelve, *twelve, problem='drawn twice')
  got = selection.metrics(records)
  assert set(got) == {
    f'{method}@{k}' for method in selection.METHODS for k in (1, 2, 4, 8, 12)
  }
  # The curve is about the same three problems at every k.
  assert {e.n for e in got.values()} == {3}
  assert {e.n for e in selection.curves(records, [1])['pass'].values()} == {5}


def test_nothing_to_select():
  records = pool(('0', [YES])) + pool(('1', [NO]), problem='q')
  for unusable_records in ([], records):
    assert (
      selection.metrics(unusable_records)
      == selection.compare(unusable_records, unusable_records)
      == {}
    )
  # Where sampling is not over, or the grader has not seen a solution.
  ungraded = [dataclasses.replace(r, parsed={}) for r in records[::2]]
  assert selection.metrics(ungraded * 4) == {}


def test_too_large_a_k():
  with pytest.raises(ValueError, match=r'ks: got \[0, 3\]; expected 1\.\.2'):
    selection.curves(pool(('0', []), ('1', [])), [0, 1, 3])


def test_a_problem_drawn_twice_is_one_pool():
  half = [('0', [YES]), ('1', [NO])]
  records = pool(*half) + pool(*half)
  assert values(records, [1, 2, 4]) == values(pool(*half, *half), [1, 2, 4])


def test_the_order_of_records_is_free():
  records = pool(*draw(np.random.default_rng(1), 6), ('0', [YES]))
  for method, value in values(records[::-1]).items():
    assert value == pytest.approx(values(records)[method])


def test_without_a_critic_there_is_no_filter():
  solutions = [('0', []), ('1', []), ('1', [])]
  assert list(values(pool(*solutions))) == ['pass', 'majority']
  scored = [(answer, verdicts, 1.0) for answer, verdicts in solutions]
  assert list(values(pool(*scored))) == ['pass', 'majority', 'best_of']


def test_nothing_is_accepted():
  # Filters fall back to the majority; half of the critiques is no majority.
  for verdicts in ([], [None], [YES, NO], [YES, None]):
    solutions = [(a, verdicts if a == '1' else [NO]) for a in '00112']
    got = values(pool(*solutions))
    assert got['filtered'] == got['majority']
    assert got['random_filtered'] == pytest.approx(got['majority'])


def test_a_contradiction_does_not_accept():
  records = pool(('0', [YES]), ('1', [NO]), ('1', [NO]))
  hedged = {'verdict': YES, 'status': 'contradictory'}
  records = [
    dataclasses.replace(r, parsed=hedged) if r.stage == 'critique' else r
    for r in records
  ]
  got = values(records)
  for method in ('filtered', 'weighted'):
    assert got[method] == pytest.approx(got['majority'])
  assert got['best_of'] == pytest.approx([1 / 3] * 3)  # all are worth nothing


def test_no_solution_has_an_answer():
  got = values(pool(*[(None, [YES])] * 3))
  assert all(value == [0, 0, 0] for value in got.values())


def test_a_solution_without_an_answer_is_not_kept():
  # It would make a filter that keeps nothing else fail to fall back.
  got = values(pool(('0', [NO]), (None, [YES])))
  assert got['filtered'][-1] == got['majority'][-1] == 1


def test_a_right_solution_votes_only_by_an_answer():
  # A benchmark's file may say that a solution is right and not give the answer.
  silent = pool(('0', []), (None, []))
  silent = [
    dataclasses.replace(r, parsed={'answer': None, 'correct': True})
    for r in silent
  ]
  assert values(silent) == {'pass': [1, 1], 'majority': [0, 0]}


def test_a_critic_that_accepts_everything_changes_nothing():
  for seed in range(4):
    rng = np.random.default_rng(seed)
    got = values(pool(*[(a, [YES]) for a, _ in draw(rng, 7)]))
    for method in ('filtered', 'random_filtered', 'weighted'):
      assert got[method] == pytest.approx(got['majority'])


def test_a_perfect_critic_reaches_the_ceiling():
  for seed in range(4):
    solutions = draw(np.random.default_rng(seed), 9)
    got = values(pool(*[(a, [YES if a == '0' else NO]) for a, _ in solutions]))
    for method in ('filtered', 'weighted', 'best_of'):
      assert got[method] == pytest.approx(got['pass'])


def test_pass_grows_with_k_and_bounds_the_rest():
  for seed in range(4):
    solutions = draw(np.random.default_rng(seed), 9)
    got = values(pool(*solutions, ('0', [YES])), range(1, 11))
    assert np.all(np.diff(got['pass']) >= 0)
    for value in got.values():
      assert np.all(np.array(value) <= np.array(got['pass']) + 1e-12)
      assert value[0] == pytest.approx(
        got['pass'][0]
      )  # one solution: no choice


def test_a_blind_critic_is_no_better_than_its_control():
  # Over all ways to accept 2 of 5, the filter is the control.
  metrics = [
    values(pool(*[(a, [YES if i in c else NO]) for i, a in enumerate('00112')]))
    for c in itertools.combinations(range(5), 2)
  ]
  gains = np.subtract(
    [row['filtered'] for row in metrics],
    [row['random_filtered'] for row in metrics],
  )
  np.testing.assert_allclose(gains.mean(0), 0, atol=1e-12)
  assert np.abs(gains).max() > 0.1


def test_equal_answers_vote_together():
  # 1/2 twice and 3 once are wrong; 0 twice is right: a tie, not a win.
  records = pool(('0', []), ('0', []), ('0.5', []), (r'\frac12', []), ('3', []))
  assert values(records)['majority'][-1] == 0.5
  # Right answers are one, however they are written.
  solutions = [
    dataclasses.replace(r, parsed={**r.parsed, 'answer': answer})
    for r, answer in zip(records, ['x=0', 'nil', '1', '1.0', '2'], strict=True)
  ]
  assert values(solutions)['majority'][-1] == 0.5


def test_a_missing_score_is_the_worst():
  records = pool(('1', []), ('0', [], -5.0), ('1', [], math.nan))
  assert values(records)['best_of'][-1] == 1


def test_pass_does_not_overflow():
  right = np.arange(4000) < 3
  # 1 - C(3997, 2000) / C(4000, 2000)
  failure_odds = math.prod(Fraction(2000 - i, 4000 - i) for i in range(3))
  got = voting.pass_at(right, [1, 2000, 3998])
  assert got == pytest.approx([3 / 4000, float(1 - failure_odds), 1])
  assert voting.pass_at(np.ones(3, bool), [1, 3]).tolist() == [1, 1]
  assert voting.pass_at(np.zeros(3, bool), [1, 3]).tolist() == [0, 0]


def test_sampled_votes_are_close_to_counted_ones():
  rng = np.random.default_rng(0)
  labels = rng.choice([-1, 0, 1, 2, 3], 24, p=[0.4, 0.3, 0.2, 0.1, 0])
  weights = rng.integers(0, 5, 24) * (labels >= 0)
  rules = {'majority': labels >= 0, 'filtered': weights > 2}
  rules |= {'weighted': weights}
  exact = voting.counted(labels, [1, 4, 12, 24], rules)
  close = voting.sampled(labels, [1, 4, 12, 24], rules)
  assert exact.keys() == close.keys()
  for name, value in exact.items():
    # Four standard errors, 0.011 each.
    np.testing.assert_allclose(close[name], value, atol=0.045)
    assert close[name][-1] == pytest.approx(
      value[-1], abs=0.045 if name == 'random_filtered' else 1e-9
    )


@pytest.mark.parametrize(('n', 'weight'), [(129, 1), (40, 1000)])
def test_many_solutions_are_sampled(n, weight):
  labels = np.arange(n) % 3 - 1
  accepted = labels == 0
  got = voting.votes(labels, [1, n], accepted, weight * accepted)
  assert got['filtered'][-1] == got['weighted'][-1] == 1
  assert got['majority'][0] == pytest.approx(1 / 3, abs=0.045)
  metrics = voting.votes(np.full(n, -1), [n], accepted, weight * accepted)
  assert all(value == [0] for value in metrics.values())


def test_curves_are_read_back_from_metrics_of_all_protocols():
  records = [r for i in range(3) for r in pool(
    ('0', [YES]), ('1', [NO]), ('0', [NO]), ('2', [YES]), problem=str(i)
  )]  # fmt: skip
  named = {f'selection/{k}': v for k, v in selection.metrics(records).items()}
  other_metrics = {
    'critique/f1': named['selection/pass@1'],
    'accuracy before': None,
  }
  assert selection.curves_of(named | other_metrics) == selection.curves(records)
  assert selection.curves_of(other_metrics) == {}


def test_compare_pairs_problems_and_takes_what_both_have():
  def side(verdicts, n):
    solutions = [('0', verdicts), ('1', verdicts and [NO])] * (n // 2)
    return [r for i in range(5) for r in pool(*solutions, problem=str(i))]

  got = selection.compare(side([NO], 8), side([YES], 4))
  assert set(got) == {f'{m}@{k}' for m in selection.METHODS for k in (1, 2, 4)}
  # Four solutions, two right: an accepted right one beats the tie.
  assert got['filtered@4'][:3] == (0.5, 0.5, 0.5)
  # pass@2 is 1 - C(2,2)/C(4,2) = 5/6 after, 1 - C(4,2)/C(8,2) = 11/14 before.
  assert got['pass@2'].value == pytest.approx(5 / 6 - 11 / 14)
  for sides in itertools.permutations([side([], 4), side([YES], 4)]):
    assert set(selection.compare(*sides)) == {
      f'{m}@{k}' for m in ('pass', 'majority') for k in (1, 2, 4)
    }
  with pytest.raises(ValueError, match='got 4 on one side only'):
    selection.compare(side([NO], 4), side([NO], 4)[:8])
  assert selection.compare(side([NO], 4), []) == {}


def test_three_hundred_problems_take_seconds():
  rng = np.random.default_rng(0)
  records = []
  for number in range(300):
    solutions = [
      (
        str(rng.geometric(0.3) - 1),
        [(YES, NO)[i] for i in rng.integers(2, size=4)],
      )
      for _ in range(16)
    ]
    records += pool(*solutions, problem=str(number))
  start = time.process_time()
  got = selection.metrics(records)
  assert time.process_time() - start < 5
  assert got['majority@16'].low < got['majority@16'].value


def curve(*shares):
  return {2**i: Estimate(x, x - 0.1, x + 0.1, 9) for i, x in enumerate(shares)}


def test_the_figure_is_written_without_a_display(tmp_path, monkeypatch):
  monkeypatch.delenv('DISPLAY', raising=False)
  monkeypatch.setenv('MPLBACKEND', 'TkAgg')  # what pyplot would fail with
  curves = {'pass': curve(0.2, 0.4, 0.7), 'random_filtered': curve(0.2, 0.3)}
  eval_plots.selection_curves(curves, tmp_path / 'selection.png')
  written = (tmp_path / 'selection.png').read_bytes()
  assert written.startswith(b'\x89PNG') and len(written) > 5000
  with pytest.raises(ValueError, match='curves: got none'):
    eval_plots.selection_curves({}, tmp_path / 'none.png')


def test_the_figure_shows_percents_over_k():
  curves = {'pass': curve(0.2, 0.4, 0.7), 'random_filtered': curve(0.2, 0.3)}
  (axes,) = eval_plots._draw_selection(curves).axes
  ceiling, control = axes.lines
  np.testing.assert_allclose(ceiling.get_xydata(), [(1, 20), (2, 40), (4, 70)])
  assert axes.get_xscale() == 'log'
  assert [t.get_text() for t in axes.get_xticklabels()] == ['1', '2', '4']
  assert control.get_label() == 'random filtered'
  for look in ('get_color', 'get_marker', 'get_linestyle'):
    assert getattr(ceiling, look)() != getattr(control, look)()
  bands = [c.get_paths()[0].get_extents() for c in axes.collections]
  assert [(b.y0, b.y1) for b in bands] == [
    pytest.approx((10, 80)),
    pytest.approx((10, 40)),
  ]


def test_best_of_is_the_papers_estimator_of_any_gold():
  """Sorted by score the i-th of N is the best of k in C(i-1, k-1) subsets."""
  random = np.random.default_rng(0)
  scores, gold = random.permutation(9).astype(float), random.normal(size=9)
  ordered = gold[np.argsort(scores)]
  for k in range(1, 10):
    expected = sum(
      math.comb(i - 1, k - 1) / math.comb(9, k) * ordered[i - 1]
      for i in range(k, 10)
    )
    [actual] = voting.best_of(scores, gold, [k])
    assert actual == pytest.approx(expected)
  [one, most] = voting.best_of(scores, gold, [1, 9])
  assert one == pytest.approx(gold.mean())
  assert most == gold[np.argmax(scores)]


def test_best_of_by_drawing_subsets():
  random = np.random.default_rng(1)
  scores, gold = random.integers(0, 4, 8), random.normal(size=8)
  draws = []
  for _ in range(20_000):
    subset = random.choice(8, 3, replace=False)
    tied = subset[scores[subset] == scores[subset].max()]
    draws.append(gold[random.choice(tied)])
  [actual] = voting.best_of(scores, gold, [3])
  assert actual == pytest.approx(np.mean(draws), abs=0.03)
