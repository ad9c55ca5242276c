"""Templates of anybody end soon, in little memory; prompts hide thinking."""

import time

import pytest
from fuzzing import at_most, record, refused, texts
from helpers import text_of
from hypothesis import given
from hypothesis import strategies as st

from critic_jax.rollouts import stages
from critic_jax.rollouts.styles import first_error
from critic_jax.text import chat_template

# Python's, of `{{ 1[0] }}`.
pytestmark = pytest.mark.filterwarnings('ignore::SyntaxWarning')
NUMBERS = ('0', '1', '-1', '2', '99', '100000', '999999999', '1e308')
NAMES = ('messages', 'm', 'ns', 'ns.a', 'ns.b', 'x', 'loop', 'self', 'text')
FILTERS = sorted(chat_template._Environment().filters)
METHODS = (
  'center', 'ljust', 'zfill', 'replace', 'join', 'split', 'format', 'encode',
  'expandtabs', 'translate', 'items', 'get', 'append', 'count', 'to_bytes',
  '__class__', 'format_map', 'partition', 'splitlines', 'strip', 'keys',
)  # fmt: skip
LITERALS = (
  "'a'", "'ab' * 1000", "'{:9}'", "'{0}{0}'", "''", "'%9d'", '[]', '{}',
  'none', 'namespace()', 'range(1000)', 'dict(a=x)', 'namespace(a=ns, b=ns)',
)  # fmt: skip


def expressions():
  """Draws expressions of jinja2, such as templates are made of."""

  def larger(inner):
    arguments = st.lists(inner, max_size=2).map(', '.join)
    return (
      st.builds('{}|{}({})'.format, inner, st.sampled_from(FILTERS), arguments)
      | st.builds(
        '({}).{}({})'.format, inner, st.sampled_from(METHODS), arguments
      )
      | st.builds(
        '({} {} {})'.format,
        inner,
        st.sampled_from(
          ('+', '*', '~', '**', '%', '//', '==', '<', 'in', 'or')
        ),
        inner,
      )
      | st.builds('[{0}, {0}]'.format, inner)
      | st.builds('({0}, {1})'.format, inner, inner)
      | st.builds('{{"a": {0}, "b": {1}}}'.format, inner, inner)
      | st.builds('({})[{}:{}]'.format, inner, inner, inner)
      | st.builds('({} if {} else {})'.format, inner, inner, inner)
    )

  small = st.sampled_from((*NUMBERS, *NAMES, *LITERALS, *NAMES))
  return st.recursive(small, larger, max_leaves=6)


def statements():
  """Draws templates: loops, macros, blocks, assignments around expressions."""
  simple = (
    st.builds('{{{{ {} }}}}'.format, expressions())
    | st.builds('{{% set x = {} %}}'.format, expressions())
    | st.builds('{{% set ns.a = {} %}}'.format, expressions())
    | st.builds('{{% set ns.b = {} %}}'.format, expressions())
    | texts(max_size=2)
  )

  def larger(inner):
    return (
      st.builds(
        '{{% for m in {} %}}{}{{% endfor %}}'.format, expressions(), inner
      )
      | st.builds('{{% if {} %}}{}{{% endif %}}'.format, expressions(), inner)
      | st.builds('{{% set x %}}{}{{% endset %}}'.format, inner)
      | st.builds(
        '{{% filter {} %}}{}{{% endfilter %}}'.format,
        st.sampled_from(FILTERS),
        inner,
      )
      | st.builds(
        '{{% macro f(x) %}}{0}{{{{ f(x) }}}}{{% endmacro %}}'
        '{{{{ f(1) }}}}'.format,
        inner,
      )
      | st.builds('{}{}'.format, inner, inner)
    )

  return st.recursive(simple, larger, max_leaves=6).map(
    "{{% set ns = namespace(a='a', b=[1]) %}}{}".format
  )


