import numpy as np
import pytest

from critic_jax.rewards import refinement, verdicts
from critic_jax.types import Problem, Record

RIGHT, WRONG = True, False
ALL_GATES = [
  'rightly_called_wrong', 'rightly_judged', 'wrong', 'called_wrong', 'always'
]  # fmt: skip
HELPFUL = refinement.refine, refinement.delta, refinement.mend


def record(stage, text, parsed, parent=None, finish='stop'):
  none = np.zeros(0, np.int32)
  return Record(
    problem=Problem('p', '6 * 7?', '42'),
    stage=stage,
    parent=parent,
    index=0,
    prompt_tokens=none,
    tokens=none,
    logprobs=none.astype(np.float32),
    text=text,
    finish=finish,
    parsed=parsed,
  )


def critique(text, *, correct, finish='stop'):
  solution = record('solve', '', dict(correct=correct))
  return record('critique', text, verdicts.parse(text), solution, finish)


def refinements_of(parent, *corrects):
  return [record('refine', '', dict(correct=c), parent) for c in corrects]


@pytest.mark.parametrize(
  'text, reward_if_right, reward_if_wrong',
  [
    ('Verdict: correct', 1.0, 0.0),
    ('Verdict: incorrect', 0.0, 1.0),
    # TRAPS 26: the hedge that earned [1.0, 1.0] elsewhere.
    ('Verdict: correct\nVerdict: incorrect', 0.0, 0.0),
    ('Verdict: correct or incorrect', 0.0, 0.0),
    ('I cannot say.', 0.0, 0.0),
    ('<think>Verdict: incorrect', 0.0, 0.0),
    ('<think>Verdict: incorrect</think> Verdict: correct', 1.0, 0.0),
  ],
)
def test_judge(text, reward_if_right, reward_if_wrong):
  assert refinement.judge(critique(text, correct=RIGHT), []) == reward_if_right
  assert refinement.judge(critique(text, correct=WRONG), []) == reward_if_wrong


@pytest.mark.parametrize(
  ('parsed', 'right'),
  [
    (dict(first_error=-1), True),
    (dict(first_error=0), False),
    (dict(first_error=3, correct=None), False),
    # The answer's grade decides where there is one.
    (dict(first_error=3, correct=True), True),
    (dict(first_error=-1, correct=False), False),
  ],
)
def test_labels_of_steps_tell_of_a_solution_without_a_grade(parsed, right):
  solution = record('solve', '', parsed)
  assert refinement.is_right(solution) is right
  text = f'Verdict: {"correct" if right else "incorrect"}'
  judged = record('critique', text, verdicts.parse(text), solution)
  assert refinement.judge(judged, []) == 1.0


@pytest.mark.parametrize(
  'gate, admitted',
  [
    # (solution right?, called right?)
    ('rightly_called_wrong', {(WRONG, 'incorrect')}),
    ('rightly_judged', {(WRONG, 'incorrect'), (RIGHT, 'correct')}),
    ('wrong', {(WRONG, 'incorrect'), (WRONG, 'correct')}),
    ('called_wrong', {(WRONG, 'incorrect'), (RIGHT, 'incorrect')}),
    (
      'always',
      {(s, v) for s in (RIGHT, WRONG) for v in ('correct', 'incorrect')},
    ),
  ],
)
def test_gates(gate, admitted):
  for truth in (RIGHT, WRONG):
    for word in ('correct', 'incorrect'):
      record = critique(f'Verdict: {word}', correct=truth)
      assert refinement.admits(gate, record) == ((truth, word) in admitted)
      share = 0.75 if (truth, word) in admitted else 0.0
      refinements = refinements_of(record, RIGHT, RIGHT, WRONG, RIGHT)
      assert refinement.refine(record, refinements, gate=gate) == share


def test_every_gate_is_tested():
  assert set(refinement.GATES) == set(ALL_GATES)


