import random
import time

import pytest

from critic_jax.rewards import answers


@pytest.mark.parametrize(
  'text, answer',
  [
    (r'so \boxed{5}.', '5'),
    (r'\fbox{5}', '5'),
    (r'\boxed{4} no, \boxed{5}', '5'),  # the last counts
    (r'\boxed{4} no, \fbox{5}', '5'),
    (r'\boxed{\frac{1}{2}}', r'\frac{1}{2}'),  # TRAPS 22
    (r'\boxed{\left\{\frac{\sqrt{3}}{2}\right\}}',
     r'\left\{\frac{\sqrt{3}}{2}\right\}'),
    (r'\boxed{\{1, 2\}}', r'\{1, 2\}'),
    (r'\boxed{\{}', r'\{'),  # an escaped brace closes nothing
    (r'\boxed{\boxed{5}}', '5'),
    ('\\boxed\n {5}', '5'),
    (r'$\boxed 5$', '5'),
    (r'\boxed -5. Done', '-5'),
    (r'\boxed\frac12$', r'\frac12'),
    (r'\boxed{5} as asked in \boxed', '5'),  # prose is no box
    (r'\boxed{5}; \boxedsize{6} \boxeds{6}', '5'),
    (r'\boxed{5} and \boxed{6', None),  # cut off: nothing replaces it
    (r'\boxed{5} and \boxed{6\}', None),
    (r'\boxed{5} and \boxed{}', None),
    (r'\boxed{' + '1' * 1001 + '}', None),
    (r'\boxed{' + '1' * 1000 + '}', '1' * 1000),
    ('2 + 2 = 4\n#### 4', '4'),
    ('#### 3\nno\n#### 4\nbye', '4'),
    ('#### 1,234 \n', '1,234'),
    ('\\boxed{5}\n#### 4', '5'),
    ('\\boxed{5\n#### 4', None),
    ('#### ' + '1' * 1001, None),
    ('so #### 4', None),  # GSM8K's line begins with it
    ('##### 4', None),
    ('####', None),
    ('The answer is 5.', None),  # TRAPS 24: no last number, no whole text
    ('5', None),
    ('', None),
  ],
)  # fmt: skip
def test_extract(text, answer):
  assert answers.extract(text) == answer


def test_extract_reads_the_beginning_of_a_long_text():
  # TRAPS 21: no window at the end.
  assert answers.extract(r'\boxed{5}' + ' and so on' * 10_000) == '5'


