"""Answers after each of several rounds, on handmade records and scripts."""

import jax
import numpy as np
import pytest
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  grade,
  scripted,
)
from loop_helpers import critique as critique_text

from critic_jax.evals import (
  critic_loop,
  protocols,
  refinement_metrics,
  revision_metrics,
)
from critic_jax.types import Problem, Record
from critic_jax.workdir import run_dir

_NONE = np.zeros(0, np.int32)


def record(stage, parent, index=0, name='p', **parsed):
  problem = Problem(name, '', '12') if parent is None else parent.problem
  return Record(
    problem, stage, parent, index, _NONE, _NONE, np.zeros(0, np.float32), '',
    parsed=parsed,
  )  # fmt: skip


def graded(stage, parent, right, index=0, **about):
  mark = {True: 'right', False: 'wrong', None: 'timeout'}[right]
  return record(stage, parent, index, correct=bool(right), grade=mark, **about)


def chain(right, *rounds, name='p', verdict='incorrect'):
  """A solution; for each round whether the refinement is right."""
  records = [graded('solve', None, right, name=name)]
  for number, after in enumerate(rounds, 1):
    suffix = '' if number == 1 else f'_{number}'
    said = dict(status='ok', verdict=verdict)
    records.append(record(f'critique{suffix}', records[-1], **said))
    if after == 'approved':
      break
    records.append(graded(f'refine{suffix}', records[-1], after))
  return records


def values(records):
  return {k: e.value for k, e in revision_metrics.metrics(records).items()}


def test_by_hand():
  records = [
    *chain(False, False, True, True, name='a'),
    *chain(False, True, False, 'approved', name='b'),
    *chain(True, 'approved', name='c', verdict='correct'),
    *chain(False, True, True, False, name='d'),
  ]
  got = values(records)
  # After each round: a 0 0 1 1, b 0 1 0 0, c 1 1 1 1, d 0 1 1 0.
  assert [got[f'accuracy_{i}'] for i in range(4)] == [
    1 / 4,
    3 / 4,
    3 / 4,
    2 / 4,
  ]
  assert [got[f'wrong_to_right_{i}'] for i in (1, 2, 3)] == [2 / 4, 1 / 4, 0]
  assert [got[f'right_to_wrong_{i}'] for i in (1, 2, 3)] == [0, 1 / 4, 1 / 4]
  assert [got[f'refined_{i}'] for i in (1, 2, 3)] == [3 / 4, 3 / 4, 2 / 4]
  # A round changes what its two transitions say.
  for i in (1, 2, 3):
    change = got[f'accuracy_{i}'] - got[f'accuracy_{i - 1}']
    transitions = got[f'wrong_to_right_{i}'] - got[f'right_to_wrong_{i}']
    assert change == pytest.approx(transitions)
  # The first round is that of the refinements.
  first = refinement_metrics.metrics(records)
  assert got['accuracy_0'] == first['accuracy_before'].value
  assert got['accuracy_1'] == first['accuracy_after'].value


def test_a_trial_is_the_mean_over_its_chains():
  records = chain(False, True, True)
  first = records[1]  # the critique; a second refinement, spoilt in round 2
  other = graded('refine', first, True, 1)
  again = record('critique_2', other, status='ok', verdict='incorrect')
  records += [other, again, graded('refine_2', again, False)]
  got = values(records)
  assert [got[f'accuracy_{i}'] for i in range(3)] == [0, 1, 1 / 2]
  assert revision_metrics.metrics(records)['accuracy_2'].n == 1


def test_a_refinement_that_timed_out_leaves_the_answer_before_it():
  got = values(chain(False, True, None) + chain(True, True, True, name='q'))
  assert [got[f'accuracy_{i}'] for i in range(3)] == [1 / 2, 1, 1]
  assert got['refined_2'] == 1 / 2


def test_one_round_is_none():
  records = chain(False, True)
  assert not revision_metrics.metrics(records)
  assert not revision_metrics.compare(records, chain(False, True, True))


