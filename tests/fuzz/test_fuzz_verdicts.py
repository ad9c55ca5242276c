"""A verdict is one verdict, whatever surrounds it."""

import re

from fuzzing import record, texts
from hypothesis import assume, given
from hypothesis import strategies as st

from critic_jax.rewards import critique_points, leaks, verdicts

WORDS = st.sampled_from(('correct', 'incorrect'))
PARTS = (
  'Verdict: correct', 'Verdict: incorrect', 'verdict:', '**Verdict**: ',
  '\\boxed{3}', '\\boxed{correct}', 'Step 2 is wrong', '.', '\n', 'correct',
  ' should be ',
)  # fmt: skip
critiques = texts(*PARTS, max_size=14)
# Texts that are neither a verdict nor a tag.
silent = texts().filter(
  lambda text: not re.search('verdict|</?think>', text, re.I)
)


@given(critiques)
def test_a_critique_is_read_in_one_way(text):
  parsed = verdicts.parse(text)
  assert parsed == {
    'verdict': verdicts.verdict(text),
    'status': verdicts.status(text),
    'conclusion': verdicts.conclusion(text),
    'step': parsed['step'],
  }
  assert (parsed['verdict'] is None) == (parsed['status'] != 'ok')
  assert (parsed['conclusion'] is None) == (parsed['status'] == 'unfinished')
  assert parsed['step'] is None or -1 <= parsed['step'] <= 9999
  assert verdicts.wrong_steps(text) <= {*range(-1, 9999)}
  points = critique_points.read(text)
  assert {point.step for point in points} <= verdicts.wrong_steps(text)
  assert len({*points}) == len(points)
  assert all(verdicts.status(p.line) == 'missing' for p in points)
  if parsed['conclusion'] is not None:
    assert parsed['conclusion'] in text
    assert not re.search('</?think>', parsed['conclusion'])


@given(silent, WORDS, silent)
def test_what_surrounds_a_verdict_does_not_change_it(before, word, after):
  text = f'{before}\nVerdict: {word}\n{after}'
  assert verdicts.parse(text)['verdict'] == word


@given(critiques, WORDS, silent)
def test_a_second_verdict_never_wins(text, word, after):
  first_verdict = verdicts.verdict(text)
  verdict_of_both = verdicts.verdict(f'{text}\nVerdict: {word}\n{after}')
  assert verdict_of_both in (first_verdict, None) if first_verdict else True
  assert verdict_of_both == word or verdict_of_both is None


@given(silent, WORDS, silent, WORDS, silent)
def test_both_verdicts_are_none(before, first, between, second, after):
  text = f'{before}\nVerdict: {first}\n{between}\nVerdict: {second}\n{after}'
  parsed = verdicts.parse(text)
  assert parsed['verdict'] == (first if first == second else None)
  assert parsed['status'] == ('ok' if first == second else 'contradictory')


@given(texts(*PARTS), texts(*PARTS))
def test_no_thinking_is_in_the_conclusion(thinking, answer):
  assume('think>' not in thinking + answer)
  text = f'<think>{thinking}</think>{answer}'
  assert verdicts.conclusion(text) == answer.strip()
  assert verdicts.parse(text) == verdicts.parse(answer) or not answer.strip()
  assert verdicts.conclusion(f'<think>{thinking}') is None


ANSWERS = (
  '12',
  '1,234',
  '2x+1',
  '(1, 2)',
  'B',
  'yes',
  'Tuesday',
  '-7',
  r'\frac12',
)


@given(texts(*ANSWERS), texts(*ANSWERS), texts(*ANSWERS, max_size=2))
def test_masks_are_functions_of_the_kind_of_the_answer(text, other, answer):
  critiques = [record('critique', text, name) for name in (*ANSWERS, answer)]
  masked_texts = {}
  for critique in critiques:
    kind = leaks.kind_of(critique.problem.answer)
    masked_text = leaks.masked(critique)
    assert masked_texts.setdefault(kind, masked_text) == masked_text
    leaks.leaks(critique)


@given(texts(*ANSWERS[:2]), st.integers(-(10**6), 10**6).map(str))
def test_a_number_between_any_texts_is_a_leak_and_masked(text, number):
  critique = record('critique', f'{text}\n: {number} .', number)
  assert leaks.leaks(critique)
  assert number not in leaks.masked(critique).split('\n: ')[-1]
