import random
import time

import pytest

from critic_jax.answers import final_answers, symbolic


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
  assert final_answers.extract(text) == answer


def test_extract_reads_the_beginning_of_a_long_text():
  # TRAPS 21: no window at the end.
  assert final_answers.extract(r'\boxed{5}' + ' and so on' * 10_000) == '5'


@pytest.mark.parametrize(
  'piece',
  [
    r'\boxed', r'\boxed{', r'\boxed 5', r'\boxed   ', r'\fbox{}', '{', '}',
    '####', '\n####', '\n#### 5', ' ', '\\', r'\boxed and ',
  ],
)  # fmt: skip
def test_extract_is_linear(piece):
  text = piece * (2_000_000 // len(piece))
  start = time.process_time()
  final_answers.extract(text)
  final_answers.extract(r'\boxed{' + text)
  assert time.process_time() - start < 2.0  # quadratic: an hour


EQUIVALENT = [
  ('5', '5'),
  (' 5. ', '5'),
  ('+5', '5'),
  ('-0', '0'),
  ('12.0', '12'),
  ('.5', '0.5'),
  ('(y=5, x=6)', '(6,5)'),
  (r'1, 2, \sqrt{1}', '1, 1, 2'),
  ('1011', '1011_2'),
  (r'x<\sqrt{3}+2', r'x<2+\sqrt{3}'),
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
  # Scientific notation.
  (r'3 \times 10^8', '3e8'),
  ('3e8', r'3 \times 10^8'),
  ('1e-07', '10^{-7}'),
  ('1E-7', '10^{-7}'),
  ('300000000', '3e8'),
  (r'3\cdot 10^{8}', '3e8'),
  ('3*10^8', '3e8'),
  ('3 × 10⁸', '3e8'),
  (r'3.0 \times 10^{8}\text{ m/s}', '3e8'),
  (r'4.5 \times 10^{33} \, \text{erg/s}', '4.5e33'),
  ('1.5e3', '1500'),
  ('-2e-3', '-0.002'),
  ('1.6e-19', r'1.6\times 10^{-19}'),
  (r'0.16\times10^{-18}', '1.6e-19'),
  ('(3e8, 2)', r'(3\times 10^8,2)'),
  ('x+1e-3', 'x+0.001'),
  ('4.4 x 10^7', '4.4e7'),
  ('c = 3e8', '3e8'),
  ('3e8 m/s', '3e8'),
  (r'3\mathrm{e}8', '3e8'),
  # Tiny values, times and signs stay as they are.
  ('1/2^53', '2^{-53}'),
  (r'\frac{1}{2^{53}}', '1/2^53'),
  ('10^{-16}', '10^{-16}'),
  ('12:00', '12:00'),
  (r'\pm 2021', '-2021,2021'),
  ('-2021, 2021', r'\pm 2021'),
  ('2^{-99}', r'\frac{1}{2^{99}}'),
  # A label does not refuse a right value.
  (
    r'\frac{1}{5}\begin{pmatrix}1\\ 2\end{pmatrix}',
    r'\begin{pmatrix}1/5\\ 2/5\end{pmatrix}',
  ),
  ('AB = BC = 5', '5'),
  (r'\sin 30^\circ x', 'x/2'),
  ('1, 1, 2', '1, 2'),
  (r'\theta=30', '30'),
  ('AB=5', '5'),
  ('f(2)=5', '5'),
  ('a_{10}=55', '55'),
  (r'\text{Area}=5', '5'),
  (r'\approx 5', '5'),
  (r'x=1 \text{ or } x=2', '1,2'),
  ('x=1 or x=2', '1,2'),
  (r'\angle ABC=30^\circ', '30'),
  (r'P(A)=\frac12', '1/2'),
  (r'x \approx 5', '5'),
  ('S_{10} = 55', '55'),
  (r'\text{The area is } = 5', '5'),
  ("f'(2)=3", '3'),
  ('x_1=1, x_2=2', '1,2'),
  ('|AB|=5', '5'),
  (r'x \in [1,2]', '[1,2]'),
  ('(x,y)=(1,2)', '(1,2)'),
  (r'\tan\theta = 2', '2'),
  ('x=y=5', 'x=y=5'),
  ('a+b=5', 'a+b=5'),
  ('5', 'AB=5'),
  ('1,2', 'x=1 or x=2'),
  (r'\lambda_{1}=3', '3'),
  (r'\mathbf{v} = (1,2)', '(1,2)'),
  (r'x \equiv 3 \pmod 7', '3'),
  (r'A = 12\pi', r'12\pi'),
  ('x=1, y=2', '(1,2)'),
  ('n=5', 'n=5'),
  (r'\frac{NO}{BO}=\frac12', '1/2'),
  # Structure is judged, not spelling.
  (r'\log_2 3', r'\log_{2}{3}'),
  (r'\log_2 3', r'\frac{\ln 3}{\ln 2}'),
  ('2^3 3^2', r'2^3 \cdot 3^2'),
  ('2^3 3^2', r'2^{3}\times 3^{2}'),
  (r'\{(1,2),(3,4)\}', r'\{(3,4),(1,2)\}'),
  ('(1,2),(3,4)', r'\{(1,2),(3,4)\}'),
  ('5 J', '5'),
  (r'5\text{ J}', '5'),
  ('5 Hz', '5'),
  (r'5\,\mathrm{Hz}', '5 Hz'),
  ('5 mL', '5'),
  (r'5\text{ mL}', '5'),
  (r'3\text{ cm}, 4\text{ cm}', '3,4'),
  (r'(3\text{ cm}, 4\text{ cm})', '(3,4)'),
  (r'10,\!000', '10000'),
  (r'10,\! 000', '10000'),
  (r'\bigl(1,2\bigr)', '(1,2)'),
  (r'\Big(\frac12\Big)', '1/2'),
  (r'{\bf 5}', '5'),
  (r'3 \pmod 7', '3'),
  (r'3 \pmod{7}', r'3 \pmod 7'),
  (r'x\equiv 3\pmod{7}', r'x \equiv 3 \pmod 7'),
  (r'\emptyset', r'\varnothing'),
  ('6ab', r'2a\cdot 3b'),
  (r'2a\cdot 3b', '6ab'),
  (r'5\text{ million}', '5000000'),
  ('5 million', r'5\times 10^6'),
  (r'30\degree', '30'),
  (r'30^\circ', '30'),
  (r'0.\overline{3}', '1/3'),
  (r'0.1\overline{6}', '1/6'),
  ('√3', r'\sqrt{3}'),
  ('2√3', r'2\sqrt{3}'),
  ('π/2', r'\frac{\pi}{2}'),
  ('x²', 'x^{2}'),
  ('½', '0.5'),
  ('−5', '-5'),
  ('x ≤ 5', r'x \leq 5'),
  ('x≥5', r'x\ge 5'),
  ('∞', r'\infty'),
  ('3·5x', '15x'),
  ('[0,∞)', r'[0,\infty)'),
  ('θ', r'\theta'),
  ('{1,2}', r'\{1,2\}'),
  ('∅', r'\emptyset'),
  ('A∪B', r'A\cup B'),
  ('x≠2', r'x \neq 2'),
  ('2½', '2.5'),
  # Units, choices, and what a plain number may be.
  (r'5\text{ apples}', '5'),
  ('5 apples', '5'),
  (r'\text{B}', 'B'),
  ('(B)', 'B'),
  (r'\textbf{(B)}', 'B'),
  (r'\dfrac{3}{4}', '0.75'),
  (r'\left[0,1\right)', '[0,1)'),
  (r'5\%', '5'),
  (r'\sqrt{2}', '1.41421356'),
  ('1.41421356', r'\sqrt{2}'),
  ('3.14159265', r'\pi'),
  ('10!', '3628800'),
  (r'\left(\frac12\right)^{3}', '1/8'),
  (r'\frac{1}{2^{10}}', '1/1024'),
  (r'\sqrt{144}', '12'),
  (r'\sqrt[3]{27}', '3'),
  (r'\frac{10}{2}', '5'),
  ('-(5)', '-5'),
  # Solved equations and inequalities.
  ('5=x', 'x=5'),
  (r'x=\frac{10}{2}', 'x=5'),
  ('5>x', 'x<5'),
  (r'x\in(1,2)', '1<x<2'),
  (r'x<\frac12', 'x<0.5'),
  ('2x-y+1=0', 'y=2x+1'),
  ('y=6, x=5', '(5,6)'),
  ('m=5, b=6', '(5,6)'),
  ('b', 'B'),
  ('\u20135', '-5'),
  ('\u215d', '5/8'),
  ('1\u20442', '1/2'),
]  # fmt: skip
DIFFERENT = [
  # Equations and inequalities of the question, which are not solved.
  ('3x+7=22', 'x=5'),
  ('10=2x', 'x=5'),
  (r'2\theta=10', r'\theta=5'),
  ('2x+3<13', 'x<5'),
  ('x-5<0', 'x<5'),
  ('x<12*13', 'x<156'),
  ('2<x+1<3', '1<x<2'),
  ('2<x+1<3', '(1,2)'),
  (r'2x\neq 10', r'x\neq 5'),
  ('y=5, x=6', '(5,6)'),
  (r'\{\emptyset\}', r'\emptyset'),
  (r'\emptyset', r'\{\emptyset\}'),
  ('r', 'R'),
  ('2Rr', '2r^2'),
  ('0.2500001', '1/4'),
  ('(y=5, x=6)', '(5,6)'),
  (r'1, 1, \sqrt{4}', '1, 2, 2'),
  ('A', 'a'),
  ('E', 'e'),
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
  # Scientific notation: e is not Euler's number.
  ('8e3', '3e8'),
  ('3e8', '8e3'),
  ('3e7', '3e8'),
  (r'3\times10^7', '3e8'),
  ('3e-8', '3e8'),
  ('2.99e8', '3e8'),
  ('3e', '3'),
  # Tiny values differ, wherever they stand.
  ('10^{-40}', r'1.6 \times 10^{-19}'),
  (r'1.6 \times 10^{-19}', '10^{-40}'),
  ('0', r'1.6\times 10^{-19}'),
  ('1/2^{98}', '1/2^{99}'),
  (r'\frac{1}{2^{98}}', r'\frac{1}{2^{99}}'),
  ('1/2^53', '1/2^54'),
  ('10^{-16}', '10^{-17}'),
  ('(10^{-40},1)', r'(1.6 \times 10^{-19},1)'),
  (r'\{1/2^{98},1\}', r'\{1/2^{99},1\}'),
  ('[0,10^{-40}]', r'[0,1.6\times 10^{-19}]'),
  ('x+10^{-40}', r'x+1.6\times 10^{-19}'),
  ('x+1/2^{98}', 'x+1/2^{99}'),
  ('1+10^{-40}', r'1+1.6\times 10^{-19}'),
  ('y=x+10^{-40}', r'y=x+1.6\times 10^{-19}'),
  (r'\sqrt{2}\cdot 10^{-30}', r'\sqrt{3}\cdot 10^{-30}'),
  (r'\frac{1}{2004!}', r'\frac{1}{2006!}'),
  (
    r'\begin{pmatrix}10^{-40}\\1\end{pmatrix}',
    r'\begin{pmatrix}1.6\times 10^{-19}\\1\end{pmatrix}',
  ),
  ('e^{-50}', 'e^{-51}'),
  ('x > 10^{-40}', r'x>1.6\times 10^{-19}'),
  ('10^{-40}x', '10^{-41}x'),
  # Times and signs.
  ('1:00', '12:00'),
  ('2021', r'\pm 2021'),
  (r'\pm 2021', '2021'),
  # Equations and relations that are no labels.
  ('5=6', '6'),
  ('x+3=5', '5'),
  ('2x=10', '10'),
  ('x^2=25', '25'),
  ('-x=5', '5'),
  (r'\sqrt{x}=5', '5'),
  ('x \neq 5', '5'),
  ('x<5', '5'),
  (r'\text{not } x = 5', '5'),
  ('x=5', 'y=5'),
  ('f(2)=5', 'f(3)=5'),
  ('x=1 or x=3', '1,2'),
  ('x=1', '1,2'),
  (r'x=5 \text{ or } 6', '5'),
  ('3+4=5', '5'),
  ('a+b=5', '5'),
  # Structure.
  ('2 3', '6'),
  ('2^3 3^2', '5^2'),
  (r'\{(1,2),(3,4)\}', r'\{(2,1),(3,4)\}'),
  ('5 J', '5 Hz'),
  (r'3\text{ cm}, 4\text{ cm}', r'3\text{ m},4\text{ m}'),
  (r'3 \pmod 7', r'3\pmod 5'),
  ('5', '5 million'),
  (r'30\degree', '60'),
  (r'0.\overline{3}', '0.3'),
  (r'0.\overline{3}', '3'),
  (r'5\text{ thousand}', '5000000'),
  # Restatements of the question.
  ('12 ⋅ 13', '156'),
  ('12|13|', '156'),
  ('12/(1/13)', '156'),
  (r'e^{\ln(12*13)}', '156'),
  ('12+|13|', '25'),
  ('12 + [13]', '25'),
  ('12+13', '25'),
  (r'\frac{12}{1/13}', '156'),
  (r'12\div\frac{1}{13}', '156'),
  (r'\binom{5}{2}', '10'),
  (r'\log_2 8', '3'),
  ('|{-5}|', '5'),
  (r'\lfloor 5.5\rfloor', '5'),
  ('(12)(13)', '156'),
  ('12!/11!', '12'),
  (r'\sqrt{12\cdot 12}', '12'),
  ('12^{1}13', '156'),
  ('2*3', '6'),
  (r'5 \cdot 10^{1}\cdot 1', '50'),
  (r'\int_0^1 2x dx', '1'),
  (r'\sum_{k=1}^{3} k', '6'),
  ('(12*13, 5)', '(156,5)'),
  (r'\{12+13\}', r'\{25\}'),
  ('x=12*13', '156'),
  (r'12*13 \text{ cm}', '156'),
  (r'\int 2x dx', 'x^2'),
  (r'\begin{pmatrix}2*3\\1\end{pmatrix}', r'\begin{pmatrix}6\\1\end{pmatrix}'),
  (r'12\sqrt{169.0000001}', '156.0'),
  ('156.0000001', '156'),
  ('0.1*3', '0.3'),
  (r'e^{\ln(0.3)}', '0.3'),
  (r'12\%13', '156'),
  # Words that are no units.
  ('5 maybe not', '5'),
  ('5 or so', '5'),
  ('5 wrong', '5'),
  ('5 total things', '5'),
  ('5 nope', '5'),
  ('not 5 apples', '5'),
  ('5 apples', '6 apples'),
  ('5 apples', '5 oranges'),
  ('5 xyzw', '5'),
  (r'5\text{ maybe}', '5'),
  # Names that latex2sympy would confuse.
  (r'\sin 40', r'\sin 40^\circ'),
  (r"\frac{a}{b}'", r'\frac{a}{b}'),
  ("y''+3y=0", "y'+3y=0"),
  (r'x+1\ldots', 'x+1'),
  (
    r'\begin{pmatrix}1\\ 2\end{pmatrix}+\begin{pmatrix}1\\ 1\end{pmatrix}',
    r'\begin{pmatrix}2\\ 3\end{pmatrix}',
  ),
  (
    r'\frac{1}{5}\begin{pmatrix}1\\ 2\end{pmatrix}',
    r'\begin{pmatrix}1/5\\ 3/5\end{pmatrix}',
  ),
  (r'\infty x^2+y^2=25', 'x^2+y^2=25'),
  (r'\frac{d x^2}{dx}', '2x'),
  ('5,5,5', '5'),
  ('156_7', '156'),
  (r'x+1_{7}', 'x+1'),
  ('Rr', 'r^2'),
  ("y'", 'y'),
  (r'\frac{37}{4}', r'\frac{37}{4} m'),
  ('on', r'\text{no}'),
  ('x+y', 'x-y'),
  ('|x|', 'x'),
  (r'\sqrt{x^2}', 'x'),
  ('(1,2)', '(1,2]'),
  ('(1,2)', '1'),
  ('[5]', '6'),
  ('1,2,3', '1,2'),
  ('1,2', '1,2,2,3'),
  ('0.333333', '1/4'),
  ('E_1', 'E_2'),
  (r'\frac{dx}{dt}=kx', r'\frac{dy}{dt}=kx'),
  ('10101_2', '10101_3'),
  ('102', '101_2+1'),
  (r'x+1<3+\sqrt{3}', r'x<2+\sqrt{3}'),
]  # fmt: skip


@pytest.mark.parametrize('answer, reference', EQUIVALENT)
def test_equivalent(answer, reference):
  assert final_answers.equivalent(answer, reference)


@pytest.mark.parametrize('answer, reference', DIFFERENT)
def test_different(answer, reference):
  assert not final_answers.equivalent(answer, reference)


def test_not_everything_is_right():
  # TRAPS 25: a grader that says yes to a whole data set.
  references = ['5', '1/2', r'\sqrt{2}', '(1,2)', 'x+1', 'blue', r'\{1\}', 'C']
  for i, answer in enumerate(references):
    for j, reference in enumerate(references):
      assert final_answers.equivalent(answer, reference) == (i == j), (
        answer,
        reference,
      )


def test_failing_parser_is_not_equal(monkeypatch):
  def fail():
    raise RecursionError

  monkeypatch.setattr(symbolic, 'libraries', fail)
  assert not final_answers.equivalent(r'\sqrt{400}', '20')


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
  assert final_answers.exact(answer, reference) is decided


@pytest.mark.parametrize(
  'piece',
  ['1', '1,', '1 ', ',111', 'a ', 'aa ', ' ', '{', r'\frac1', '(', 'x=', '$',
   'x,', r'\text{', '1-', '1 cm ', '_1', '1/', 'a\'', r'\ ', 'day ', 'x=1,',
   '=', r'\pm ', r'\{', r'\{1,', '(1,', '((', '1e5', r'\begin{pmatrix}', '1&',
   'a_{1}', '"', '"m" ', 'm/', r'\text{m}', r'\cup ', '^{2}', '²', 'AB', r'\a',
   r'\frac{1}', r'\sqrt{', 'or ', '1 or ', '|', r'\overline{', '0.', 'a b',
   r'\times 10^{', 'a-', '1 "'],
)  # fmt: skip
def test_exact_takes_milliseconds(piece):
  text = (piece * 1000)[:1000]
  start = time.process_time()
  for answer, reference in [(text, '5'), ('5', text), (text, text + '!')]:
    final_answers.exact(answer, reference)
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
  assert final_answers.grade(text, '5') == grade


_PIECES = (
  '\\boxed{', '\\fbox ', '}', '{', '\\{', '\\}', '\\', '$', '#### ', '\n', ' ',
  '5', '1,234', '.', '%', '=', '_', '^', '(', ']', 'x', 'answer', '\\frac',
  '\\text{', '/', '-', '\u200b', '\ud800', '\u0130', '\x00', '½', '∞', ' cm',
)  # fmt: skip


def test_random_texts_raise_nothing():
  rng = random.Random(0)
  for _ in range(2_000):
    text = ''.join(rng.choices(_PIECES, k=rng.randrange(12)))
    extracted = final_answers.extract(text)
    assert extracted is None or 0 < len(extracted) <= final_answers.MAX_ANSWER
    assert final_answers.exact(text, '5') in (True, False, None)
    assert final_answers.exact('5', text) in (True, False, None)
  for _ in range(60):
    text = ''.join(rng.choices(_PIECES, k=rng.randrange(8)))
    assert final_answers.equivalent(text, r'\sqrt{2}') is False