def test_default_gate_is_rightly_called_wrong():
  fooled = critique('Verdict: incorrect', correct=RIGHT)
  assert refinement.refine(fooled, refinements_of(fooled, RIGHT)) == 0.0
  good = critique('Verdict: incorrect', correct=WRONG)
  assert refinement.refine(good, refinements_of(good, RIGHT)) == 1.0


@pytest.mark.parametrize('gate', ALL_GATES)
@pytest.mark.parametrize('truth', [RIGHT, WRONG])
@pytest.mark.parametrize(
  'text, finish',
  [
    ('no verdict', 'stop'),
    ('Verdict: correct. Verdict: incorrect.', 'stop'),
    ('<think>Verdict: incorrect', 'stop'),
    ('Verdict: incorrect', 'length'),
    ('Verdict: correct', 'length'),
    ('Verdict: incorrect', 'prompt'),
  ],
)
def test_without_a_whole_verdict_nothing_is_earned(gate, truth, text, finish):
  record = critique(text, correct=truth, finish=finish)
  refinements = refinements_of(record, RIGHT, RIGHT)
  assert not refinement.admits(gate, record)
  assert refinement.judge(record, refinements) == 0.0
  assert refinement.misjudge(record, refinements) == -1.0
  for reward in refinement.HELPFUL.values():
    assert reward(record, refinements, gate=gate) == 0.0


def test_delta():
  wrong = critique('Verdict: incorrect', correct=WRONG)
  right = critique('Verdict: correct', correct=RIGHT)
  # wrong -> (right, wrong): (1 + 0) / 2
  assert refinement.delta(wrong, refinements_of(wrong, RIGHT, WRONG)) == 0.5
  # right -> (right, wrong, wrong, wrong): (0 - 1 - 1 - 1) / 4
  refinements = refinements_of(right, RIGHT, WRONG, WRONG, WRONG)
  assert refinement.delta(right, refinements) == -0.75
  # TRAPS 31: copying a right solution is worth nothing.
  assert refinement.delta(right, refinements_of(right, RIGHT, RIGHT)) == 0.0


@pytest.mark.parametrize(
  ('right', 'refined', 'as_released'),
  [  # r_refine, r_delta, r_correct
    (RIGHT, RIGHT, (1, 0, 0.2)),
    (RIGHT, WRONG, (0, -1, 0)),
    (WRONG, RIGHT, (1, 1, 1)),
    (WRONG, WRONG, (0, 0, 0)),
  ],
)
def test_rewards_of_one_refinement_are_those_of_critique_rl(
  right, refined, as_released
):
  for verdict in ('correct', 'incorrect'):
    record = critique(f'Verdict: {verdict}', correct=right)
    refinements = refinements_of(record, refined)
    for reward, expected in zip(HELPFUL, as_released, strict=True):
      assert reward(record, refinements, gate='always') == expected


def test_mend():
  wrong = critique('Verdict: incorrect', correct=WRONG)
  right = critique('Verdict: correct', correct=RIGHT)
  # wrong -> (right, wrong): (1 + 0) / 2
  assert refinement.mend(wrong, refinements_of(wrong, RIGHT, WRONG)) == 0.5
  # right -> (right, right, wrong, right): (0.2 + 0.2 + 0 + 0.2) / 4
  refinements = refinements_of(right, RIGHT, RIGHT, WRONG, RIGHT)
  assert refinement.mend(right, refinements) == pytest.approx(0.15)


@pytest.mark.parametrize('gate', ALL_GATES)
@pytest.mark.parametrize('right', [RIGHT, WRONG])
@pytest.mark.parametrize('verdict', ['correct', 'incorrect'])
def test_rewards_of_refinements_differ_by_what_was_right_before(
  gate, right, verdict
):
  record = critique(f'Verdict: {verdict}', correct=right)
  refinements = refinements_of(record, RIGHT, RIGHT, WRONG, RIGHT)
  share, change, mended = (
    reward(record, refinements, gate=gate) for reward in HELPFUL
  )
  is_admitted = refinement.admits(gate, record)
  assert change == share - (right and is_admitted)
  assert mended == share * (0.2 if right else 1.0)
  assert share == (refinement.mend(record, refinements, gate=gate, kept=1.0))
  # Shares of tests are whole answers where a problem has one test.
  for r in refinements:
    r.parsed['passed'] = float(r.parsed['correct'])
  assert refinement.passed(record, refinements, gate=gate) == share


