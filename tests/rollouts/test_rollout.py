import dataclasses
import threading
import time

import jax
import numpy as np
import pytest
from helpers import log_compilations, make_record
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  nano,
  problems,
  scripted,
)

from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.runtime import timing
from critic_jax.types import Problem


@pytest.fixture(scope='module')
def lm():
  return nano(max_new_tokens=6)


@pytest.fixture(scope='module')
def params(lm):
  return init(solver=lm)['solver']


def solve(lm, params, parents, seed=0, n=2):
  return rollout.run(
    lm.stages.solve, lm.bind(params), parents, jax.random.key(seed), n=n
  )


def texts(records):
  return {record.id: record.text for record in records}


# --------------------------------------------------------------------- run


def test_siblings_are_adjacent_and_in_order():
  lm = scripted(lambda prompt, index: f'{index}')
  records = rollout.run(
    lm.stages.solve, lm.bind(None), problems(2), jax.random.key(0), n=3
  )
  assert [r.id for r in records] == [
    f'arithmetic-train-{i}/solve.{j}' for i in range(2) for j in range(3)
  ]
  assert [r.text for r in records] == ['0', '1', '2'] * 2
  assert lm.prompts == [lm.stages.solve.prompt(p) for p in problems(2)]
  refined = rollout.run(
    lm.stages.critique, lm.bind(None), records, jax.random.key(0), n=1
  )
  assert [r.parent for r in refined] == records
  assert [r.problem for r in refined] == [r.problem for r in records]


def test_no_parents_no_records():
  def generate(prompts, keys, n, max_prompts):
    raise AssertionError('asked for nothing')

  stage = scripted(None).stages.solve
  assert rollout.run(stage, generate, [], jax.random.key(0), n=2) == []


def test_the_sampler_hears_how_many_parents_there_may_be():
  calls = []

  def generate(prompts, keys, n, max_prompts):
    calls.append((len(prompts), n, max_prompts))
    return [[]] * len(prompts)

  stage, key = scripted(None).stages.solve, jax.random.key(0)
  for requests in (
    [rollout.Request(stage, [], key, 2, 7)],
    [rollout.Request(stage, problems(3), key, 2)],
    [rollout.Request(stage, problems(3), key, 2, 7)] * 2,
  ):
    rollout.run_graded_together(requests, generate, lambda pairs: [])
  assert calls == [(0, 2, 7), (3, 2, 3), (6, 2, 14)]


def test_the_key_decides(lm, params):
  first = texts(solve(lm, params, problems(2)))
  assert first == texts(solve(lm, params, problems(2)))
  other = texts(solve(lm, params, problems(2), seed=1))
  assert not set(first.values()) & set(other.values())
  # Siblings and problems differ too.
  assert len(set(first.values())) == 4


def test_a_text_depends_on_its_parent_alone(lm, params):
  texts_of_all = texts(solve(lm, params, problems(3)))
  for problem in problems(3):
    texts_of_one = texts(solve(lm, params, [problem]))
    assert texts_of_one.items() <= texts_of_all.items()
  texts_of_reversed = texts(solve(lm, params, problems(3)[::-1]))
  assert texts_of_reversed == texts_of_all
  # More than fit into one batch of rows.
  small_lm = dataclasses.replace(lm, max_rows=4)
  assert texts(solve(small_lm, params, problems(3))) == texts_of_all


def test_a_problem_that_comes_again_gets_other_samples(lm, params):
  """The first time it gets those that it has alone, whatever comes again."""
  [one, other] = problems(2)
  alone = [r.text for r in solve(lm, params, [one])]
  records = solve(lm, params, [one, other, one, one])
  assert [r.text for r in records[:2]] == alone
  assert len({r.text for r in records}) == 8
  # So do the responses to its records, whose ids repeat, too.
  again = [rollout.write(lm.stages.solve, one, WRONG) for _ in range(2)]
  critiques = rollout.run(
    lm.stages.critique, lm.bind(params), again, jax.random.key(1), n=2
  )
  assert len({r.text for r in critiques}) == 4


