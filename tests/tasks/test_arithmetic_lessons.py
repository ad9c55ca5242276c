import collections
import random
import re

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG

from critic_jax.rewards import verdicts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import arithmetic, arithmetic_labels, arithmetic_lessons

SHARES = dict(check_share=1.0, correct_share=0.5, point_share=0.25)


def end(answer):
  return f'The answer is \\boxed{{{answer}}}.'


def solution(text, problem=PROBLEM):
  return rollout.write(plain.STAGES.solve, problem, text)


def truth(left, op, right):
  return {'+': left + right, '-': left - right, '*': left * right}[op]


def all_facts():
  return [
    (left, op, right)
    for left in range(1, arithmetic.MAX_VALUE + 1)
    for op, rights in arithmetic.OPERANDS.items()
    for right in rights
  ]


# ----------------------------------------------------------------- student


def test_hard_facts_are_the_same_every_time_and_about_the_share():
  facts = all_facts()  # 30 * 12 = 360
  hard = {
    share: {f for f in facts if arithmetic_lessons.is_hard(*f, share)}
    for share in (0.0, 0.15, 0.5, 1.0)
  }
  for share, hard_facts in hard.items():
    deviation = (share * (1 - share) / len(facts)) ** 0.5
    assert abs(len(hard_facts) / len(facts) - share) <= 3 * deviation
  # A greater share keeps the smaller one's.
  assert hard[0.0] < hard[0.15] < hard[0.5] < hard[1.0]


def test_the_student_slips_more_on_hard_facts_and_mostly_the_same_way():
  for hard_share, right_share in ((0.0, 0.97), (1.0, 0.40)):
    fact = arithmetic_lessons.student_fact(random.Random(0), hard_share)
    results = collections.Counter(fact(9, '+', 4) for _ in range(2000))
    # Four deviations of 0.004 and of 0.011.
    share = results.pop(13) / 2000
    assert abs(share - right_share) < (0.045 if hard_share else 0.016)
    assert {10, 11, 12, 14, 15, 16} == set(results)
    [(_, most)] = results.most_common(1)
    usual = most / sum(results.values())
    # 3/4 and a sixth of the rest; without hard facts no result is usual.
    assert 0.70 < usual < 0.88 if hard_share else usual < 0.5


@pytest.mark.parametrize(
  'true_result', [-400, -40, -4, -3, -1, 0, 1, 59, 10**9]
)
def test_wrong_results_end_below_zero_and_far_above(true_result):
  results = arithmetic_lessons.wrong_results(true_result)
  assert results and true_result not in results
  assert all(1 <= abs(result - true_result) <= 3 for result in results)
  if true_result >= -3 + 1:  # a number of eggs is near
    assert min(results) >= 0


def test_the_student_works_out_any_fact():
  fact = arithmetic_lessons.student_fact(random.Random(0), 1.0)
  for left in (-500, -7, 0, 10**6):
    for op in '+-*':
      assert abs(fact(left, op, 3) - truth(left, op, 3)) <= 3


def test_solutions_differ_from_time_to_time():
  problem = arithmetic.problems('train', 1)[0]
  texts = {
    arithmetic_lessons.solver_lesson(
      problem, random.Random(i), hard_share=0.5, refine_share=0.0
    ).messages[0]
    for i in range(30)
  }
  assert len(texts) > 3


def believe(left, op, right):
  """5 + 2 is thought to be 8, and 7 * 2 to be 15."""
  return {(5, '+', 2): 8, (7, '*', 2): 15}.get(
    (left, op, right), truth(left, op, right)
  )


NAMED = 'Step 1 is wrong.\nVerdict: incorrect'


@pytest.mark.parametrize(
  ('text', 'critique', 'expected'),
  [
    # Vague advice: copied, whatever it is.
    (WRONG, 'There is a mistake.', WRONG),
    (RIGHT, 'There is a mistake.\nVerdict: incorrect', RIGHT),
    (WRONG, '', WRONG),
    ('Hm.', '', 'Hm.'),
    # A named step is worked anew, and the rest.
    (
      f'Step 1: 5 + 2 = 6\nStep 2: 6 * 2 = 12\n{end(12)}',
      NAMED,
      f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16\n{end(16)}',
    ),
    (
      RIGHT,
      'Step 2 is wrong.',
      f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\n{end(15)}',
    ),
    # A named result is taken over, and the rest worked anew.
    (
      WRONG,
      'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7',
      f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\n{end(15)}',
    ),
    # Even if it is wrong.
    (
      WRONG,
      'Step 1: 5 + 2 = 9',
      f'Step 1: 5 + 2 = 9\nStep 2: 9 * 2 = 18\n{end(18)}',
    ),
    (
      WRONG,
      'Step 2: 8 * 2 = 20',
      f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 20\n{end(20)}',
    ),
    # Thinking is not seen.
    (WRONG, '<think>\nStep 1 is wrong.\n</think>\nHm.', WRONG),
    ('Step 1: 5 + 2 = 7', '<think>\nStep 1: 5 + 2 = 9', 'Step 1: 5 + 2 = 7'),
    # A step that there is not changes nothing.
    (WRONG, 'Step 7: 1 + 1 = 2', WRONG),
    (WRONG, 'Step 0: 1 + 1 = 2', WRONG),
    (WRONG, 'Step 3 is wrong.', WRONG),
  ],
)
def test_the_student_follows_advice_as_far_as_it_goes(text, critique, expected):
  program = arithmetic.read_program(PROBLEM)
  refined = arithmetic_lessons.follow(program, text, critique, believe)
  assert refined == expected


