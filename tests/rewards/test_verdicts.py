import random
import time

import pytest

from critic_jax.rewards import verdicts


@pytest.mark.parametrize(
  'text, conclusion',
  [
    ('all of it', 'all of it'),
    ('<think>a</think> b ', 'b'),
    ('a</think> b', 'b'),  # the prompt opened the span
    ('x <think>a</think> b', 'b'),
    ('<think>a</think>', ''),
    ('', ''),
    ('<think>a', None),
    ('a<think>', None),
    ('<think>a</think> b <think> c', None),
    ('</think> b <think> c', None),
    ('<think>a</think> b <think>c</think> d', 'd'),
    ('a</think> b </think> c', 'c'),
    ('<think>a<think>b</think>c</think> d', 'd'),
    ('<think>a<think>b</think> c', None),  # the outer span is open
    ('</think><think>a', None),
    ('<think>a</ think> b', None),  # not the tag
    ('<THINK>a</THINK> b', '<THINK>a</THINK> b'),
  ],
)
def test_conclusion(text, conclusion):
  assert verdicts.conclusion(text) == conclusion


def test_what_a_prompt_opens_is_given_to_the_text():
  text = '<think>\nPerhaps. Step 1 is wrong.\nVerdict: correct'
  parsed = verdicts.parse(text)
  assert parsed == dict(
    verdict=None, status='unfinished', conclusion=None, step=None
  )
  assert verdicts.verdict(f'{text}</think>Verdict: incorrect') == 'incorrect'


@pytest.mark.parametrize(
  'sentence',
  [
    'Verdict: {}',
    'Verdict: {}.',
    'verdict:{}',
    'VERDICT : {}',
    'The step fails. Verdict: {}. Step 2 is at fault.',
    '**Verdict:** {}',
    '**Verdict: {}**',
    '**Verdict: {}.**',
    '**Verdict**: **{}**.',
    '__Verdict:__ *{}*',
    'Verdict: `{}`',
    'Verdict: \\boxed{{{}}}',
    'Verdict: $\\boxed{{{}}}$.',
    'Verdict: \\boxed{{\\text{{{}}}}}',
    '## Final verdict: {}\n\nIt is correct that 2 is even.',
    'Verdict: {}\r\nbye',
    'Verdict: {}\nVerdict: {}',  # one verdict, said twice
    '<think>Verdict: correct? Verdict: incorrect?</think>\nVerdict: {}',
  ],
)
@pytest.mark.parametrize(
  'word', ['correct', 'incorrect', 'Correct', 'INCORRECT']
)
def test_verdict(sentence, word):
  parsed = verdicts.parse(sentence.format(word, word))
  assert (parsed['verdict'], parsed['status']) == (word.lower(), 'ok')


@pytest.mark.parametrize(
  'text, status',
  [
    ('', 'missing'),
    ('The solution is correct.', 'missing'),
    ('correct', 'missing'),
    ('\\boxed{correct}', 'missing'),
    ('The verdict is correct', 'missing'),
    ('Verdict:', 'missing'),
    ('Verdict:\ncorrect', 'missing'),
    ('Verdict: correct or incorrect', 'missing'),
    ('Verdict: correct/incorrect', 'missing'),
    ('Verdict: correct, incorrect', 'missing'),
    ('Verdict: correct (incorrect)', 'missing'),
    ('Verdict: correct.incorrect', 'missing'),
    ('Verdict: correct...', 'missing'),
    ('Verdict: correct?', 'missing'),
    ('Verdict: not correct', 'missing'),
    ('Verdict: incorrect-ish', 'missing'),
    ('Verdict: incorrectly', 'missing'),
    ('Verdict: partially correct', 'missing'),
    ('Verdict: in correct', 'missing'),
    ('Verdict: in-correct', 'missing'),
    ('Verdict: [correct]', 'missing'),
    ('Verdict: \\boxed{correct', 'missing'),
    ('Verdict: \\boxed{correct}{incorrect}', 'missing'),
    ('Preverdict: correct', 'missing'),
    ('Verdict： correct', 'missing'),  # a fullwidth colon
    ('Verdict: cor\u200brect', 'missing'),
    ('Verdict: correct\u200b', 'missing'),
    ('Verdict: \u200bcorrect', 'missing'),
    ('Verdict: c\u043errect', 'missing'),  # a Cyrillic o
    ('Verdict: \u0131ncorrect', 'missing'),  # a dotless i
    ('Verdict: \u0130NCORRECT', 'missing'),
    ('Verdict: correct\u2028incorrect', 'missing'),
    ('Verdict: correct\x00', 'missing'),
    ('Verdict: correct\nVerdict: incorrect', 'contradictory'),
    ('Verdict: incorrect. Verdict: correct.', 'contradictory'),
    ('Verdict: correct\nVerdict: not correct', 'contradictory'),
    ('Verdict: maybe\nVerdict: correct', 'contradictory'),
    ('Verdict: correct Verdict: incorrect', 'contradictory'),
    ('<think>Verdict: correct</think> I am done.', 'missing'),
    ('Verdict: correct</think>', 'missing'),
    ('<think>Hm. Verdict: correct', 'unfinished'),
    ('Verdict: correct <think> or', 'unfinished'),
    ('<think>a</think> Verdict: correct <think>', 'unfinished'),
  ],
)
def test_no_verdict(text, status):
  assert verdicts.verdict(text) is None
  assert verdicts.status(text) == status


