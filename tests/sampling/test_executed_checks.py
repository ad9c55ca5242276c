"""Critiques that go on with executed results, by scripts and by hand."""

import re

import jax
import numpy as np
import pytest

from critic_jax.sampling import executed_checks
from critic_jax.tasks import arithmetic_reviews
from critic_jax.types import Begun, Generation

LINES = ('Step 1: 5 + 2 = 8', 'Step 2: 8 * 2 = 16', 'Step 3: 16 - 3 = 12')
TRUTHS = (7, 16, 13)
SETTINGS = dict(module='arithmetic_reviews', name='execute_check', max_turns=4)


def criticise(results):
  """Writes a check of each line with these results, and marks as it reads."""
  lines = [
    f'{line}? {result}. '
    + ('Right.' if line.endswith(f'= {result}') else 'Wrong.')
    for line, result in zip(LINES, results, strict=True)
  ]
  verdict = 'incorrect' if any('Wrong' in line for line in lines) else 'correct'
  return '\n'.join([*lines, f'Verdict: {verdict}'])


class Sampler:
  """A critic that gets results wrong, but reads what it is given.

  Attributes:
    calls: pairs of the prompts and the keys' data.
  """

  def __init__(self, results, room=10_000):
    self.results, self.room, self.calls = results, room, []

  def __call__(self, prompts, keys, n, max_prompts=0):
    data = np.asarray(jax.random.key_data(keys))[: len(prompts)]
    self.calls.append((list(prompts), data, max_prompts))
    return [[self._say(prompt) for _ in range(n)] for prompt in prompts]

  def _say(self, prompt):
    given = prompt.text if isinstance(prompt, Begun) else ''
    known = [int(x) for x in re.findall(r'\? (-?\d+)\.', given)]
    text = criticise([*known, *self.results[len(known) :]])
    assert text.startswith(given)
    tokens = [ord(c) for c in text[len(given) :]]
    asked = [0] * 5 + [ord(c) for c in given]
    if len(asked) > self.room:
      return Generation(np.array(asked), np.zeros(0), np.zeros(0), '', 'prompt')
    logprobs = np.full(len(tokens), -1.0)
    return Generation(np.array(asked), np.array(tokens), logprobs, text, 'stop')


def sample(sampler, max_turns=4, n=1, num_prompts=1):
  checked = executed_checks.feed_back(
    sampler, arithmetic_reviews.execute_check, max_turns
  )
  prompts = [f'prompt {i}' for i in range(num_prompts)]
  return checked(
    prompts, jax.random.split(jax.random.key(0), 8), n, num_prompts
  )


def test_false_results_are_replaced_and_the_rest_is_sampled_anew():
  sampler = Sampler([8, 15, 12])
  [[response]] = sample(sampler)
  # Without execution all is approved.
  assert criticise([8, 16, 12]).endswith('Verdict: correct')
  assert response.text == criticise(TRUTHS)
  assert response.text.endswith('Verdict: incorrect')
  given = [prompt.text for (prompt,), *_ in sampler.calls[1:]]
  assert given == [
    'Step 1: 5 + 2 = 8? 7.',
    'Step 1: 5 + 2 = 8? 7. Wrong.\nStep 2: 8 * 2 = 16? 16.',
    'Step 1: 5 + 2 = 8? 7. Wrong.\nStep 2: 8 * 2 = 16? 16. Right.\n'
    'Step 3: 16 - 3 = 12? 13.',
  ]
  # What was given is among the tokens, and nobody sampled it.
  assert ''.join(map(chr, response.tokens)) == response.text
  assert len(response.prompt_tokens) == 5
  assert np.flatnonzero(response.logprobs)[0] == len(given[-1])


def test_who_computes_rightly_is_sampled_once_and_stays_as_it_is():
  sampler = Sampler(TRUTHS)
  [[response]] = sample(sampler)
  assert len(sampler.calls) == 1
  assert response.text == criticise(TRUTHS) and (response.logprobs == -1).all()


def test_turns_are_bounded():
  sampler = Sampler([8, 15, 12])
  [[response]] = sample(sampler, max_turns=1)
  assert len(sampler.calls) == 2
  assert response.text == criticise([7, 15, 12])


def test_a_text_that_has_no_room_to_go_on_is_cut_off():
  [[response]] = sample(Sampler([8, 15, 12], room=30))
  assert response.finish == 'length'
  assert response.text == criticise([7, 15, 12]).split('16?')[0] + '16? 16.'


def test_all_that_goes_on_has_keys_of_its_own():
  sampler = Sampler([8, 16, 12])
  responses = sample(sampler, n=3, num_prompts=2)
  assert {r.text for siblings in responses for r in siblings} == {
    criticise(TRUTHS)
  }
  assert [len(prompts) for prompts, *_ in sampler.calls] == [2, 6, 6]
  assert [max_prompts for *_, max_prompts in sampler.calls] == [2, 6, 6]
  keys = [tuple(key) for _, data, _ in sampler.calls for key in data]
  assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
  ('text', 'given'),
  [
    ('Step 1: 5 + 2 = 8? 9. Wrong.', 'Step 1: 5 + 2 = 8? 7.'),
    ('Step 1: 5 + 2 = 8? 7. Right.', None),  # the mark is the critic's
    ('Step 1: 5 + 2 = 8?', 'Step 1: 5 + 2 = 8? 7.'),
    ('Step 1: 5 + 2 = 8? 7', 'Step 1: 5 + 2 = 8? 7.'),
    ('Step 1: 5 - 9 = 8? 4.', 'Step 1: 5 - 9 = 8? -4.'),
    ('Step 1: 5 + 2 = 8? What?', 'Step 1: 5 + 2 = 8? 7.'),
    ('Step 1: 5 + 2 = 8? 7777777777.', 'Step 1: 5 + 2 = 8? 7.'),
    # Nothing that could be computed for long, or that is not a check.
    ('Step 1: 9 ** 9 = 8? 7.', None),
    ('Step 1: 9999999999 * 9 = 8? 7.', None),
    ('Step 1: __import__("os") = 8? 7.', None),
    ('Step 1: 5 + 2 = 8. Verdict: correct', None),
    ('', None),
  ],
)
def test_what_is_executed(text, given):
  assert arithmetic_reviews.execute_check(text) == given


def test_settings():
  lms = dict(critic=None, solver=None)
  for settings in (None, dict(module='', name='', max_turns=8)):
    assert executed_checks.with_checks(lms, settings) is lms
  for changes, message in [
    (dict(max_turns=0), 'checks: max_turns: got 0; expected an integer of 1'),
    (dict(name='execute'), 'checks: function of .*execute_check'),
    (dict(name='review'), r'checks: got review\(critique\)'),
  ]:
    with pytest.raises(ValueError, match=message):
      executed_checks.with_checks(lms, SETTINGS | changes)
  with pytest.raises(ValueError, match="checks: models: got 'critic'"):
    executed_checks.with_checks({}, SETTINGS)
