import random
import re

import pytest
from loop_helpers import PROBLEM, RIGHT, WRONG

from critic_jax.rewards import answers, verdicts
from critic_jax.rollouts import rollout
from critic_jax.rollouts.styles import plain
from critic_jax.tasks import arithmetic

SHARES = dict(check_share=1.0, correct_share=0.5, point_share=0.25)


def end(answer):
  return f'The answer is \\boxed{{{answer}}}.'


def solution(text, problem=PROBLEM):
  return rollout.write(plain.STAGES.solve, problem, text)


def truth(left, op, right):
  return {'+': left + right, '-': left - right, '*': left * right}[op]


# ---------------------------------------------------------------- problems


def test_splits_share_no_program_whatever_the_seed_and_the_length():
  programs = {split: set() for split in arithmetic.SPLITS}
  for split, found in programs.items():
    for seed in (0, 1):
      for steps in ((1, 2), (3, 5)):
        made = arithmetic.problems(
          split, 300, seed=seed, min_steps=steps[0], max_steps=steps[1]
        )
        found.update(map(arithmetic.read_program, made))
  train, dev, test = programs.values()
  assert min(len(train), len(dev), len(test)) > 300
  assert not train & dev and not train & test and not dev & test


def test_splits_cover_every_bucket_once():
  buckets = [b for part in arithmetic.SPLITS.values() for b in part]
  assert sorted(buckets) == list(range(100))


def test_problems_are_the_same_every_time_and_more_extend_them():
  few = arithmetic.problems('train', 5)
  assert few == arithmetic.problems('train', 20)[:5]
  assert few != arithmetic.problems('train', 5, seed=1)
  assert few[0].id == 'arithmetic-train-0'


def test_problems_are_what_they_say():
  for problem in arithmetic.problems('dev', 200, min_steps=2, max_steps=4):
    steps = arithmetic.read_steps(problem.solution)
    assert 2 <= len(steps) <= 4
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    for step, after in zip(steps, [*steps[1:], None], strict=True):
      assert step.result == truth(step.left, step.op, step.right)
      assert 0 < step.result <= arithmetic.MAX_VALUE
      assert after is None or after.left == step.result
    assert problem.answer == str(steps[-1].result)
    assert answers.grade(problem.solution, problem.answer) == 'right'
    # Every number of the program is told, in order.
    program = arithmetic.read_program(problem)
    told = list(map(int, re.findall(r'\d+', problem.question)))
    assert told == [program.start, *(n for _, n in program.operations)]


@pytest.mark.parametrize(
  ('split', 'steps', 'message'),
  [('valid', {}, "split: got 'valid'"), ('dev', dict(min_steps=6), 'steps')],
)
def test_wrong_requests_fail(split, steps, message):
  with pytest.raises(ValueError, match=message):
    arithmetic.problems(split, 1, **steps)


# ----------------------------------------------------------------- checker


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (RIGHT, -1),
    (f'Let me see.\n{RIGHT}', -1),
    (WRONG, 0),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\n{end(15)}', 1),
    # A wrong line does not become right by a right one after it.
    (f'Step 1: 5 + 2 = 8\nStep 2: 7 * 2 = 14\n{end(14)}', 0),
    # True, but not the story's.
    (f'Step 1: 5 + 3 = 8\nStep 2: 8 * 2 = 16\n{end(16)}', 0),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 + 7 = 14\n{end(14)}', 1),
    (f'Step 1: 2 + 5 = 7\nStep 2: 7 * 2 = 14\n{end(14)}', 0),
    # Misnumbered, swapped, repeated.
    (f'Step 2: 5 + 2 = 7\nStep 3: 7 * 2 = 14\n{end(14)}', 0),
    (f'Step 2: 7 * 2 = 14\nStep 1: 5 + 2 = 7\n{end(14)}', 0),
    # Missing lines.
    ('', 0),
    (end(14), 0),
    (f'Step 1: 5 + 2 = 7\n{end(14)}', 1),
    (f'Step 2: 7 * 2 = 14\n{end(14)}', 0),
    # One too many, and what follows right lines.
    (f'{RIGHT}\nStep 3: 14 + 1 = 15', 2),
    (f'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14\n{end(15)}', 2),
    ('Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 14', 2),
    (f'{RIGHT}\n{end(15)}', 2),
    # Digits that would take forever are no step.
    (f'Step 1: 5 + 2 = {"7" * 10_000}', 0),
  ],
)
def test_first_error(text, expected):
  assert arithmetic.first_error(PROBLEM, text) == expected


