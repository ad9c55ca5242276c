"""Any text is a statement or an error; a command is given one theorem."""

import re

from fuzzing import texts
from hypothesis import given

from critic_jax.execution import checkers
from critic_jax.rewards import graded_verdicts, verdicts
from critic_jax.tasks import formal_language, formal_statements
from critic_jax.types import Problem, given_record

PARTS = (
  'theorem ', 't ', '(', ')', ' : ', ' = ', 'a ', 'b', 'Nat', 'Prop', 'h1', '5',
  ' + ', ' * ', ' - ', ':=', ' by ', 'sorry', '\n', 'set_option x true\n',
  '(a b : Nat)', '(h1 : a = 5)', '(h2 : b = a + 3)', ': b = 8', '#eval ', '--',
)  # fmt: skip
CRITIQUE_PARTS = (
  '<think>', '</think>', '\n', 'Verdict: correct', 'Verdict: incorrect', 'So.',
)  # fmt: skip
RIGHT = 'theorem t (a b c : Nat) (h1 : a = 5) (h2 : b = a + 3) (h3 : c = b + 1)'
PROBLEM = Problem('p', '', '', f'{RIGHT} : c = 9')


@given(texts(*PARTS, max_size=24))
def test_a_text_is_a_statement_or_has_an_error(text):
  statement, error = formal_language.read(text)
  assert (statement is None) == bool(error)
  if error:
    assert re.match(r'[0-9]+:[0-9]+: error: ', error)
  else:
    written = formal_language.write(statement)
    assert formal_language.read(written) == (statement, '')
    formal_statements.meaning(statement)


@given(texts(*PARTS, max_size=24))
def test_more_behind_a_statement_changes_its_meaning_or_nothing(text):
  whole = f'{RIGHT} {text} : c = 9'
  if formal_statements.faithful(PROBLEM, whole):
    statement, _ = formal_language.read(whole)
    said = {str(e) for _, e in statement.hypotheses}
    assert said == {
      str(e) for _, e in formal_language.read(PROBLEM.solution)[0].hypotheses
    }


@given(texts(*PARTS, max_size=24))
def test_what_reaches_a_command(text):
  if not checkers.refusal(text):
    assert text.count('theorem') >= 1 and ':=' not in text
    assert '#' not in text and '--' not in text


@given(texts(*CRITIQUE_PARTS, max_size=14))
def test_what_is_in_form_has_a_verdict(text):
  parsed = verdicts.parse(text)
  critique = given_record(PROBLEM, text, parsed=parsed)
  if graded_verdicts.in_form(critique):
    assert parsed['status'] == 'ok'
