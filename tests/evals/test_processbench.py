r"""ProcessBench's measures: against its released code, and by hand.

`reckoned` is written from the description of `run_eval.py` in the benchmark's
repository, with nothing of ours: the last match of `\\boxed\{([^}]*)\}`,
stripped; a Counter of the strings for a vote; `int`, or no prediction; means
over label != -1 and over label == -1; F1. It differs in one line, 0/0.
"""

import collections
import json
import pathlib
import random
import re

import numpy as np
import pytest

from critic_jax.evals import critique_metrics, processbench
from critic_jax.rewards import verdicts
from critic_jax.rollouts.styles.first_error import parse_boxed_step
from critic_jax.types import Problem, Record
from critic_jax.workdir import run_dir

REAL = pathlib.Path(__file__).parents[3] / 'shared/data/dev_mr_gsm8k.jsonl'


def record(problem, stage, parent, index, text, parsed):
  empty = np.zeros(0, np.int32)
  logprobs = np.zeros(0, np.float32)
  return Record(
    Problem(problem, '', ''), stage, parent, index, empty, empty, logprobs,
    text, 'stop', parsed,
  )  # fmt: skip


def case(label, *critiques, name='p', **fields):
  """Makes a solution, and critiques given by what was parsed of them."""
  solution = record(
    name, 'solve', None, 0, '', {'first_error': label, **fields}
  )
  return [solution] + [
    record(name, 'critique', solution, index, '', parsed)
    for index, parsed in enumerate(critiques)
  ]


def reading(verdict, step=None, status='ok'):
  return {'verdict': verdict, 'status': status, 'step': step}


def box(text):
  return parse_boxed_step(rf'So \boxed{{{text}}}.')


def values(estimates):
  return {name: estimate.value for name, estimate in estimates.items()}


# The 200 cases: a file as the benchmark's, with 8 critiques a row.

KINDS = {
  'right': lambda at: rf'Paragraph {at} ... hence \boxed{{{at}}}.',
  'none': lambda at: r'All is well: \boxed{-1}',
  'off by one': lambda at: rf'\boxed{{{at + 1}}}',
  'padded': lambda at: rf'\boxed{{ {at:03d} }}',
  'signed': lambda at: rf'\boxed{{+{abs(at)}}}',
  'out of range': lambda at: rf'\boxed{{{at + 1000}}}',
  'below -1': lambda at: rf'\boxed{{-{abs(at) + 2}}}',
  'contradictory': lambda at: rf'\boxed{{-1}} or rather \boxed{{{at}}}',
  'withdrawn': lambda at: rf'\boxed{{{at}}} but no, \boxed{{-1}}',
  'two verdicts': lambda at: 'Verdict: correct\nVerdict: incorrect',
  'both': lambda at: rf'Verdict: correct. Verdict: incorrect. \boxed{{{at}}}',
  'silent': lambda at: f'The first wrong paragraph is {at}.',
  'empty': lambda at: '',
  'no number': lambda at: r'\boxed{none}',
  'decimal': lambda at: rf'\boxed{{{at}.0}}',
  'nested': lambda at: rf'\boxed{{\text{{{at}}}}}',
  'box in box': lambda at: rf'\boxed{{\boxed{{{at}}}}}',
  'empty box': lambda at: r'\boxed{}',
  'unclosed': lambda at: rf'\boxed{{{at}}} and \boxed{{7',
  'many lines': lambda at: f'\\boxed{{\n{at}\n}}',
  'thought': lambda at: rf'<think>\boxed{{{at}}}</think> I am done.',
  'unfinished': lambda at: rf'<think>It is \boxed{{{at}}}',
  'spaced': lambda at: rf'\boxed {{{at}}}',
  'other digits': lambda at: r'\boxed{' + chr(0x660 + abs(at)) + '}',
  'underscore': lambda at: r'\boxed{1_0}',
  'very long': lambda at: r'\boxed{' + '9' * 5000 + '}',
}
COMMON = ('right', 'right', 'right', 'none', 'off by one', 'padded')


def cases():
  """Makes 200 rows in four parts, with each kind, and dozens of ties."""
  rng = random.Random(0)
  rows, kinds = [], sorted(KINDS)
  for number in range(200):
    part = ('gsm8k', 'math', 'olympiadbench', 'omnimath')[number % 4]
    steps = rng.randint(1, 9)
    label = -1 if rng.random() < 0.4 else rng.randrange(steps)
    row_kinds = [rng.choice(COMMON if i % 2 else kinds) for i in range(8)]
    row_kinds[0] = kinds[number % len(kinds)]  # each, as the greedy one too
    if number % 5 == 0:  # two camps
      row_kinds = rng.sample([row_kinds[0], 'right'] * 4, 8)
    if number % 50 == 49:
      row_kinds = ['silent', 'empty'] * 4
    if part == 'omnimath':  # nobody is ever right: 0/0
      row_kinds = ['silent' if k == 'right' else 'no number' for k in row_kinds]
    critiques = [KINDS[kind](label) for kind in row_kinds]
    row = dict(id=f'{part}-{number}', label=label, steps=[''] * steps)
    rows.append(row | dict(part=part, kinds=row_kinds, critiques=critiques))
  return rows