def test_another_number_of_parents_compiles_nothing(lm, params):
  solve(lm, params, problems(8))
  solve(lm, params, problems(5))
  with log_compilations() as compiled:
    for count in (6, 7, 8, 5):
      assert len(solve(lm, params, problems(count))) == 2 * count
  assert not compiled


def test_an_overlong_prompt_gives_an_empty_record(lm, params):
  long = Problem('long', 'Ada has 3 eggs. ' * 100, '3')
  records = solve(lm, params, [problems(1)[0], long])
  assert [len(r.tokens) > 0 for r in records] == [True, True, False, False]
  refused = records[2]
  assert refused.refused and not refused.truncated
  assert refused.text == '' and refused.logprobs.size == 0
  graded = rollout.grade(records, grade)
  assert graded[2].parsed['correct'] is False
  assert graded[2].parsed['grade'] == 'refused'


# ------------------------------------------------------------- write, grade


def test_a_written_record_has_no_tokens(lm):
  solution = rollout.write(lm.stages.solve, PROBLEM, RIGHT)
  second = rollout.write(lm.stages.critique, solution, critique('correct'), 1)
  assert second.id == 'sum-0/solve.0/critique.1'
  assert second.parsed['verdict'] == 'correct'
  assert second.tokens.size == 0 and not second.truncated


@pytest.mark.parametrize(
  ('text', 'finish', 'mark', 'correct'),
  [
    (RIGHT, 'stop', 'right', True),
    (WRONG, 'stop', 'wrong', False),
    ('I give up.', 'stop', 'unparsable', False),
    # A truncated text is not right, even with the right answer.
    (RIGHT, 'length', 'right', False),
  ],
)
def test_grade(text, finish, mark, correct):
  record = make_record(
    problem=PROBLEM, text=text, finish=finish, parsed={'answer': 'kept'}
  )
  [graded] = rollout.grade([record], grade)
  assert graded.parsed == {'answer': 'kept', 'grade': mark, 'correct': correct}
  assert graded.parsed['correct'] is correct  # a bool, not a numpy one
  assert record.parsed == {'answer': 'kept'}


def test_grade_asks_once_with_the_reference():
  calls = []

  def grade_all(pairs):
    calls.append(pairs)
    return ['wrong'] * len(pairs)

  rollout.grade([make_record(problem=PROBLEM, text='a')] * 2, grade_all)
  assert calls == [[('a', '14'), ('a', '14')]]
  with pytest.raises(ValueError):
    rollout.grade([make_record()], lambda pairs: [])


def test_given_solutions_keep_what_their_file_says():
  facts = (
    dict(part='a', correct=False, grade='wrong'),  # of a right text
    dict(part='a', first_error=2),
    dict(part='a', grade='open'),
  )
  records = [
    make_record(problem=PROBLEM, text=RIGHT, tokens=[], parsed=parsed)
    for parsed in facts
  ]
  graded = rollout.grade(records, grade)
  assert [r.parsed for r in graded] == [
    *facts[:2],
    dict(part='a', grade='right', correct=True),
  ]


def test_a_given_solution_that_comes_twice_is_two_records():
  record = make_record(parsed=dict(part='a', correct=True))
  first, second = rollout.given([record, record])
  assert first is not second and first.id == second.id == record.id
  critiques = [make_record('critique', parent) for parent in (first, second)]
  assert rollout.children([first, second], critiques) == [
    [critiques[0]],
    [critiques[1]],
  ]


# ------------------------------------------------------------------ together


def make_requests(lm, keys, counts=(2, 2, 1)):
  """Makes three requests; two have a key and parents in common."""
  solve, critique_stage = lm.stages.solve, lm.stages.critique
  solutions = [rollout.write(solve, p, WRONG) for p in problems(2)]
  return [
    rollout.Request(critique_stage, solutions, keys[0], counts[0]),
    rollout.Request(
      critique_stage._replace(name='critique_b'), solutions[1:], keys[0],
      counts[1],
    ),
    rollout.Request(solve, problems(3), keys[1], counts[2]),
  ]  # fmt: skip