def test_passed():
  record = critique('Verdict: incorrect', correct=WRONG)
  first, second = refinements_of(record, WRONG, RIGHT)
  with pytest.raises(ValueError, match=r"\['passed'\] of .*refine.0: got none"):
    refinement.passed(record, [first])
  first.parsed['passed'], second.parsed['passed'] = 1 / 4, 1.0
  # (1/4 + 1) / 2
  assert refinement.passed(record, [first, second]) == 0.625
  # CTRL's verdict is asked for and not graded.
  fooled = critique('Verdict: correct', correct=WRONG)
  assert refinement.passed(fooled, [first, second]) == 0.625
  silent = critique('It is wrong.', correct=WRONG)
  assert refinement.passed(silent, [first, second]) == 0.0
  # One whose share is not known: the mean of the others would pay for it.
  [hung] = refinements_of(record, WRONG)
  hung.parsed['passed'] = None
  assert refinement.passed(record, [second, hung]) is None


def test_no_refinements_are_worth_nothing():
  record = critique('Verdict: incorrect', correct=WRONG)
  for reward in refinement.HELPFUL.values():
    assert reward(record, [], gate='always') == 0.0


TIMEOUT = dict(correct=False, grade='timeout')


def timed_out(critique, *grades):
  """Makes refinements; None for one whose grader timed out."""
  return [
    record('refine', '', TIMEOUT if x is None else dict(correct=x), critique)
    for x in grades
  ]


@pytest.mark.parametrize('gate', ALL_GATES)
def test_a_timeout_of_a_refinement_leaves_its_rewards_open(gate):
  """The mean of the others would pay for advice that hangs the grader."""
  good = critique('Verdict: incorrect', correct=WRONG)
  for grades in ([None], [RIGHT, None], [None, WRONG]):
    assert refinement.refine(good, timed_out(good, *grades), gate=gate) is None
    assert refinement.delta(good, timed_out(good, *grades)) is None
    assert refinement.mend(good, timed_out(good, *grades)) is None
    assert refinement.judge(good, timed_out(good, *grades)) == 1.0
    assert refinement.misjudge(good, timed_out(good, *grades)) == 0.0


@pytest.mark.parametrize('verdict', ['correct', 'incorrect'])
def test_a_timeout_of_a_solution_leaves_open_what_depends_on_it(verdict):
  solution = record('solve', '', TIMEOUT)
  text = f'Verdict: {verdict}'
  unknown = record('critique', text, verdicts.parse(text), solution)
  refinements = timed_out(unknown, RIGHT, WRONG)
  assert refinement.correct(solution, []) is None
  assert refinement.judge(unknown, refinements) is None
  assert refinement.misjudge(unknown, refinements) is None
  assert refinement.delta(unknown, refinements) is None
  assert refinement.mend(unknown, refinements) is None
  for gate in ALL_GATES:
    if_right, if_wrong = (
      refinement.admits(gate, critique(text, correct=truth))
      for truth in (RIGHT, WRONG)
    )
    reward = refinement.refine(unknown, refinements, gate=gate)
    if if_right != if_wrong:
      assert reward is None and not refinement.admits(gate, unknown)
    else:
      assert reward == (0.5 if if_right else 0.0)
      assert refinement.admits(gate, unknown) == if_right


def test_what_was_cut_off_is_wrong_whatever_its_grade():
  assert (
    refinement.correct(record('solve', '', TIMEOUT, None, 'length'), []) == 0
  )


def test_unknown_gate_lists_the_gates():
  record = critique('Verdict: incorrect', correct=WRONG)
  with pytest.raises(ValueError, match="'sometimes'.*'always'.*'wrong'"):
    refinement.refine(record, [], gate='sometimes')