def trees(rows, num_critiques):
  """Returns the rows as records, parsed as the critic's stage does."""
  records = []
  for row in rows:
    solution = record(
      row['id'], 'solve', None, 0, '', {
        'first_error': row['label'],
        'part': row['part'],
        'num_steps': len(row['steps']),
      },
    )  # fmt: skip
    records.append(solution)
    for index, text in enumerate(row['critiques'][:num_critiques]):
      reading = parse_boxed_step(text)
      records.append(
        record(row['id'], 'critique', solution, index, text, reading)
      )
  return records


def reckoned_answer(text):
  boxes = re.findall(r'\\boxed\{([^}]*)\}', text)
  return boxes[-1].strip() if boxes else None


def reckoned_number(text):
  try:
    return int(text)
  except (TypeError, ValueError):
    return None


def reckoned_vote(texts):
  answers = [reckoned_answer(text) for text in texts]
  answers = [a for a in answers if a is not None]
  if not answers:
    return None
  return reckoned_number(collections.Counter(answers).most_common(1)[0][0])


def reckoned(rows, predict):
  """Returns (erroneous, correct, F1) of each part, and the mean F1."""
  scores = {}
  for part in sorted({row['part'] for row in rows}):
    match = collections.defaultdict(list)
    for row in rows:
      if row['part'] == part:
        hit = predict(row['critiques']) == row['label']
        match[row['label'] != -1].append(hit)
    wrong, right = np.mean(match[True]), np.mean(match[False])
    total = wrong + right
    scores[part] = wrong, right, 2 * wrong * right / total if total else 0.0
  return scores, np.mean([f1 for *_, f1 in scores.values()])


@pytest.mark.parametrize('voting', [False, True])
def test_the_numbers_are_those_of_the_released_code(voting, tmp_path):
  rows = cases()
  assert len(rows) == 200
  assert {kind for row in rows for kind in row['kinds']} == set(KINDS)
  path = tmp_path / 'critiques.jsonl.gz'
  run_dir.write_records(path, trees(rows, 8 if voting else 1))
  got = values(processbench.metrics(run_dir.read_records(path)))

  def greedy(texts):
    return reckoned_number(reckoned_answer(texts[0]))

  parts, mean = reckoned(rows, reckoned_vote if voting else greedy)
  prefix = 'vote_' if voting else ''
  for part, (wrong, right, f1) in parts.items():
    assert got[f'{part}/{prefix}accuracy_erroneous'] == pytest.approx(wrong)
    assert got[f'{part}/{prefix}accuracy_correct'] == pytest.approx(right)
    assert got[f'{part}/{prefix}f1'] == pytest.approx(f1, rel=1e-12)
  assert got[f'{prefix}f1'] == pytest.approx(mean, rel=1e-12)
  assert got[f'omnimath/{prefix}f1'] == 0  # 0/0
  assert 0.1 < mean < 0.9  # or the file would tell little


def test_the_cases_tell_the_rules_apart():
  # The 200 cases would not do if other rules of voting had the same result.
  def last_seen(texts):
    return reckoned_vote(texts[::-1])

  def of_numbers(texts):
    numbers = [reckoned_number(reckoned_answer(t)) for t in texts]
    counts = collections.Counter(n for n in numbers if n is not None)
    return counts.most_common(1)[0][0] if counts else None

  def unparsed_too(texts):
    counts = collections.Counter(reckoned_answer(t) for t in texts)
    return reckoned_number(counts.most_common(1)[0][0])

  rows = cases()
  _, official = reckoned(rows, reckoned_vote)
  for other in (last_seen, of_numbers, unparsed_too):
    assert abs(reckoned(rows, other)[1] - official) > 1e-3, other.__name__


