"""An answer is what is in the last box, and numbers are numbers."""

from fractions import Fraction

from fuzzing import texts
from hypothesis import assume, given
from hypothesis import strategies as st

from critic_jax.answers import final_answers
from critic_jax.execution import code

PARTS = (
  '\\boxed{', '\\boxed 5', '\\fbox{', '}', '{', '\\}', '####', '\n#### 5', '12',
  '\\frac{1}{2}', '\\text{cm}', '\\circ', '1,234', '\\left(', '$', '=', '%',
  ' \\\\ ', '\\frac12', '.', '-', '5',
)  # fmt: skip
solutions = texts(*PARTS, max_size=14)
boxless = texts().filter(lambda text: 'box' not in text)


@given(solutions)
def test_an_answer_stands_in_its_text(text):
  answer = final_answers.extract(text)
  if answer is not None:
    assert answer in text and answer == answer.strip()
    assert 0 < len(answer) <= final_answers.MAX_ANSWER


@given(solutions, texts(*PARTS).filter(str.strip), boxless)
def test_the_last_box_is_the_answer(before, answer, after):
  plain = answer.replace('\\', '').replace('{', '').replace('}', '')
  plain = plain[: final_answers.MAX_ANSWER].strip()
  assume(plain)
  # A backslash before it would be another command.
  text = f'{before}\n\\boxed{{{plain}}}{after}'
  assert final_answers.extract(text) == plain


@given(solutions, boxless)
def test_a_text_that_is_cut_in_its_box_has_no_answer(before, after):
  text = f'{before}\n\\boxed{{{{{after.replace("}", "")}'
  assert final_answers.extract(text) is None


@given(texts(*PARTS), texts(*PARTS))
def test_any_two_answers_are_compared(answer, reference):
  decided = final_answers.exact(answer, reference)
  assert decided in (True, False, None)
  # Decisions are the same in both directions; only None may be one-sided.
  other = final_answers.exact(reference, answer)
  assert None in (decided, other) or decided == other


@given(texts(*PARTS))
def test_an_answer_is_itself(answer):
  assert final_answers.exact(answer, answer) in (True, False)
  assert final_answers.exact(answer, answer) or not final_answers.exact(
    answer, '7'
  )


@given(st.integers(), st.integers(), st.sampled_from(('{}', '{:,}', '${}$')))
def test_integers_are_equal_if_they_are(a, b, form):
  assert final_answers.exact(form.format(a), str(a)) is True
  assert final_answers.exact(form.format(a), str(b)) is (a == b)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(2, 99))
def test_fractions_are_equal_if_they_are(numerator, denominator, factor):
  larger = f'\\frac{{{numerator * factor}}}{{{denominator * factor}}}'
  assert final_answers.exact(larger, f'{numerator}/{denominator}') is True
  other = Fraction(numerator + 1, denominator)
  other = f'{other.numerator}/{other.denominator}'
  assert final_answers.exact(other, larger) in (False, None)


@given(texts('```python\n', '```', 'def f():\n', '  return 1\n', '~~~'))
def test_programs_are_found_or_not(text):
  program = code.extract(text)
  assert program is None or program.strip() in text