def render(source):
  """Renders a template; '' if it is refused."""
  message = {'role': 'user', 'content': 'hello ' * 100}
  variables = {'messages': [message] * 3, 'x': 'x', 'text': 'y' * 10_000}
  start = time.process_time()
  try:
    text = chat_template.render(source, variables)
  except ValueError as error:
    assert str(error).startswith('chat template: got ')
    text = ''
  assert time.process_time() - start < 30
  assert len(text) <= chat_template.MAX_TEXT
  return text


@given(statements())
def test_any_template_ends_soon(source):
  with refused(), at_most(10**9):
    render(source)


@given(st.lists(statements(), min_size=2, max_size=4).map(''.join))
def test_parts_of_templates_that_know_each_other(source):
  with at_most(10**9):
    render(f'{{% for i in range(30) %}}{source}{{% endfor %}}')


TEXT = "{% set x = 'a' * 1000 * 1000 %}"
BOMBS = (
  "{{ 'a'|center(3000000000) }}",
  "{{ 'a'.center(3000000000)|length }}",
  "{{ '{:3000000000}'.format(1)|length }}",
  "{{ '{:{}}'.format(1, 3000000000)|length }}",
  "{{ '%3000000000d'|format(1)|length }}",
  '{{ (1).to_bytes(3000000000)|length }}',
  '{{ [1]|batch(1000000000, 1)|list|length }}',
  '{{ [1]|slice(1000000000)|list|length }}',
  "{{ (text * 99).replace('', text * 99)|length }}",
  "{{ ('a' * 1000)|map('center', 99999)|join|length }}",
  "{{ [['a'] * 1000] * 1000|sum(start=[])|length }}",
  "{{ 1.5|round(100000000, 'ceil') }}",
  '{{ lipsum(n=100000)|length }}',
  # Lists, each holding the one before twice.
  '{% set n = namespace(a=[1]) %}{% for i in range(60) %}'
  '{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}',
  '{% set n = namespace(a=(1,), b=(1,)) %}{% for i in range(60) %}'
  '{% set n.a = (n.a, n.a) %}{% set n.b = (n.b, n.b) %}{% endfor %}'
  '{{ n.a == n.b }}',
  '{% set n = namespace(a={}) %}{% for i in range(60) %}'
  '{% set n.a = {"a": n.a, "b": n.a} %}{% endfor %}{{ n.a|tojson }}',
  '{% set n = namespace(a=1) %}{% for i in range(60) %}'
  '{% set n.a = namespace(a=n.a, b=n.a) %}{% endfor %}{{ n.a }}',
  # Linked while they are small.
  ''.join(f'{{% set n{i} = namespace() %}}' for i in range(60))
  + ''.join(
    f'{{% set n{i}.a = n{i + 1} %}}{{% set n{i}.b = n{i + 1} %}}'
    for i in range(59)
  )
  + '{{ n0 ~ 1 }}',
  # Blocks, each calling the next twice.
  ''.join(
    f'{{% block b{i} %}}{{% set x = self.b{i + 1}() ~ self.b{i + 1}() %}}'
    '{% endblock %}'
    for i in range(60)
  ),
  'x' * 10_000_000,
  # A width makes a date, or a line, as long as it says.
  "{{ strftime_now('%470000000Y') }}",
  "{{ strftime_now('%010000000Y') }}",
  "{{ strftime_now('%c' * 900) }}",
  "{{ ('\\n' * 1000)|indent(99999)|length }}",
  "{{ ('\\t' * 1000).expandtabs(99999)|length }}",
  '{{ [[[[1] * 1000] * 10]]|tojson(indent=9999)|length }}',
  # A text that is put in everywhere.
  "{{ ('a' * 1000 * 90).replace('a', 'b' * 1000)|length }}",
  "{{ ('a' * 1000 * 90)|replace(new='b' * 1000, old='a')|length }}",
  "{{ ('{0}' * 1000).format('a' * 1000 * 90)|length }}",
  "{{ ('a' * 1000 * 2).join(['a'] * 990 * 30)|length }}",
  "{{ (['a'] * 990 * 30)|join('a' * 1000 * 2)|length }}",
  "{{ ('a' * 1000).translate({97: 'b' * 1000 * 90})|length }}",
  "{{ 'a' * 1000 * 1000 * 1000 }}",
  # Many texts, each of an allowed length.
  TEXT + ''.join(f'{{% set a{i} = x ~ 1 %}}' for i in range(600)),
  TEXT + ''.join(f'{{% set a{i} = x[1:] %}}' for i in range(600)),
  TEXT.replace("'a'", "'\U0001f600'")
  + ''.join(f'{{% set a{i} = x ~ 1 %}}' for i in range(600)),
  TEXT + ''.join(f'{{% set a{i} = x.upper() %}}' for i in range(600)),
  TEXT + ''.join(f'{{% set a{i} = x|lower %}}' for i in range(600)),
  "{% set x = ['a' * 1000 * 1000] %}{% macro m() %}{% for i in range(400) %}"
  '{{ x }}{% endfor %}{% endmacro %}{{ m()|length }}',
  '{{ (1).to_bytes(99999, "big") * 1000 }}',
)