@pytest.mark.parametrize('counts', [(2, 2, 1), (2, 2, 2)])
def test_together_is_as_alone(lm, params, counts):
  generate, calls = lm.bind(params), []

  def counting(prompts, keys, n, max_prompts):
    calls.append((len(prompts), n))
    return generate(prompts, keys, n, max_prompts)

  requests = make_requests(lm, jax.random.split(jax.random.key(0)), counts)
  results = rollout.run_graded_together(requests, counting, grade)
  assert calls == ([(6, 2)] if counts[2] == 2 else [(3, 2), (3, 1)])
  for request, records in zip(requests, results, strict=True):
    separate_records = rollout.run_graded(
      request.stage, generate, request.parents, request.key, grade, n=request.n
    )
    assert texts(records) == texts(separate_records) and len(records) == len(
      separate_records
    )
    assert [r.parsed for r in records] == [r.parsed for r in separate_records]
    # Records have the parents they were asked for, not equal ones.
    parents = [p for p in request.parents for _ in range(request.n)]
    if request.stage.name != 'solve':
      assert all(r.parent is p for r, p in zip(records, parents, strict=True))


def test_nothing_asked_together():
  def generate(prompts, keys, n, max_prompts):
    raise AssertionError('asked for nothing')

  stage = scripted(None).stages.solve
  empty_request = rollout.Request(stage, [], jax.random.key(0), 0)
  assert rollout.run_graded_together([], generate, grade) == []
  assert rollout.run_graded_together([empty_request], generate, grade) == [[]]


def threads():
  return [t for t in threading.enumerate() if t.name.startswith('grader')]


def test_grading_goes_on_while_the_block_runs():
  """Each waits for the other, so neither could go first."""
  start, end = threading.Event(), threading.Event()

  def slow(pairs):
    start.set()
    assert end.wait(10)
    return grade(pairs)

  records = [make_record(problem=PROBLEM, text=t) for t in (RIGHT, WRONG)]
  with timing.opened() as sums:
    with rollout.grading(records, slow) as graded:
      assert start.wait(10) and not graded.done()
      time.sleep(0.05)
      end.set()
  assert [r.parsed['correct'] for r in graded.result()] == [True, False]
  assert not threads()
  # Graded all the while; waited for at the end only.
  assert sums['time/grade_s'] >= 0.05 > sums['time/grade_waited_s']


def test_what_one_call_gave_is_graded_while_the_next_samples():
  lm, log = scripted(lambda prompt, index: WRONG), []
  generate, graded_first = lm.bind(None), threading.Event()

  def logged(prompts, keys, n, max_prompts):
    if n == 1:
      assert graded_first.wait(10)  # would not come if grading came later
    log.append(n)
    return generate(prompts, keys, n, max_prompts)

  def signalling(pairs):
    graded_first.set()
    log.append(len(pairs))
    return grade(pairs)

  keys = jax.random.split(jax.random.key(0))
  rollout.run_graded_together(make_requests(lm, keys), logged, signalling)
  assert log == [2, 6, 1, 3]


@pytest.mark.parametrize('place', ['grading', 'together'])
def test_what_the_grader_raises_arrives_with_its_text(place):
  def broken(pairs):
    raise RuntimeError('grader process: dead')

  lm = scripted(lambda prompt, index: WRONG)
  with pytest.raises(RuntimeError, match='grader process: dead'):
    if place == 'grading':
      with rollout.grading([make_record()], broken):
        pass  # nobody asked for the result
    else:
      keys = jax.random.split(jax.random.key(0))
      rollout.run_graded_together(
        make_requests(lm, keys), lm.bind(None), broken
      )
  assert not threads()


def test_a_block_that_is_left_leaves_no_thread():
  with pytest.raises(KeyboardInterrupt):
    with rollout.grading([make_record(problem=PROBLEM, text=RIGHT)], grade):
      raise KeyboardInterrupt
  assert not threads()