def test_lessons_of_refining_follow_their_critique():
  kinds = collections.Counter()
  num_wrong = 0
  for i, problem in enumerate(arithmetic.problems('train', 300)):
    lesson = arithmetic_lessons.solver_lesson(
      problem, random.Random(i), hard_share=0.2, refine_share=1.0
    )
    (_, first), (_, critique), (stage, refined) = lesson.messages
    assert stage == 'refine' and lesson.problem == problem
    assert verdicts.verdict(critique) == 'incorrect'
    num_wrong += arithmetic.first_error(problem, first) >= 0
    advice, step = arithmetic.read_steps(critique), verdicts.parse(critique)
    if step['step'] is None:
      kinds['vague'] += 1
      assert refined == first
      continue
    steps = arithmetic.read_steps(refined)
    before = steps[: step['step']]
    assert before == arithmetic.read_steps(first)[: step['step']]
    if advice:
      kinds['result'] += 1
      assert advice[0] == steps[step['step']]
    else:
      kinds['place'] += 1
  # 0.2, 0.25 and 0.55 of them.
  assert 40 <= kinds['vague'] <= 80 and 50 <= kinds['place'] <= 100
  assert num_wrong > 200  # there is mostly something to refine


# ------------------------------------------------------------------- quiz


CHECK = re.compile(
  r'Step (\d+): (\d+) ([-+*]) (\d+) = (\d+)\? (\d+)\. (Right|Wrong)\.'
)


def test_a_quiz_checks_every_line():
  num_lines, num_wrong, lengths = 0, 0, set()
  for i in range(200):
    lesson = arithmetic_lessons.quiz_lesson(PROBLEM, random.Random(i))
    (_, lines), (stage, thinking) = lesson.messages
    assert stage == 'critique'
    first, *checks, last = thinking.split('\n')
    assert (first, last) == ('<think>', '</think>')
    assert [check.split('?')[0] for check in checks] == lines.split('\n')
    for number, check in enumerate(checks, 1):
      step, left, op, right, result, worked, mark = CHECK.fullmatch(
        check
      ).groups()
      assert int(step) == number
      assert int(worked) == truth(int(left), op, int(right))
      assert 0 < int(worked) <= arithmetic.MAX_VALUE
      assert (mark == 'Right') == (worked == result)
      num_wrong += mark == 'Wrong'
    num_lines += len(checks)
    lengths.add(len(checks))
  assert lengths == set(range(2, 9))
  assert abs(num_wrong / num_lines - 0.5) < 0.07  # four deviations of 0.016


def test_a_quiz_has_as_many_wrong_lines_as_it_is_told():
  for share, mark in ((0.0, 'Right'), (1.0, 'Wrong')):
    lesson = arithmetic_lessons.quiz_lesson(
      PROBLEM, random.Random(0), min_lines=9, max_lines=9, wrong_share=share
    )
    assert lesson.messages[1][1].count(f'. {mark}.') == 9


# ------------------------------------------------------------------- marks


def test_marks_are_the_checks_of_the_teacher():
  verdicts_given = collections.Counter()
  for i, problem in enumerate(arithmetic.problems('train', 60)):
    lesson = arithmetic_lessons.solver_lesson(
      problem, random.Random(i), hard_share=0.3, refine_share=0.0,
      mark_share=1.0, correct_share=1.0, point_share=0.0,
    )  # fmt: skip
    (_, text), (stage, critique) = lesson.messages
    assert stage == 'critique'
    error, parsed = (
      arithmetic.first_error(problem, text),
      verdicts.parse(critique),
    )
    assert parsed['verdict'] == ('correct' if error < 0 else 'incorrect')
    assert error < 0 or parsed['step'] == error
    checks = CHECK.findall(critique)
    assert (
      len(checks) == (len(arithmetic.read_steps(text)), error + 1)[error >= 0]
    )
    verdicts_given[parsed['verdict']] += 1
  assert min(verdicts_given.values()) > 10