def test_single_critiques_are_a_mean_over_the_k():
  rows = cases()
  got = values(processbench.metrics(trees(rows, 8)))
  hits = [
    reckoned_number(reckoned_answer(text)) == row['label']
    for row in rows
    if row['part'] == 'math' and row['label'] != -1
    for text in row['critiques']
  ]
  assert got['math/accuracy_erroneous'] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize(
  ('reading', 'predicted'),
  [
    (reading('correct'), -1),
    (reading('correct', 3), -1),
    (reading('incorrect', 3), 3),
    (reading('incorrect', 0), 0),
    (reading('incorrect'), None),
    (reading('incorrect', -1), None),  # says both
    (reading(None, 2, 'contradictory'), None),
    (reading('correct', None, 'contradictory'), None),
    (reading(None, None, 'unfinished'), None),
    (reading(None, 2, 'missing'), 2),  # the index is all that is asked for
    (reading(None, -1, 'missing'), -1),
    (reading(None, None, 'missing'), None),
    (box('3'), 3),
    (box('none'), None),
    # Our own format, read by our own parser; the box holds an answer.
    (verdicts.parse('Verdict: incorrect. Step 2 is wrong. \\boxed{12}'), 1),
    (verdicts.parse('Paragraph 2 it is: \\boxed{2}'), 2),
    (verdicts.parse('Verdict: correct\nVerdict: incorrect \\boxed{2}'), None),
  ],
)
def test_prediction(reading, predicted):
  assert processbench.prediction(case(0, reading)[1]) == predicted


@pytest.mark.parametrize(
  ('critiques', 'winner'),
  [
    ([box('2'), box('3'), box('3')], 3),
    ([box('2'), box('3'), box('3'), box('2')], 2),  # a tie: the first seen
    ([box('3'), box('2'), box('2'), box('3')], 3),
    ([box('1'), box('01'), box('2'), box('2')], 2),  # strings, not numbers
    ([box('1'), box('no'), box('no')], None),  # counted before it is read
    ([reading(None, None, 'missing')] * 3 + [reading('correct')], -1),
    ([reading(None, None, 'missing')] * 3, None),
    ([reading('incorrect', 4), reading('incorrect', 4), reading('correct')], 4),
  ],
)
def test_vote(critiques, winner):
  assert processbench.vote(case(0, *critiques)[1:]) == winner


def test_the_first_seen_is_that_of_the_lowest_index():
  _, *critiques = case(2, box('2'), box('3'))
  got = processbench.metrics(critiques[::-1])
  assert got['vote_accuracy_erroneous'].value == 1


def test_by_hand():
  records = [
    *case(
      2, reading('incorrect', 2), reading('incorrect', 1), reading('correct')
    ),
    *case(0, reading('incorrect', 0), reading('incorrect', 0), reading(None)),
    *case(
      -1, reading('correct'), reading('incorrect', 0), reading('incorrect', -1)
    ),
    *case(-1, reading('correct'), reading('correct'), reading('incorrect', 0)),
    *case(None, reading('correct')),  # no label: no row
  ]
  got = processbench.metrics(records)
  assert values(got) == {
    'accuracy_erroneous': pytest.approx((1 / 3 + 2 / 3) / 2),
    'accuracy_correct': pytest.approx((1 / 3 + 2 / 3) / 2),
    'f1': pytest.approx(1 / 2),
    # Votes: 2 (the first of three), 0; -1 (the first of two), -1.
    'vote_accuracy_erroneous': 1,
    'vote_accuracy_correct': 1,
    'vote_f1': 1,
    'f1_always_correct': 0,
    # Labels 2 and 0: the commoner is right on half of them.
    'f1_modal_step': pytest.approx(2 * 0.5 / (1 + 0.5**0.5) ** 2),
  }
  assert (got['accuracy_erroneous'].n, got['f1'].n) == (2, 4)


def test_the_mean_over_parts_weighs_parts_not_solutions():
  records = [
    *case(0, reading('incorrect', 0), part='a', name='1'),
    *case(-1, reading('correct'), part='a', name='2'),
    *case(1, reading('incorrect', 0), part='b', name='3'),
    *case(1, reading('incorrect', 1), part='b', name='4'),
    *case(1, reading('incorrect', 1), part='b', name='5'),
    *case(-1, reading('correct'), part='b', name='6'),
  ]
  got = processbench.metrics(records)
  # b: 2/3 and 1, F1 = 2 * (2/3) / (5/3) = 4/5.
  assert got['a/f1'].value == 1 and got['b/f1'].value == pytest.approx(4 / 5)
  assert got['f1'].value == pytest.approx((1 + 4 / 5) / 2)
  assert got['accuracy_erroneous'].value == pytest.approx((1 + 2 / 3) / 2)
  assert (got['b/f1'].n, got['b/accuracy_erroneous'].n, got['f1'].n) == (
    4,
    3,
    6,
  )
  # The whole comes first, then part by part.
  prefixes = [name.rpartition('/')[0] for name in got]
  assert prefixes == sorted(prefixes)


def test_one_part_is_not_shown_twice():
  got = processbench.metrics(case(0, reading('correct'), part='gsm8k'))
  assert not any('/' in name for name in got)