def test_what_stages_cost(lm, params):
  with timing.opened() as sums:
    records = solve(lm, params, problems(2))
    rollout.grade(records, grade)
  assert sums['tokens/solve'] == sum(len(r.tokens) for r in records)
  assert sums['time/solve_s'] > 0 and sums['time/grade_s'] > 0


# --------------------------------------------------------- children, score


def test_children_are_told_by_identity():
  """A step may draw a problem twice: then ids repeat."""
  parents = [make_record(), make_record()]
  stranger = make_record()
  first = [make_record('critique', parents[0], index=i) for i in range(2)]
  second = [make_record('critique', parents[1])]
  strange = [make_record('critique', stranger)]
  groups = rollout.children(parents, [*second, *strange, *first])
  assert groups == [first, second]


def test_score_sums_by_weight():
  records = [make_record(text='ab'), make_record(text='abcd')]
  responses = [make_record('critique', records[1]) for _ in range(3)]
  scored = rollout.score(
    records,
    responses,
    {
      'length': lambda record, its: len(record.text),
      'answered': lambda record, its: len(its),
    },
    {'length': 0.5, 'answered': -2.0},
  )
  assert [r.scores for r in scored] == [
    {'length': 2.0, 'answered': 0.0, 'reward': 0.5 * 2},
    {'length': 4.0, 'answered': 3.0, 'reward': 0.5 * 4 - 2.0 * 3},
  ]
  assert not records[0].scores


def test_a_reward_that_could_not_be_determined_is_left_out():
  records = [make_record(text=text) for text in ('ab', '', '')]
  rules = {
    'length': lambda record, its: len(record.text) or None,
    'one': lambda record, its: 1.0,
  }
  scored = rollout.score(records, [], rules, {'length': 0.5, 'one': 2.0})
  assert [r.scores for r in scored] == [
    {'length': 2.0, 'one': 1.0, 'reward': 3.0}, {'one': 1.0}, {'one': 1.0}
  ]  # fmt: skip
  rewards, where = rollout.determined_rewards(scored)
  assert rewards.tolist() == [3, 0, 0] and where.tolist() == [
    True,
    False,
    False,
  ]
  assert rewards.dtype == np.float32 and where.dtype == bool
  # Without a weight it adds nothing to the sum.
  scored = rollout.score(records, [], rules, {'length': 0.0, 'one': 2.0})
  assert [r.scores['reward'] for r in scored] == [2.0] * 3


def test_a_rule_without_a_weight_is_refused():
  with pytest.raises(KeyError, match='judge'):
    rollout.score([make_record()], [], {'judge': lambda r, its: 1.0}, {})


# ----------------------------------------------------------------- summary


def test_summary_by_hand():
  solutions = [
    make_record(
      tokens=[1, 2, 3],
      parsed={'correct': True, 'grade': 'right'},
    ),
    make_record(
      tokens=[1],
      finish='length',
      parsed={'correct': False, 'grade': 'timeout'},
    ),
  ]
  critiques = [
    make_record(
      'critique',
      solutions[0],
      tokens=[1, 2],
      parsed={'verdict': verdict, 'status': status},
      scores={'judge': judge, 'reward': 2 * judge},
    )
    for verdict, status, judge in (
      ('incorrect', 'ok', 0.0),
      ('correct', 'ok', 1.0),
      (None, 'missing', 0.0),
      (None, 'contradictory', 0.0),
    )
  ]
  assert stage_metrics.summary([*solutions, *critiques]) == {
    'solve/count': 2,
    'solve/length': 2.0,
    'solve/truncated': 0.5,
    'solve/refused': 0.0,
    'solve/correct': 0.5,
    'solve/unparsable': 0.0,
    'solve/timeout': 0.5,
    'critique/count': 4,
    'critique/length': 2.0,
    'critique/truncated': 0.0,
    'critique/refused': 0.0,
    'critique/judge': 0.25,
    'critique/judge_right': 0.25,
    'critique/reward': 0.5,
    'critique/called_wrong': 0.25,
    'critique/missing': 0.25,
    'critique/contradictory': 0.25,
    'critique/unfinished': 0.0,
  }
  assert stage_metrics.summary([]) == {}