def test_the_shares_of_lessons_are_shares():
  stages = collections.Counter(
    arithmetic_lessons.solver_lesson(
      PROBLEM, random.Random(i), hard_share=0.1, refine_share=0.45,
      mark_share=0.2,
    ).messages[-1][0]
    for i in range(600)
  )  # fmt: skip
  # Five deviations at most.
  assert abs(stages['refine'] / 600 - 0.45) < 0.1
  assert abs(stages['critique'] / 600 - 0.2) < 0.08


def test_longer_problems_of_the_train_split_are_drawn():
  lengths = set()
  for i in range(100):
    lesson = arithmetic_lessons.solver_lesson(
      PROBLEM, random.Random(i), hard_share=0.1, max_steps=6
    )
    program = arithmetic.read_program(lesson.problem)
    assert arithmetic.split_of(program) == 'train'
    lengths.add(len(program.operations))
  assert lengths == {2, 3, 4, 5, 6}


# ----------------------------------------------------------------- teacher


def test_a_teacher_who_checks_is_right():
  styles = set()
  for i, problem in enumerate(arithmetic.problems('train', 200)):
    rng = random.Random(i)
    lesson = arithmetic_lessons.solver_lesson(problem, rng, hard_share=0.3)
    text = lesson.messages[0][1]
    critique = arithmetic_lessons.teacher_critique(
      solution(text, problem), rng, **SHARES
    )
    parsed = verdicts.parse(critique)
    error = arithmetic.first_error(problem, text)
    assert parsed['status'] == 'ok'
    assert parsed['verdict'] == ('correct' if error == -1 else 'incorrect')
    if parsed['step'] is not None:
      assert parsed['step'] == error
    advice = arithmetic.read_steps(parsed['conclusion'])
    if advice:
      [step] = advice
      assert step.number == error + 1
      assert step.result == truth(step.left, step.op, step.right)
    styles.add((error >= 0, parsed['step'] is not None, bool(advice)))
  # right; wrong with a correction, with a step, with neither.
  assert styles == {
    (False, False, False),
    (True, True, True),
    (True, True, False),
    (True, False, False),
  }


@pytest.mark.parametrize(
  ('text', 'thoughts'),
  [
    (
      RIGHT,
      ['Step 1: 5 + 2 = 7? 7. Right.', 'Step 2: 7 * 2 = 14? 14. Right.'],
    ),
    (WRONG, ['Step 1: 5 + 2 = 8? 7. Wrong.']),
    # Not the story's: the line that should stand there is written.
    (
      f'Step 1: 5 + 2 = 7\nStep 2: 7 + 7 = 14\n{end(14)}',
      [
        'Step 1: 5 + 2 = 7? 7. Right.',
        'Step 2: 7 + 7 = 14? 7 * 2 = 14. Wrong.',
      ],
    ),
    # Missing.
    ('', ['Step 1: 5 + 2 = 7. Wrong.']),
  ],
)
def test_the_thoughts_of_a_check(text, thoughts):
  critique = arithmetic_lessons.teacher_critique(
    solution(text), random.Random(0), **SHARES
  )
  _, *lines = critique.split('\n</think>')[0].split('\n')
  assert lines == thoughts


@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    (f'Step 1: 5 + 2 = 7\n{end(7)}', 'incorrect'),  # a line is missing
    ('', 'incorrect'),
    (f'{RIGHT}\nStep 3: 14 + 1 = 15\n{end(15)}', 'incorrect'),  # one too many
    (RIGHT.replace('{14}', '{15}'), 'incorrect'),  # a wrong end
    (RIGHT, 'correct'),
  ],
)
def test_a_teacher_who_checks_reads_to_the_end(text, verdict):
  critique = arithmetic_lessons.teacher_critique(
    solution(text), random.Random(0), **SHARES
  )
  assert verdicts.verdict(critique) == verdict


def test_a_teacher_who_glances_guesses():
  critiques = [
    arithmetic_lessons.teacher_critique(
      solution(WRONG), random.Random(i), **SHARES | dict(check_share=0.0)
    )
    for i in range(200)
  ]
  verdicts_given = [verdicts.verdict(critique) for critique in critiques]
  # 100 +- 4 deviations of 7.
  assert 70 <= verdicts_given.count('correct') <= 130
  assert set(verdicts_given) == {'correct', 'incorrect'}