def test_first_error_finds_a_planted_slip_in_every_line():
  for problem in arithmetic.problems('test', 20):
    steps = arithmetic.read_steps(problem.solution)
    assert arithmetic.first_error(problem, problem.solution) == -1
    for i, step in enumerate(steps):
      slipped = [*steps[:i], step._replace(result=step.result + 1)]
      text = arithmetic.write_solution([*slipped, *steps[i + 1 :]])
      assert arithmetic.first_error(problem, text) == i


def test_the_checker_refuses_problems_of_elsewhere():
  foreign = arithmetic.Problem('gsm8k-1', '1 + 1?', '2', 'It is two.')
  with pytest.raises(ValueError, match='gsm8k-1.*no steps'):
    arithmetic.first_error(foreign, RIGHT)


# ----------------------------------------------------------------- student


def test_misconceptions_are_the_same_every_time_and_about_the_share():
  facts = [
    (left, op, right)
    for left in range(1, arithmetic.MAX_VALUE + 1)
    for op, rights in arithmetic.OPERANDS.items()
    for right in rights
  ]  # 40 * 18 = 720
  for share in (0.0, 0.12, 0.5, 1.0):
    beliefs = [arithmetic.belief(*fact, share=share) for fact in facts]
    assert beliefs == [arithmetic.belief(*f, share=share) for f in facts]
    wrong = [b != truth(*f) for b, f in zip(beliefs, facts, strict=True)]
    deviation = (share * (1 - share) / len(facts)) ** 0.5
    assert abs(sum(wrong) / len(facts) - share) <= 3 * deviation
  # A greater share keeps the smaller one's misconceptions.
  few = {f for f in facts if arithmetic.belief(*f, share=0.1) != truth(*f)}
  many = {f for f in facts if arithmetic.belief(*f, share=0.3) != truth(*f)}
  assert few < many


def test_a_wrong_belief_is_no_negative_number_of_eggs():
  for left in range(3, 12):
    believed = arithmetic.belief(left, '-', left - 1, share=1.0)
    assert believed >= 0 and believed != 1


def test_a_student_without_misconceptions_is_right():
  for i, problem in enumerate(arithmetic.problems('train', 20)):
    lesson = arithmetic.solver_lesson(
      problem, random.Random(i), share=0.0, refine_share=0.0
    )
    assert lesson.messages == (('solve', problem.solution),)


def test_a_student_solves_the_same_way_every_time():
  [problem] = arithmetic.problems('train', 1)
  made = {
    arithmetic.solver_lesson(problem, random.Random(i), share=0.4).messages[0]
    for i in range(10)
  }
  assert len(made) == 1


def believe(left, op, right):
  """5 + 2 is a misconception: 8."""
  return 8 if (left, op, right) == (5, '+', 2) else truth(left, op, right)


@pytest.mark.parametrize(
  ('critique', 'expected'),
  [
    # Vague advice, and a step without a result: as before.
    ('There is a mistake.', WRONG),
    ('Step 1 is wrong.', WRONG),
    ('', WRONG),
    # Concrete advice: taken over, and the rest worked anew.
    ('Step 1 is wrong. It should be\nStep 1: 5 + 2 = 7', RIGHT),
    # Even if it is wrong.
    (
      'Step 1: 5 + 2 = 9',
      f'Step 1: 5 + 2 = 9\nStep 2: 9 * 2 = 18\n{end(18)}',
    ),
    (
      'Step 2: 8 * 2 = 20',
      f'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 20\n{end(20)}',
    ),
    # A step that there is not changes nothing.
    ('Step 7: 1 + 1 = 2', WRONG),
  ],
)
def test_the_student_follows_concrete_advice(critique, expected):
  program = arithmetic.read_program(PROBLEM)
  assert arithmetic.follow(program, WRONG, critique, believe) == expected