@pytest.mark.parametrize(
  'text, step',
  [
    (r'The earliest error: \boxed{2}', 2),
    (r'\boxed{2}, no, \boxed{ 0 }', 0),
    (r'\boxed{-1}', -1),
    (r'\boxed{-2}', None),
    (r'\boxed{2.5}', None),
    (r'\boxed{two}', None),
    (r'\boxed{01}', 1),  # TRAPS 35: a number, not a string
    ('Step 3 is wrong.', 2),
    ('**Step 3** is **incorrect**', 2),
    ('step 1 is wrong, and step 2 is wrong', 0),
    ('Step 0 is wrong', None),
    ('Step 3 is not wrong', None),
    ('Step 3 is incorrectly typeset', None),
    ('Step 3 is incorrect-ish', None),
    ('misstep 3 is wrong', None),
    ('Step \uff13 is wrong', None),
    ('Step 99999999999999999999 is wrong', None),
    (r'Step 3 is wrong. \boxed{1}', 1),  # ProcessBench's format
    (r'Step 3 is wrong; it is \boxed{42}. Verdict: incorrect', 2),
    (r'<think>\boxed{2} Step 1 is wrong</think>', None),
    ('<think>Step 1 is wrong</think> Step 2 is wrong', 1),
    (r'<think>\boxed{2}', None),
    ('Step ' * 10 + '4 is wrong', 3),
    ('', None),
  ],
)
def test_first_error_step(text, step):
  assert verdicts.parse(text)['step'] == step


def test_parse():
  text = '<think>hm</think> Step 2 is wrong.\nVerdict: incorrect'
  assert verdicts.parse(text) == {
    'verdict': 'incorrect',
    'status': 'ok',
    'conclusion': 'Step 2 is wrong.\nVerdict: incorrect',
    'step': 1,
  }
  assert verdicts.parse('<think>hm') == {
    'verdict': None,
    'status': 'unfinished',
    'conclusion': None,
    'step': None,
  }


def test_verdict_far_from_either_end():
  filler = 'so on and '  # 100 kB on each side
  text = f'{filler * 10_000}\nVerdict: incorrect\n{filler * 10_000}'
  assert verdicts.verdict(f'<think>{text}</think>{text}') == 'incorrect'


@pytest.mark.parametrize(
  'piece',
  ['<think>', '</think>', 'Verdict:', 'Verdict: correct\n', 'verdict*',
   '\\boxed{', 'Step 1 ', 'step ', ' ', '*', '<', '\n'],
)  # fmt: skip
def test_parse_is_linear(piece):
  text = piece * (2_000_000 // len(piece))
  start = time.process_time()
  verdicts.parse(text)
  assert time.process_time() - start < 2.0  # quadratic: an hour


_PIECES = (
  'Verdict: ', 'verdict', ':', 'correct', 'incorrect', '.', '\n', '<think>',
  '</think>', '**', '`', '\\boxed{', '}', 'Step 2 is wrong', ' ', 'not ',
  '\u200b', '\ud800', '\x00', '\u2028', 'İ', '-1', '$',
)  # fmt: skip


def test_random_texts_raise_nothing_and_agree():
  rng = random.Random(0)
  statuses = set()
  for _ in range(20_000):
    text = ''.join(rng.choices(_PIECES, k=rng.randrange(9)))
    parsed = verdicts.parse(text)
    statuses.add(parsed['status'])
    assert (parsed['verdict'] is not None) == (parsed['status'] == 'ok')
    assert (parsed['conclusion'] is None) == (parsed['status'] == 'unfinished')
    if parsed['conclusion'] is not None:
      assert '<think>' not in parsed['conclusion']
      assert '</think>' not in parsed['conclusion']
      # The judge reads the same text as the solver.
      parsed_conclusion = verdicts.parse(parsed['conclusion'])
      assert parsed_conclusion == parsed
    assert parsed['verdict'] == verdicts.verdict(text)
    assert parsed['status'] == verdicts.status(text)
  assert statuses == {'ok', 'missing', 'contradictory', 'unfinished'}