@pytest.mark.parametrize(
  'piece',
  [
    r'\boxed', r'\boxed{', r'\boxed 5', r'\boxed   ', r'\fbox{}', '{', '}',
    '####', '\n####', '\n#### 5', ' ', '\\', r'\boxed and ',
  ],
)  # fmt: skip
def test_extract_is_linear(piece):
  text = piece * (5_000_000 // len(piece))
  start = time.process_time()
  answers.extract(text)
  answers.extract(r'\boxed{' + text)
  assert time.process_time() - start < 5.0  # quadratic: hours


EQUIVALENT = [
  ('5', '5'),
  (' 5. ', '5'),
  ('+5', '5'),
  ('-0', '0'),
  ('12.0', '12'),
  ('.5', '0.5'),
  ('007', '7'),
  ('1,234', '1234'),
  ('1{,}234', '1234'),
  (r'1,\!234', '1234'),
  (r'1\,234', '1234'),
  ('1 234', '1234'),
  (r'\$1,234.50', '1234.5'),
  ('$5', '5'),
  (r'\$5', '5 dollars'),
  ('12 dollars', '12'),
  ('12', '12 dollars'),
  ('3 cm', '3'),
  (r'3\text{ cm}', '3'),
  (r'3\text{ cm}^2', '3'),
  ('3 m', '3m'),  # metres or a variable
  ('3x', '3 x'),
  (r'2\pi\text{ inches}', r'2\pi'),
  (r'4 \text{ cookies}', '4 cookie'),
  (r'90^\circ', '90'),
  ('90°', '90 degrees'),
  ('50%', '0.5'),
  (r'50\%', '50'),
  ('50', r'50\%'),
  ('0.5', '50%'),
  ('50 percent', '1/2'),
  ('1/2', '0.5'),
  ('2/4', '1/2'),
  (r'\frac12', r'\dfrac{1}{2}'),
  (r'-\frac{1}{2}', r'\frac{-1}{2}'),
  (r'2\frac{1}{2}', '2.5'),
  ('2 1/2', '2.5'),
  (r'-2\frac12', '-5/2'),
  ('0.333333', r'\frac{1}{3}'),
  (r'\text{Evelyn}', 'evelyn'),
  (r'\text{(A)}', 'A'),
  ('No', 'no'),
  ('x = 5', '5'),
  ('5', 'x=5'),
  ('f(x) = 2x', '2x'),
  ('a=1, b=2', '1,2'),
  (r'\(5\)', '5'),
  ('$5$', '5'),
  ('\u22125', '-5'),
  (r'\left(\frac{1}{2}, 3\right)', '(0.5,3)'),
  (r'\{2, 1\}', r'\{1,2\}'),
  ('1,2', '2,1'),
  (r'[0,\infty)', r'\left[0, \infty\right)'),
  (r'(-\infty,3)\cup(3,\infty)', r'(3,\infty)\cup(-\infty,3)'),
  (r'\sqrt{8}', r'2\sqrt2'),
  (r'\frac{1}{\sqrt{2}}', r'\frac{\sqrt{2}}{2}'),
  ('x^2-1', '(x-1)(x+1)'),
  (r'\frac{a}{b}', 'a/b'),
  (r'1.5 \times 10^3', '1500'),
  (r'3\times 10^{-2}', '0.03'),
  ('2^{10}', '1024'),
  (r'2-\sqrt{3}', '0.2679492'),
  (r'\pm 5', '5,-5'),
  ('52_8', '52_{8}'),
  (
    r'\begin{pmatrix}1\\ 2\end{pmatrix}',
    r'\begin{pmatrix} 1 \\2 \end{pmatrix}',
  ),
]
DIFFERENT = [
  ('5', '6'),
  ('-5', '5'),
  ('', ''),
  ('', '5'),
  (' ', '5'),
  ('.', '5'),
  ('x=', '5'),
  ('x=', 'x'),
  ('5 or 7', '7'),
  (r'5\text{ or }7', '5'),
  ('5, 7', '5'),
  ('the answer is 7', '7'),
  ('answer: [5] or [6] ', '5'),
  ('not 5', '5'),
  ('5}', '6'),
  ('2 3', '5'),  # math_verify adds
  ('2 3', '23'),
  ('7 5', '12'),
  ('5=6', '6'),  # math_verify takes the right-hand side
  ('1=2=3=6', '6'),
  ('5=6', '5'),
  ('y=5', 'x=5'),
  ('seat', 'east'),  # products of the same letters
  (r'\text{seat}', 'east'),
  ('12_3', '12_4'),
  ('3 cm', '3 m'),
  (r'3\text{ cm}', r'3\text{ m}'),
  ('$5', '5 euros'),
  ('5 million', '5'),
  ('5 squared', '5'),
  ('5 xy', '5'),
  ('3x', '3'),
  ('0.5', '50'),
  ('5%', '0.5'),
  (r'2\frac{-1}{2}', '1.5'),  # a product
  ('5000%', '50%'),
  ('0.1', '0.1000001'),  # decimals are exact
  ('1000000.0000001', '1000000'),
  ('0.333', '1/3'),
  ('3.14', r'\pi'),
  ('1, 234', '1234'),
  ('1/0', '1'),
  ('(1,2)', '(2,1)'),
  ('(1,2)', '[1,2]'),
  ('(1,2)', r'\{1,2\}'),
  ('12*13', '156'),  # the question's own expression
  (r'12 \times 13', '156'),
  (r'{12}\cdot{13}', '156'),
  ('12(13)', '156'),
  (r'\frac{1}{2}+\frac{1}{3}', '5/6'),
  ('0.1 + 0.2', '0.3'),
  ('12^1*13', '156'),
  ('2 + 3', '5'),
  (r'\frac{12*13}{1}', '156'),
  ('\uff11\uff12', '12'),  # fullwidth digits, which int() reads
  ('2\u00b2', '22'),  # a superscript, as NFKC reads it
  ('2\u00bd', '21/2'),
  ('1\u200b2', '12'),
  ('E', '2.718281828459045'),
  ('A', 'B'),
  ('1' * 1001, '1' * 1001),
]  # fmt: skip


@pytest.mark.parametrize('answer, reference', EQUIVALENT)
def test_equivalent(answer, reference):
  assert answers.equivalent(answer, reference)


@pytest.mark.parametrize('answer, reference', DIFFERENT)
def test_different(answer, reference):
  assert not answers.equivalent(answer, reference)


def test_not_everything_is_right():
  # TRAPS 25: a grader that says yes to a whole data set.
  references = ['5', '1/2', r'\sqrt{2}', '(1,2)', 'x+1', 'blue', r'\{1\}', 'C']
  for i, answer in enumerate(references):
    for j, reference in enumerate(references):
      assert answers.equivalent(answer, reference) == (i == j), (
        answer,
        reference,
      )


def test_failing_parser_is_not_equal(monkeypatch):
  def fail(*texts):
    raise RecursionError

  monkeypatch.setattr(answers, '_math_verify', lambda: (fail, fail))
  assert not answers.equivalent(r'\sqrt{4}', '2')


@pytest.mark.parametrize(
  'answer, reference, decided',
  [
    ('5', '5.0', True),
    ('5', '6', False),
    (r'\frac{9^{9^{9^9}}}{2}', '5' * 1001, False),
    (r'9^{9^{9^9}}', r'9^{9^{9^9}}', True),
    ('1 dollar', '1', True),
    (r'\sqrt{4}', '2', None),
  ],
)
def test_exact_settles_plain_answers(answer, reference, decided):
  assert answers.exact(answer, reference) is decided


@pytest.mark.parametrize(
  'piece',
  ['1', '1,', '1 ', ',111', 'a ', 'aa ', ' ', '{', r'\frac1', '(', 'x=', '$',
   'x,', r'\text{', '1-', '1 cm ', '_1', '1/', 'a\'', r'\ ', 'day '],
)  # fmt: skip
def test_exact_takes_milliseconds(piece):
  text = (piece * 1000)[:1000]
  start = time.process_time()
  for answer, reference in [(text, '5'), ('5', text), (text, text + '!')]:
    answers.exact(answer, reference)
  assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
  'text, grade',
  [
    (r'\boxed{5}', 'right'),
    (r'\boxed{6}', 'wrong'),
    ('5', 'unparsable'),
    (r'\boxed{5', 'unparsable'),
    (r'\boxed{\frac{10}{2}}', 'right'),
  ],
)
def test_grade(text, grade):
  assert answers.grade(text, '5') == grade


_PIECES = (
  '\\boxed{', '\\fbox ', '}', '{', '\\{', '\\}', '\\', '$', '#### ', '\n', ' ',
  '5', '1,234', '.', '%', '=', '_', '^', '(', ']', 'x', 'answer', '\\frac',
  '\\text{', '/', '-', '\u200b', '\ud800', '\u0130', '\x00', '½', '∞', ' cm',
)  # fmt: skip


def test_random_texts_raise_nothing():
  rng = random.Random(0)
  for _ in range(2_000):
    text = ''.join(rng.choices(_PIECES, k=rng.randrange(12)))
    extracted = answers.extract(text)
    assert extracted is None or 0 < len(extracted) <= answers.MAX_ANSWER
    assert answers.exact(text, '5') in (True, False, None)
    assert answers.exact('5', text) in (True, False, None)
  for _ in range(60):
    text = ''.join(rng.choices(_PIECES, k=rng.randrange(8)))
    assert answers.equivalent(text, r'\sqrt{2}') is False
