"""Notebooks show text, and HTML that texts of models cannot break."""

import dataclasses
import html.parser
import math

import numpy as np
import pytest
import synthetic_run
from helpers import tiny_lm
from synthetic_run import SCRIPT, message

from critic_jax.evals.statistics import Estimate
from critic_jax.inspection import trees
from critic_jax.report import plots, views
from critic_jax.types import Problem

VOID = ('img',)


class Page(html.parser.HTMLParser):
  """Elements as (name, attributes, their own text), in the order they begin."""

  def __init__(self, view):
    super().__init__()
    self.elements, self.open = [], []
    self.feed(view.html)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.elements.append([tag, dict(attrs), ''])
    if tag not in VOID:
      self.open.append(self.elements[-1])

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, data):
    assert self.open, data
    self.open[-1][2] += data

  def texts(self, *tags):
    return [text for tag, _, text in self.elements if tag in tags]


@pytest.fixture(scope='module')
def records():
  return synthetic_run.trees(2)


def last_refinement(records):
  return [r for r in records if r.stage == 'refine'][-1]


def test_a_view_is_html_in_a_notebook_and_text_elsewhere():
  view = views.View('<b>x</b>', 'x')
  assert view._repr_html_() == '<b>x</b>' and str(view) == repr(view) == 'x'


def test_chain_goes_from_the_problem_down(records):
  text = views.chain(last_refinement(records))
  places = [
    text.index(part)
    for part in (
      '--- sum-1, reference seven ---',
      '1 + 1?',
      '--- solve.1, answer six, correct False, grade wrong, first_error 2',
      'I count.',
      '--- critique.1, verdict incorrect, status ok, step 2, judge 1.00',
      'Let me think.',
      '--- refine.1',
      'Again.',
    )
  ]
  assert places == sorted(places)


def test_a_title_counts_steps_from_one_and_says_when_a_message_was_cut():
  problem = Problem('p', '?', '1')
  record = message(problem, 'critique', finish='length', parsed={'step': -1})
  assert views.title(record) == (
    'critique.0, step none, 2 tokens (finish length)'
  )
  record = dataclasses.replace(record, parsed={'step': 0}, finish='stop')
  assert views.title(record) == 'critique.0, step 1, 2 tokens'


def test_a_tree_has_each_message_once_below_its_parent(records):
  view = views.tree(trees.family(records, [last_refinement(records)]))
  page = Page(view)
  heads = page.texts('code')
  assert [head.split(',')[0] for head in heads] == [
    'sum-1', 'solve.1', 'critique.1', 'refine.1'
  ]  # fmt: skip
  assert [e[0] for e in page.elements].count('details') == 4
  assert all('open' in e[1] for e in page.elements if e[0] == 'details')
  lines = view.text.splitlines()
  indents = [
    next(
      len(line) - len(line.lstrip(' │└├─')) for line in lines if name in line
    )
    for name in ('sum-1,', 'solve.1,', 'critique.1,', 'refine.1,')
  ]
  assert indents == sorted(set(indents))


def test_a_tree_shows_ancestors_that_were_not_asked_for(records):
  whole = views.tree(records)
  assert views.tree([last_refinement(records)]) == views.tree(
    trees.family(records, [last_refinement(records)])
  )
  assert len(Page(whole).texts('summary')) == 2 + len(records)
  assert views.tree([]) == views.View('', '')


def test_folded_trees_show_their_problems_at_first(records):
  page = Page(views.tree(records, folded=True))
  details = [attrs for tag, attrs, _ in page.elements if tag == 'details']
  heads = page.texts('code')
  folded = [h for h, a in zip(heads, details, strict=True) if 'open' not in a]
  assert [head.split(',')[0] for head in folded] == ['sum-0', 'sum-1']


def test_true_verdicts_are_green_and_false_ones_red(records):
  page = Page(views.tree(records))
  details = [attrs for tag, attrs, _ in page.elements if tag == 'details']
  colors = {}
  for head, attrs in zip(page.texts('code'), details, strict=True):
    color = attrs['style'].rpartition(' ')[2]
    colors.setdefault(head.split(',')[0], []).append(color)
  good, bad, none = views._GOOD, views._BAD, views._NONE
  assert colors['sum-0'] == [none]
  assert colors['solve.0'] == [good, good] and colors['solve.1'] == [bad, bad]
  # The first critique accepts everything, the second rejects everything: of
  # each problem's right solution, then of its wrong one.
  assert colors['critique.0'] == [good, bad] * 2
  assert colors['critique.1'] == [bad, good] * 2
  assert set(colors['refine.0']) == {good}
  assert set(colors['refine.1']) == {bad}