@pytest.mark.parametrize('source', BOMBS, ids=lambda source: source[:40])
def test_bombs_do_not_go_off(source):
  with at_most(10**8):
    assert render(source) == ''


LOOP = '{{% for i in range(99999) %}}{}{{% endfor %}}'.format
HANGS = {
  'a filter of a loop': LOOP(
    '{% for j in range(99999) if false %}{% endfor %}'
  ),
  'a range': LOOP('{{ range(99999)|max }}'),
  'a range that is read': LOOP("{{ range(99999)|select('none')|list }}"),
  'a long text in a text': TEXT + LOOP("{% if 'ab' in x %}{% endif %}"),
  'a test': TEXT + LOOP("{% if 'ab' is in x %}{% endif %}"),
  'equal texts': TEXT + "{% set y = x ~ '' %}" + LOOP('{{ x == y }}'),
  'a list': '{% set x = range(40000)|list %}' + LOOP('{{ 50000 in x }}'),
  'a list that is sorted': '{% set x = range(40000)|list %}'
  + LOOP('{{ x|sort|first }}'),
  'distinct items': '{% set x = range(40000)|list %}'
  + LOOP('{{ x|unique|first }}'),
  'a text that is stripped': TEXT + LOOP('{% set y = x.strip() %}'),
  'a slice': TEXT + LOOP('{% set y = x[1:] %}'),
  'a precision': LOOP('{{ 1.5|round(4000) }}'),
  'a long body': LOOP('{% set a = [1] %}' * 3000),
  'a long body of a macro': '{% macro m() %}'
  + '{% set a = [1] %}' * 3000
  + '{% endmacro %}'
  + LOOP('{{ m() }}'),
  'a codec': TEXT + "{{ (x ~ '\u20ac\u0100').encode('punycode') }}",
  'wrapped words': TEXT + '{{ x|wordwrap(1) }}',
}


@pytest.mark.parametrize('name', HANGS)
def test_work_is_bounded(name, monkeypatch):
  monkeypatch.setattr(chat_template, 'MAX_STEPS', 5000)  # a twentieth
  start = time.process_time()
  with pytest.raises(ValueError, match='steps|the method|No filter'):
    chat_template.render(HANGS[name], {})
  assert time.process_time() - start < 1.5  # that is 30 s in all


@given(texts('{{ x }}', '{% if %}', '<think>', 'Verdict: correct', max_size=9))
def test_prompts_hold_what_they_are_given_and_no_thinking(text):
  solution = record('solve', text, question=text)
  secret = 'a-secret'
  critique = record(
    'critique', f'<think>{secret}</think>{text}', parent=solution
  )
  for style in ('plain', 'instruct', 'programs'):
    style_stages = stages.make_stages(style)
    prompt = style_stages.solve.prompt(solution.problem)
    assert text in prompt
    assert text in style_stages.critique.prompt(solution)
    refined = text_of(style_stages.refine.prompt(critique))
    assert secret not in refined
    if critique.parsed['conclusion']:
      assert critique.parsed['conclusion'] in refined
  assert isinstance(first_error.ask_critique(solution), str)