def test_the_teacher_is_seeded():
  def write(seed):
    return arithmetic_lessons.teacher_critique(
      solution(WRONG), random.Random(seed), **SHARES
    )

  assert write(1) == write(1)
  assert len({write(seed) for seed in range(20)}) > 2


# ------------------------------------------------------------ descriptions


def describe(text):
  parent = solution(WRONG)
  return arithmetic_labels.describe(
    rollout.write(plain.STAGES.critique, parent, text)
  )


@pytest.mark.parametrize(
  ('thoughts', 'advice', 'claims'),
  [
    (['The steps look right.'], 'Every step is right.', ''),
    # Quoting is not computing.
    (['Step 1: 5 + 2 = 8? Wrong.'], 'There is a mistake.', ''),
    (['Step 1: 5 + 2 = 8? 7. Wrong.'], 'There is a mistake.', 'computes'),
    (['Step 1: 5 + 2 = 8? -7. Wrong.'], 'There is a mistake.', 'computes'),
    (
      ['Step 1: 5 + 2 = 8? 7. Wrong.'],
      'Step 1 is wrong.',
      'computes names_step',
    ),
    (
      ['The steps look right.'],
      'Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7',
      'names_step gives_result',
    ),
  ],
)
def test_the_form_of_a_critique(thoughts, advice, claims):
  text = arithmetic.write_critique(thoughts, advice, 'incorrect')
  assert {name for name, claim in describe(text).items() if claim} == set(
    claims.split()
  )


def test_the_teacher_computes_if_it_checks():
  for check_share in (0.0, 1.0):
    for text in (WRONG, RIGHT):
      critique = arithmetic_lessons.teacher_critique(
        solution(text),
        random.Random(0),
        **SHARES | dict(check_share=check_share),
      )
      assert describe(critique)['computes'] == bool(check_share)


# ------------------------------------------------------------------- slips


@pytest.mark.parametrize(
  'world',
  [dict(min_steps=1, max_steps=1), dict(max_steps=8), dict(unseen=True)],
)
def test_a_slip_is_one_wrong_result(world):
  places = set()
  for i, problem in enumerate(arithmetic.problems('test', 60, **world)):
    record = arithmetic_labels.solution(problem, True, random.Random(i))
    error, steps = (
      record.parsed['first_error'],
      arithmetic.read_steps(record.text),
    )
    wrong = [s.number - 1 for s in steps if s.result != truth(*s[1:4])]
    assert wrong == [error] and not record.parsed['correct']
    assert all(0 <= s.result <= arithmetic.MAX_VALUE for s in steps)
    places.add(error / len(steps))
    right = arithmetic_labels.solution(problem, False, random.Random(i))
    assert right.text == problem.solution and right.parsed['first_error'] == -1
  assert len(places) > 3 or world.get('max_steps') == 1


# ------------------------------------------------------------- second looks


def test_a_line_worked_back_is_right_if_it_is():
  for left, op, right in all_facts():
    result = truth(left, op, right)
    for wrong_by in (0, -3, -2, -1, 1, 2, 3):
      step = arithmetic.Step(2, left, op, right, result + wrong_by)
      text = arithmetic_lessons.write_back(step, result)
      equation, mark = re.fullmatch(
        r'Step 2: (.*)\? \d+\. (Right|Wrong)\.', text
      ).groups()
      assert (mark == 'Right') == (wrong_by == 0), text
      # It computes truly what it began with.
      back = equation.rsplit('= ', 1)[1]
      assert (back == str(left)) == (wrong_by == 0), text


def second(first, seed=0, text=WRONG, **changes):
  parent = rollout.write(plain.STAGES.critique, solution(text), first)
  return arithmetic_lessons.second_look(
    parent, random.Random(seed), **SHARES | changes
  )


def test_who_looks_again_checks_or_agrees():
  first = '<think>\nHm.\n</think>\nStep 2 is wrong.\nVerdict: incorrect'
  agrees = second(first, check_share=0.0)
  assert agrees == first.replace('Hm.', 'That is so.')
  for seed in range(10):
    checked = second(first, seed)
    assert 'Step 1: 8 - 2 = 6? 5. Wrong.' in checked
    assert 'Step 2' not in checked and verdicts.verdict(checked) == 'incorrect'
    assert verdicts.verdict(second(first, seed, RIGHT)) == 'correct'
  assert second('no verdict', check_share=0.0).endswith('no verdict')
  # Other shares, another share of concrete advice.
  steps = [
    verdicts.parse(second(first, seed, correct_share=0.0, point_share=0.5))
    for seed in range(200)
  ]
  assert 60 < sum(parsed['step'] == 0 for parsed in steps) < 140