def test_the_metrics_of_what_was_refused():
  """It was not cut, is neither right nor wrong, and has no length."""
  known = make_record(tokens=[1], parsed={'correct': True, 'grade': 'right'})
  refused = make_record(
    finish='prompt', parsed={'correct': False, 'grade': 'unparsable'}
  )
  assert stage_metrics.summary([known, refused]) == {
    'solve/count': 2,
    'solve/refused': 0.5,
    'solve/length': 1.0,
    'solve/truncated': 0.0,
    'solve/correct': 1.0,
    'solve/unparsable': 0.0,
    'solve/timeout': 0.0,
  }


def test_summary_of_critiques_by_truth_and_of_controls():
  problem = Problem('p', '', '12')
  wrong = make_record(problem=problem, parsed={'correct': False, 'grade': 'x'})
  critiques = [
    make_record(
      'critique',
      wrong,
      parsed={'verdict': 'incorrect', 'status': 'ok', 'conclusion': text},
      scores={'judge': judge},
    )
    for text, judge in (('It is 12.', 1.0), ('A mistake.', 0.0))
  ]
  graded = {
    True: {'correct': True, 'grade': ''},
    False: {'correct': False, 'grade': ''},
  }
  responses = [
    make_record(
      stage, critiques[0], parsed=graded[right],
      control_of='' if stage == 'refine' else 'refine',
    )
    for stage, right in (
      ('refine', True), ('refine', True), ('refine_empty', False),
      ('refine_masked', True), ('refine_masked', False),
    )
  ]  # fmt: skip
  metrics = stage_metrics.summary([*critiques, *responses])
  assert metrics['critique/judge_wrong'] == 0.5
  assert 'critique/judge_right' not in metrics
  assert metrics['critique/leak'] == 0.5
  assert metrics['refine/lift_over_empty'] == 1.0
  assert metrics['refine/lift_over_masked'] == 0.5
  assert 'refine/lift_over_swapped' not in metrics


def test_a_lift_compares_refinements_of_the_same_critiques():
  """Few critiques are refined with controls; a timeout tells of neither."""

  def refinements(stage, parent, *grades):
    return [
      make_record(
        stage,
        parent,
        parsed={'correct': grade == 'right', 'grade': grade},
        control_of='' if stage == 'refine' else 'refine',
      )
      for grade in grades
    ]

  critiques = [make_record('critique', make_record()) for _ in range(4)]
  metrics = stage_metrics.summary(
    [
      # A lift of a half, one of -1, and what has no pair.
      *refinements('refine', critiques[0], 'right', 'wrong', 'timeout'),
      *refinements('refine_empty', critiques[0], 'wrong', 'timeout'),
      *refinements('refine', critiques[1], 'wrong'),
      *refinements('refine_empty', critiques[1], 'right'),
      *refinements('refine', critiques[2], 'right', 'right'),
      *refinements('refine', critiques[3], 'right'),
      *refinements('refine_empty', critiques[3], 'timeout'),
    ]
  )
  assert metrics['refine/lift_over_empty'] == (0.5 - 1) / 2


def test_a_stage_with_an_underscore_is_no_control():
  """A graded stage beside an ungraded one whose name begins alike."""
  right = {'correct': True, 'grade': 'right'}
  metrics = stage_metrics.summary(
    [make_record('refine', parsed=right), make_record('refine_judge')]
  )
  assert metrics['refine_judge/count'] == 1
  assert not any('lift' in name for name in metrics)


def test_reattach():
  old = [make_record('critique'), make_record('critique')]
  new = [make_record('critique'), make_record('critique')]
  other = make_record('critique')
  responses = [make_record('refine', p) for p in (old[1], other, old[0])]
  reattached = rollout.reattach(responses, old, new)
  assert [r.parent for r in reattached] == [new[1], other, new[0]]
  assert responses[0].parent is old[1]


def test_logprobs_are_one_a_token(lm, params):
  for record in solve(lm, params, problems(3)):
    assert len(record.logprobs) == len(record.tokens) <= 6
    assert np.all(record.logprobs < 0)