def test_a_right_answer_by_a_wrong_step_is_an_erroneous_solution():
  # ProcessBench labels steps, not answers.
  records = case(1, reading('correct'), correct=True)
  got = values(processbench.metrics(records + case(-1, reading('correct'))))
  assert (got['accuracy_erroneous'], got['accuracy_correct']) == (0, 1)
  assert got['f1'] == 0


def test_f1_of_two_zeros_is_zero():
  records = case(0, reading(None)) + case(-1, reading(None))
  assert processbench.metrics(records)['f1'].value == 0.0


def test_nothing_without_labels():
  unlabelled = case(None, reading('correct'))
  assert processbench.metrics(unlabelled) == {}
  assert processbench.compare(unlabelled, unlabelled) == {}
  assert processbench.metrics(case(3)) == {}  # a solution nobody criticised


@pytest.mark.parametrize('hit', [0.0, 0.05, 0.2, 0.5, 1.0])
def test_the_best_guess_is_the_best_of_all_probabilities(hit):
  p = np.linspace(1e-6, 1 - 1e-6, 100_001)
  located, passed = (1 - p) * hit, p
  best = np.max(2 * located * passed / (located + passed))
  assert processbench.best_guess(hit) == pytest.approx(best, abs=1e-8)


def test_guesses_by_hand():
  rows = [(0, 2), (0, 4), (1, 4), (3, 4), (-1, 5)]  # label, steps
  records = [
    r
    for row in rows
    for r in case(row[0], reading('correct'), num_steps=row[1])
  ]
  got = values(processbench.metrics(records))
  # A uniform step is right on (1/2 + 1/4 + 1/4 + 1/4) / 4 = 5/16 of the
  # erroneous, label 0 on 1/2 of them.
  uniform, modal = 5 / 16, 1 / 2
  assert got['f1_uniform_step'] == pytest.approx(
    2 * uniform / (1 + uniform**0.5) ** 2
  )
  assert got['f1_modal_step'] == pytest.approx(
    2 * modal / (1 + modal**0.5) ** 2
  )
  assert got['f1_always_correct'] == got['f1'] == 0


def test_no_critic_that_guesses_beats_the_floor():
  # A scripted critic with the best p, over many solutions: it gets the floor.
  rng = random.Random(1)
  labels = [-1 if rng.random() < 0.5 else rng.randrange(4) for _ in range(2000)]
  p = 0.5 / 1.5  # hit = 1/4: sqrt(hit) / (1 + sqrt(hit))
  guesses = [-1 if rng.random() < p else rng.randrange(4) for _ in labels]
  records = [
    r
    for number, (label, guess) in enumerate(zip(labels, guesses, strict=True))
    for r in case(label, box(guess), num_steps=4, name=str(number))
  ]
  got = processbench.metrics(records)
  # 2 * 1/4 / (3/2)^2 = 2/9
  assert got['f1_uniform_step'].value == pytest.approx(2 / 9)
  assert got['f1'].low < 2 / 9 < got['f1'].high


def test_guesses_need_both_kinds_of_solutions():
  got = processbench.metrics(case(0, reading('correct'), num_steps=2))
  assert np.isnan(got['f1_modal_step'].value) and got['f1_modal_step'].n == 0


def test_compare_pairs_problems():
  def critic(good):
    return [
      r
      for i in range(40)
      for r in case(
        i % 2 - 1, box(i % 2 - 1 if i < good else 9), name=str(i)
      )  # fmt: skip
    ]

  got = processbench.compare(critic(10), critic(30))
  assert got['accuracy_erroneous'].value == pytest.approx(0.5)
  assert 0.2 < got['f1'].low < got['f1'].value < got['f1'].high < 0.8
  assert not any('step' in name for name in got)


def test_verdicts_of_the_format_are_judged_too():
  records = case(2, box('1'), correct=False) + case(-1, box('-1'), correct=True)
  assert critique_metrics.metrics(records)['balanced_accuracy'].value == 1


@pytest.mark.skipif(not REAL.exists(), reason='no ../shared/data')
def test_the_floors_of_a_real_file():
  rows = [json.loads(line) for line in REAL.read_text().splitlines()]
  records = [
    r
    for row in rows
    for r in case(
      row['label'], box(-1), name=str(row['id']), num_steps=len(row['steps'])
    )
  ]
  got = values(processbench.metrics(records))
  assert got['accuracy_correct'] == 1 and got['f1'] == 0
  wrong = [row for row in rows if row['label'] >= 0]
  assert len(wrong) == 460
  # 93 of the 460 have the label 2.
  modal = 93 / 460
  assert got['f1_modal_step'] == pytest.approx(
    2 * modal / (1 + modal**0.5) ** 2
  )
  assert 0.15 < got['f1_uniform_step'] < got['f1_modal_step'] < 0.3