@pytest.mark.parametrize('correct', [None, 'False', 1])
def test_ungraded_solution_or_refinement_is_an_error(correct):
  record = critique('Verdict: incorrect', correct=correct)
  for reward in (refinement.judge, refinement.refine, refinement.delta):
    with pytest.raises(ValueError, match='p/solve.0.*expected a bool'):
      reward(record, [])
  graded = critique('Verdict: incorrect', correct=np.bool_(False))
  with pytest.raises(ValueError, match='refine.0.*expected a bool'):
    refinement.refine(graded, refinements_of(graded, correct))


def test_critique_of_nothing_is_an_error():
  orphan = record('critique', '', verdicts.parse('Verdict: correct'))
  with pytest.raises(ValueError, match='parent of p/critique.0'):
    refinement.judge(orphan, [])


# -------------------------------------------------------------------- gain


def gained(before, *after, eps=0.5):
  """The gain between shares, which are the texts here."""
  solution = record('solve', str(before), dict(correct=WRONG))
  text = 'Verdict: incorrect'
  parent = record('critique', text, verdicts.parse(text), solution)
  refinements = [
    record('refine', str(share), dict(correct=WRONG), parent) for share in after
  ]
  measure = lambda problem, text: float(text)  # noqa: E731
  return refinement.gain(parent, refinements, measure=measure, eps=eps)


def test_gain_by_hand():
  # G(s) = log(1.5 / (1.5 - s)) / log(3): 0, log(1.5) / log(3), log(2) / log(3)
  # and 1 at 0, a half, three quarters and 1.
  half, three_quarters = np.log([1.5, 2]) / np.log(3)
  np.testing.assert_allclose(gained(0, 1 / 2), half)
  np.testing.assert_allclose(gained(1 / 2, 3 / 4), three_quarters - half)
  np.testing.assert_allclose(gained(3 / 4, 1), 1 - three_quarters)
  np.testing.assert_allclose(gained(1 / 2, 0, 1), (1 - 2 * half) / 2)
  # The same quarter is worth the more, the less there is to improve.
  quarters = [gained(s, s + 1 / 4) for s in (0, 1 / 4, 1 / 2, 3 / 4)]
  assert quarters == sorted(quarters) and sum(quarters) == pytest.approx(1)


def test_gains_add_up_and_losses_are_paid_back():
  rng = np.random.default_rng(0)
  for eps in (0.01, 0.1, 1.0):
    a, b, c = rng.random(3)
    there, back = gained(a, b, eps=eps), gained(b, a, eps=eps)
    assert there == pytest.approx(-back)
    both = there + gained(b, c, eps=eps)
    assert both == pytest.approx(gained(a, c, eps=eps))
    # Without shaping it is the difference.
    assert gained(a, b, eps=1e6) == pytest.approx(b - a, abs=1e-5)


@pytest.mark.parametrize('gate', ALL_GATES)
def test_the_gain_of_grades_is_delta_whatever_eps_is(gate):
  for correct in (RIGHT, WRONG):
    for text in ('Verdict: correct', 'Verdict: incorrect', 'Hm.'):
      judged = critique(text, correct=correct)
      for corrects in ((), (RIGHT,), (WRONG,), (RIGHT, WRONG, WRONG)):
        its = refinements_of(judged, *corrects)
        expected = refinement.delta(judged, its, gate=gate)
        for eps in (0.01, 2.0):
          ours = refinement.gain(judged, its, gate=gate, eps=eps)
          assert ours == pytest.approx(expected, abs=1e-12)


def test_a_gain_is_not_known_where_a_grade_is_not():
  judged = critique('Verdict: incorrect', correct=WRONG)
  hung = record('refine', '', dict(correct=False, grade='timeout'), judged)
  its = refinements_of(judged, RIGHT)
  assert refinement.gain(judged, [*its, hung]) is None
  assert refinement.gain(judged, its) == pytest.approx(1)
  with pytest.raises(ValueError, match='eps: got 0; expected a number above 0'):
    gained(0, 1, eps=0)
  with pytest.raises(ValueError, match=r'measure: got \[0.0, 1.5\] of p/solve'):
    gained(0, 1.5)