def test_lessons_of_refining_follow_their_critique():
  followed = ignored = 0
  for i, problem in enumerate(arithmetic.problems('train', 200)):
    lesson = arithmetic.solver_lesson(
      problem, random.Random(i), share=0.2, refine_share=1.0
    )
    (_, first), (_, critique), (stage, refined) = lesson.messages
    assert stage == 'refine'
    assert verdicts.verdict(critique) == 'incorrect'
    advice = arithmetic.read_steps(critique)
    if advice:
      followed += 1
      number, result = advice[0].number, advice[0].result
      assert arithmetic.read_steps(refined)[number - 1].result == result
      assert (
        arithmetic.read_steps(refined)[: number - 1]
        == arithmetic.read_steps(first)[: number - 1]
      )
    else:
      ignored += 1
      assert refined == first
  # kind < 0.2 of the lessons are vague or point only.
  assert 20 <= ignored <= 60 and followed + ignored == 200


# ----------------------------------------------------------------- teacher


def test_a_teacher_who_checks_is_right():
  styles = set()
  for i, problem in enumerate(arithmetic.problems('train', 200)):
    rng = random.Random(i)
    lesson = arithmetic.solver_lesson(problem, rng, share=0.3)
    text = lesson.messages[0][1]
    critique = arithmetic.teacher_critique(
      solution(text, problem), rng, **SHARES
    )
    found = verdicts.parse(critique)
    error = arithmetic.first_error(problem, text)
    assert found['status'] == 'ok'
    assert found['verdict'] == ('correct' if error == -1 else 'incorrect')
    if found['step'] is not None:
      assert found['step'] == error
    advice = arithmetic.read_steps(found['conclusion'])
    if advice:
      [step] = advice
      assert step.number == error + 1
      assert step.result == truth(step.left, step.op, step.right)
    styles.add((error >= 0, found['step'] is not None, bool(advice)))
  # right; wrong with a correction, with a step, with neither.
  assert styles == {
    (False, False, False),
    (True, True, True),
    (True, True, False),
    (True, False, False),
  }


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
  critique = arithmetic.teacher_critique(
    solution(text), random.Random(0), **SHARES
  )
  assert verdicts.verdict(critique) == verdict


def test_a_teacher_who_glances_guesses():
  said = [
    verdicts.verdict(
      arithmetic.teacher_critique(
        solution(WRONG), random.Random(i), **SHARES | dict(check_share=0.0)
      )
    )
    for i in range(200)
  ]
  assert 70 <= said.count('correct') <= 130  # 100 +- 4 deviations of 7
  assert set(said) == {'correct', 'incorrect'}


def test_the_teacher_is_seeded():
  def write(seed):
    return arithmetic.teacher_critique(
      solution(WRONG), random.Random(seed), **SHARES
    )

  assert write(1) == write(1)
  assert len({write(seed) for seed in range(20)}) > 2


# --------------------------------------------------------------- tokenizer


@pytest.fixture(scope='module')
def tokenizer():
  return arithmetic.tokenizer(vocab_size=640, num_problems=50)


@pytest.mark.parametrize(
  'text',
  [
    '',
    ' ',
    '  two  spaces  ',
    '\n\n\t\r\n',
    PROBLEM.question,
    RIGHT,
    "▁ is sentencepiece's space",
    '<think>\n</think>\n</s><unk><pad><0x41>',
    '日本語 עברית e\u0301 ﬁ',
    '👩\u200d👩\u200d👧 \U0010fffd\x00\x7f\u202e',
    '3 + 4 = 7' * 50,
    '٣ + ٤',
  ],
)
def test_any_text_round_trips(tokenizer, text):
  tokens = tokenizer.encode(text)
  assert tokenizer.decode(tokens) == text
  assert not set(tokens) & set(tokenizer.eos)


def test_random_texts_round_trip(tokenizer):
  rng = random.Random(0)
  for _ in range(300):
    text = ''.join(
      chr(rng.choice([rng.randrange(128), rng.randrange(0xD800)]))
      for _ in range(rng.randrange(20))
    )
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_are_one_token_and_lines_are_short(tokenizer):
  for number in range(100):
    assert len(tokenizer.encode(f' {number}')) == 1
  # 'Step 1:', ' 5', ' +', ' 2', ' =', ' 7' at the most twice that.
  assert len(tokenizer.encode('Step 1: 5 + 2 = 7')) <= 8


def test_the_tokenizer_learns_from_the_train_split_only():
  told = set(arithmetic.corpus(50))
  for split in ('dev', 'test'):
    for problem in arithmetic.problems(split, 200):
      assert problem.question not in told
