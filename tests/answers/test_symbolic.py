"""Algebra: what sympy and math_verify call equal is checked."""

import pytest

from critic_jax.answers import final_answers, symbolic


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    (r'\sqrt{8}', r'2\sqrt{2}'),
    (r'\tan^{2} y+1', r'\frac{1}{\cos^{2} y}'),
    (r'\frac{2}{1+i}', '1-i'),
    (r'\ln{6}', r'\ln{2}+\ln{3}'),
    ('0.5x', r'\frac{x}{2}'),
    ('x<1', '-x>-1'),
    ('2x+4y-3=0', r'y=-\frac{1}{2}x+\frac{3}{4}'),
    (r'(1,5)\cup(3,7)', '(1,7)'),
    (r'\frac{dx}{dt}=kx', r'kx=\frac{d x}{d t}'),
    (r'\gamma^{2}-1', r'(\gamma-1)(\gamma+1)'),
    (r'f(x)+1', '1+f(x)'),
    (
      r'F_{n}=\sum_{k=0}^{n-1} F_{k} F_{n-k}',
      r'F_{n}=\sum_{k=0}^{n-1} F_{n-k} F_{k}',
    ),
    (r'\sqrt{2}\times 10^{-30}', r'2\times 10^{-30}/\sqrt{2}'),
    (r'(1,2)\cup(3,4)', r'(3,4)\cup(1,2)'),
    ('2x<6', '6-2x>0'),
    ('y=2x', '2x=y'),
  ],
)
def test_equal(answer, reference):
  assert symbolic.equal(answer, reference)


@pytest.mark.parametrize(
  ('answer', 'reference'),
  [
    (r'(1,5)\cup(3,7)', '(1,7]'),
    ('(1,7)', '(1,7]'),
    (r'(1,2)\cup(3,4)', r'(1,2)\cup(3,5)'),
    ('2Rr', '2r^{2}'),
    ('x<1', 'y<1'),
    ('x<1', '0<1'),
    ('0<1', 'x<1'),
    ('x<1', 'x>1'),
    ('x<1', 'x\\leq 1'),
    ('x=1', 'x=2'),
  ],
)
def test_not_equal(answer, reference):
  assert not symbolic.equal(answer, reference)


@pytest.mark.parametrize('power', [5, 16, 40, 300])
@pytest.mark.parametrize(
  'form',
  ['{}', '1+{}', r'\sqrt{{2}}+{}', r'\sqrt{{2}}\cdot {}', 'x+{}', '{}x',
   'y=x+{}', 'x>{}', r'\sin(x+{})', '[{},2]', r'\frac{{x}}{{1+{}}}'],
)  # fmt: skip
def test_no_difference_is_too_small(form, power):
  # A policy would be paid for a tiny number wherever the reference is tiny.
  pair = [form.format(f'{k}\\times 10^{{-{power}}}') for k in (2, 3)]
  assert not symbolic.equal(*pair)
  assert not final_answers.equivalent(*pair)
  assert final_answers.equivalent(
    pair[0], pair[0].replace('2\\times', '2.0\\times')
  )


@pytest.mark.parametrize(
  ('answer', 'reference', 'is_right'),
  [
    (r'2-\sqrt{3}', '0.2679492', True),
    (r'2-\sqrt{3}', '0.2679510', False),
    (r'e^{\ln{0.3}}', '0.300000', False),
    (r'0.2679492+0\pi', '0.2679492', False),
    ('x', '0.2679492', False),
  ],
)
def test_a_reference_rounds_irrational_numbers_only(
  answer, reference, is_right
):
  assert symbolic.equal(answer, reference, must_round=True) is is_right


def test_no_memory_is_no_answer(monkeypatch):
  def fail(text):
    raise MemoryError

  monkeypatch.setattr(symbolic, '_read', fail)
  with pytest.raises(MemoryError):
    symbolic.equal('x', 'y')