def rollout(text='so é', logprobs=None, **fields):
  """Makes a message that was saved with the tokens of a byte tokenizer."""
  tokenizer = tiny_lm().tokenizer
  tokens = [*tokenizer.encode(text), tokenizer.eos[0]]
  if logprobs is None:
    logprobs = np.linspace(0, -9, len(tokens))
  record = dataclasses.replace(
    message(Problem('p', '?', '1'), 'critique'),
    text=text,
    tokens=np.array(tokens, np.int32),
    prompt_tokens=np.array(tokenizer.encode('Why <b>?'), np.int32),
    logprobs=np.array(logprobs, np.float32),
    **fields,
  )
  return record, tokenizer


def test_tokens_have_their_log_probability_and_advantage():
  record, tokenizer = rollout(logprobs=[-0.5, 0, -2.5, -5, -50, 0])
  view = views.colored_tokens(record, tokenizer, 0.75)
  page = Page(view)
  prompt, *spans = [e for e in page.elements if e[0] == 'span']
  assert prompt[2] == 'Why <b>?' and 'masked' in prompt[1]['title']
  assert 'opacity' in prompt[1]['style'] and 'border' not in prompt[1]['style']
  assert ''.join(text for _, _, text in spans[:-1]) == 'so é'
  assert len(spans) == 6 and spans[-1][2] in tokenizer.special
  assert 'logprob -0.500 (p 0.607), advantage +0.75' in spans[0][1]['title']
  grounds = [
    float(attrs['style'].partition('rgba(')[2].split(')')[0].split(',')[3])
    for _, attrs, _ in spans
  ]
  np.testing.assert_allclose(grounds, [0.065, 0, 0.325, 0.65, 0.65, 0])
  for _, attrs, _ in spans:
    assert attrs['style'].endswith(f'border-bottom:2.5px solid {views._GOOD}')
  assert "  -0.500  's'" in view.text and 'advantage +0.75' in view.text


@pytest.mark.parametrize('advantage', [None, 0.0])
def test_where_nothing_is_learned_there_is_no_line(advantage):
  record, tokenizer = rollout()
  assert 'border' not in views.colored_tokens(record, tokenizer, advantage).html


def test_a_negative_advantage_is_red():
  record, tokenizer = rollout()
  page = views.colored_tokens(record, tokenizer, -9.0).html
  assert f'border-bottom:4.0px solid {views._BAD}' in page
  assert views._GOOD not in page


def test_without_tokens_the_text_is_shown():
  record, tokenizer = rollout(text=f'no {SCRIPT}')
  tokenless_record = dataclasses.replace(
    record, tokens=np.full(3, -1, np.int32)
  )
  for view, lacking in (
    (
      views.colored_tokens(tokenless_record, tokenizer, 1.0),
      'tokens were not saved',
    ),
    (views.colored_tokens(record, None, 1.0), 'tokenizer is not available'),
  ):
    page = Page(view)
    assert page.texts('span') == [f'no {SCRIPT}']
    assert lacking in view.text and lacking in page.texts('code')[0]


def test_nothing_of_what_models_wrote_is_markup(records):
  record, tokenizer = rollout(text=f'</pre>{SCRIPT} $x$')
  strange = dataclasses.replace(
    record, parent=records[0], parsed={'verdict': SCRIPT, 'status': 'ok'}
  )
  for view in (
    views.tree([*records, strange]),
    views.colored_tokens(strange, tokenizer, 1.0),
    views.table([{SCRIPT: SCRIPT}]),
    views.named({SCRIPT: views.tree(records)}),
    views.confusion({SCRIPT: records}),
    views.estimates({SCRIPT: {SCRIPT: Estimate(0, 0, 0, 1)}}),
  ):
    page = Page(view)
    assert 'script' not in {tag for tag, *_ in page.elements}
    assert 'alert' in ''.join(text for _, _, text in page.elements)
  # A notebook looks for mathematics everywhere but in these.
  with_math = [
    (tag, text) for tag, _, text in Page(views.tree([strange])).elements
    if '$' in text
  ]  # fmt: skip
  assert [tag for tag, _ in with_math] == ['pre']