def test_a_comparison_is_of_the_same_problems():
  """Also with fewer rounds on one side: its answers stay."""
  before = chain(False, True, 'approved') + chain(False, False, True, name='q')
  after = chain(False, True, True, True) + chain(False, True, True, name='q')
  got = {k: e.value for k, e in revision_metrics.compare(before, after).items()}
  assert [got[f'accuracy_{i}'] for i in range(4)] == [0, 1 / 2, 0, 0]


# ---------------------------------------------------------------- sampling

HALF = WRONG.replace('= 8', '= 7').replace('8 *', '7 *')  # its end is wrong


def measured(criticise, num_rounds=3, refine='called_wrong', **changes):
  """Records of a solver that mends one of two errors by a concrete critique."""

  def solve(prompt, index):
    if 'Critique:' not in prompt:
      return WRONG
    return RIGHT if HALF in prompt else HALF

  solver, critic = scripted(solve), scripted(criticise, max_new_tokens=64)
  records = critic_loop.collect(
    dict(solver=solver, critic=critic), dict(solver=None, critic=None),
    [PROBLEM], jax.random.key(0), num_solutions=1, refine=refine, grade=grade,
    num_rounds=num_rounds,
    **dict(num_critiques=1, num_refinements=1, controls=False) | changes,
  )  # fmt: skip
  return records, solver, critic


def honest(prompt, index):
  return critique_text('correct' if RIGHT in prompt else 'incorrect', ADVICE)


def test_rounds_criticise_the_newest_answer():
  records, solver, critic = measured(honest, num_rounds=4)
  assert [r.stage for r in records] == [
    'solve', 'critique', 'refine', 'critique_2', 'refine_2', 'critique_3'
  ]  # fmt: skip
  assert records[-1].id == (
    'sum-0/solve.0/critique.0/refine.0/critique_2.0/refine_2.0/critique_3.0'
  )
  # Each critic and each solver is shown the answer before, and no older one.
  answers = WRONG, HALF, RIGHT
  for prompts in (critic.prompts, solver.prompts[1:]):
    for prompt, answer in zip(prompts, answers, strict=False):
      assert [text for text in answers if text in prompt] == [answer]
  got = values(records)
  assert [got[f'accuracy_{i}'] for i in range(4)] == [0, 0, 1, 1]
  # It ends where the critic approves.
  assert [got[f'refined_{i}'] for i in (1, 2, 3)] == [1, 1, 0]


def test_rounds_are_measured_from_a_file(tmp_path):
  records, *_ = measured(honest, num_critiques=2, num_refinements=2)
  file = tmp_path / 'records.jsonl.gz'
  run_dir.write_records(file, records)
  again = run_dir.read_records(file)
  assert revision_metrics.metrics(again) == revision_metrics.metrics(records)
  shown = protocols.headlines(protocols.metrics(again))
  assert shown['accuracy after round 2'].value == 1
  assert (
    shown['accuracy after round 1']
    == (shown['accuracy after critique and refine'])
  )


def test_the_first_round_does_not_depend_on_later_ones():
  settings = dict(num_critiques=2, num_refinements=2, controls=True)
  one, _, _ = measured(honest, num_rounds=1, **settings)
  several, _, _ = measured(honest, **settings)
  assert [r.id for r in several[: len(one)]] == [r.id for r in one]
  # 2 critiques, 2 chains each: one critique and one refinement a round.
  later = [r.stage for r in several[len(one) :]]
  assert later == ['critique_2'] * 4 + ['refine_2'] * 4 + ['critique_3'] * 4
  first = refinement_metrics.metrics(one)
  assert refinement_metrics.metrics(several) == first


def test_a_verdict_may_be_ignored():
  """CTRL's: a revision is made whatever the verdict is, if there is one."""
  records, *_ = measured(
    lambda prompt, index: critique_text('correct', ADVICE), refine='always'
  )
  assert [r.stage for r in records][-1] == 'refine_3'
  got = values(records)
  assert [got[f'refined_{i}'] for i in (1, 2, 3)] == [1, 1, 1]
  silent, *_ = measured(lambda prompt, index: 'Hm.', refine='always')
  assert [r.stage for r in silent] == ['solve', 'critique']