def test_a_table():
  view = views.table([{'a': 1, 'b': 0.123456}, {'a': math.nan, 'c': 'x'}])
  page = Page(view)
  assert page.texts('th') == ['a', 'b', 'c']
  assert page.texts('td') == ['1', '0.1235', '–', '–', '–', 'x']
  assert [line.split() for line in view.text.splitlines()[-2:]] == [
    ['1', '0.1235', '–'], ['–', '–', 'x']
  ]  # fmt: skip
  assert '\x1b' not in view.text


def test_text_is_text_in_a_notebook_too(monkeypatch):
  outside = views.table([{'a': 1}])
  monkeypatch.setattr('rich.console._is_jupyter', lambda: True)
  assert views.table([{'a': 1}]) == outside and outside.text.strip()


def test_estimates_first_those_with_a_title():
  rows = {
    'accuracy': Estimate(0.5, 0.4, 0.6, 9),
    'critique/f1': Estimate(0.25, 0.2, 0.3, 9),
  }
  columns = {'RL': rows, 'difference': {'accuracy': Estimate(0.2, 0.1, 0.3, 9)}}
  page = Page(views.estimates(columns))
  assert page.texts('td') == [
    'accuracy', '50.0 [40.0, 60.0]', '+20.0 [+10.0, +30.0]'
  ]  # fmt: skip
  bold = [
    text for tag, attrs, text in page.elements
    if tag == 'td' and 'bold' in attrs['style']
  ]  # fmt: skip
  assert bold == ['+20.0 [+10.0, +30.0]']
  cells = Page(views.estimates(columns, all_metrics=True)).texts('td')
  assert cells[3:] == ['critique/f1', '25.0 [20.0, 30.0]', '–']
  untitled = {'RL': {'critique/f1': rows['critique/f1']}}
  assert len(Page(views.estimates(untitled)).texts('td')) == 2


def test_changes_are_signed_and_bold_if_they_are_clear():
  columns = {'b': {'x': Estimate(-0.2, -0.3, 0.1, 9)}}
  view = views.estimates(columns, signed=True)
  assert '-20.0 [-30.0, +10.0]' in view.text and 'bold' not in view.html
  columns = {'b': {'x': Estimate(-0.2, -0.3, -0.1, 9)}}
  assert 'bold' in views.estimates(columns, signed=True).html
  assert 'bold' not in views.estimates(columns).html
  undefined = {'b': {'x': Estimate(math.nan, math.nan, math.nan, 0)}}
  assert '–' in views.estimates(undefined, signed=True).text


def test_confusion(records):
  page = Page(views.confusion({'RL': records, 'none': records[:1]}))
  assert page.texts('td')[:10] == [
    'RL, right solutions', '2 (50.0 %)', '2 (50.0 %)', '0 (0.0 %)', '4',
    'RL, wrong solutions', '2 (50.0 %)', '2 (50.0 %)', '0 (0.0 %)', '4',
  ]  # fmt: skip
  assert page.texts('td')[10:15] == ['none, right solutions', *'0000']
  colors = [
    attrs['style'].rpartition(':')[2]
    for tag, attrs, text in page.elements
    if tag == 'td' and '%' in text
  ]
  good, bad, none = views._GOOD, views._BAD, views._NONE
  assert colors == [good, bad, none, bad, good, none]


def test_pictures_say_what_they_show(tmp_path):
  columns = {
    'step': np.arange(2),
    'phase': np.array(['rl', 'rl']),
    'critique/judge': np.array([0.25, 0.5]),
    'critique/length': np.array([20.0, 30.0]),
  }
  panels = plots.draw(columns, ['rewards', 'calls'])
  assert [panel['title'] for panel in panels] == ['Rewards']
  assert len(plots.draw(columns)) == 2
  view = views.pictures(panels)
  page = Page(view)
  [image] = [attrs for tag, attrs, _ in page.elements if tag == 'img']
  assert image['src'].startswith('data:image/png;base64,iVBOR')
  assert image['alt'] == 'critique/judge ends at 0.5'
  assert view.text == '[Rewards: critique/judge ends at 0.5]\n'


def test_views_below_each_other():
  view = views.named({'a': views.View('<p>1</p>', '1'), 'b': views.table([])})
  assert view.text.startswith('=== a ===\n1\n=== b ===')
  assert Page(view).texts('h4', 'code', 'p') == ['', 'a', '1', '', 'b']
