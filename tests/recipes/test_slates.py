"""Slates in recipes: rejective fine-tuning, RL on the rule, a meta-judge."""

import functools

import jax
import numpy as np
import pytest
from loop_helpers import grade, make_recipe, nano, scripted, settings

from configs import reward_model as reward_config
from configs import spct
from critic_jax.data import sources
from critic_jax.recipes import refcritic, rejective_sft, reward_model
from critic_jax.rewards import ratings
from critic_jax.rollouts import rollout

TEACHER = dict(module='arithmetic_slates', name='teacher_scores')
HINT = 'is best.\nScores: 1 to 10\nCritique:'


@functools.cache
def slates(num_responses=2):
  return sources.slates(
    num_train=3, num_test=1, num_responses=num_responses, min_steps=2,
    max_steps=2, num_orders=1,
  )['train']  # fmt: skip


def say(is_right):
  """Makes a script: `is_right(number of the slate, index, is hinted)`."""

  def script(prompt, index):
    number, record = next(
      (i, r) for i, r in enumerate(slates()) if r.problem.question in prompt
    )
    good = is_right(number, index, HINT in prompt)
    order = ratings.read(record).order
    scores = [9 if (place == 0) == good else 2 for place in order]
    thinking = f'<think>\nText {index}.\n</think>\n'
    return f'{thinking}Scores: {", ".join(map(str, scores))}'

  return script


def critic_of(script, **changes):
  return scripted(
    script, prompts='slates', lengths=(256,), max_new_tokens=64, **changes
  )


def collect(is_right, module=rejective_sft, **changes):
  critic = critic_of(say(is_right))
  section = dict(batch_size=12, aggregate='token')
  if module is rejective_sft:
    section |= spct.rejective(0.0, writer=dict(module=''), num_hinted=0)
  else:
    section |= spct.ranking(kl=dict(name='k3', coef=0.0), num_critiques=2)
  recipe = make_recipe(
    module, settings(section, **changes), {'critic': critic}, grade
  )
  batch, records = recipe.collect({'critic': None}, slates(), jax.random.key(0))
  return batch, records, critic


def learned(batch, critic):
  """Returns prompts and responses of rows, in an order of their own."""
  decode = critic.tokenizer.decode
  return sorted(
    (decode(tokens[: np.flatnonzero(mask)[0]]), decode(tokens[mask][:-1]))
    for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True)
    if mask.any()
  )


def numbers(rows):
  """Returns the number of the slate of each row."""
  return sorted(
    i
    for prompt, _ in rows
    for i, record in enumerate(slates())
    if record.problem.question in prompt
  )


# -------------------------------------------------- rejective fine-tuning


def of_kinds(number, index, is_hinted):
  """The first slate is always judged rightly, the second never."""
  return is_hinted or (True, False, index < 3)[number]


def test_what_is_right_and_not_too_easy_is_kept():
  batch, records, critic = collect(of_kinds)
  rows = learned(batch, critic)
  assert numbers(rows) == [2, 2, 2]  # three of four, of the third
  expected = {r.text for r in records if r.scores.get('judge') == 1.0}
  assert {text for _, text in rows} <= expected
  rows = learned(*collect(of_kinds, drop_easy=False)[::2])
  assert numbers(rows) == [0] * 4 + [2] * 3


def test_hints_help_where_nothing_is_right_and_easy_ones_stay_out():
  batch, records, critic = collect(of_kinds, num_hinted=2)
  rows = learned(batch, critic)
  assert numbers(rows) == [1] * 2 + [2] * 5
  # Nobody will tell the critic later: it is to say so without a hint.
  assert not any('is best' in prompt for prompt, _ in rows)
  assert sum(HINT in prompt for prompt in critic.prompts) == 3
  # A hint that is right makes no slate easy.
  hinted = [r for r in records if r.stage == 'hinted']
  assert [r.scores['judge'] for r in hinted] == [1.0] * 6
  assert all('hint' not in r.parent.parsed for r in hinted)
  assert len({r.id for r in records}) == len(records)


def test_a_hinted_text_that_is_wrong_is_not_kept():
  batch, _, critic = collect(lambda number, index, is_hinted: False,
                             num_hinted=2)  # fmt: skip
  assert learned(batch, critic) == []


def test_a_hint_that_misleads_makes_no_slate_hard():
  batch, _, critic = collect(
    lambda number, index, is_hinted: not is_hinted, num_hinted=2
  )
  assert learned(batch, critic) == []


def test_kept_texts_are_as_they_were_written():
  batch, records, critic = collect(of_kinds, num_hinted=1)
  for prompt, text in learned(batch, critic):
    record = next(
      r for r in records if r.text == text and r.problem.question in prompt
    )
    assert critic.stages.critique.prompt(record.parent) in prompt


def test_a_batch_holds_no_more_than_its_rows():
  rows = learned(*collect(of_kinds, drop_easy=False, batch_size=5)[::2])
  assert len(rows) == 5


def test_a_teacher_in_the_critics_place():
  critic = critic_of(lambda prompt, index: 1 / 0)
  section = spct.rejective(0.5) | dict(batch_size=8, aggregate='token')
  recipe = make_recipe(
    rejective_sft, settings(section), {'critic': critic}, grade
  )
  assert not recipe.sampled
  _, records = recipe.collect({'critic': None}, slates(), jax.random.key(0))
  stages = [record.stage for record in records]
  assert stages.count('critique') == 12 and stages.count('hinted') == 3


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_critiques=0), 'num_critiques: got 0'),
    (dict(num_hinted=-1), 'num_hinted: got -1'),
    (dict(num_critiques=1), 'drop_easy: got True with num_critiques=1'),
    (dict(num_solutions=-1), 'num_solutions: got -1'),
  ],
)
def test_wrong_settings_of_rejective_fine_tuning(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(of_kinds, **changes)


def test_hints_are_of_given_slates():
  section = spct.rejective(0.5, num_solutions=1) | dict(
    batch_size=8, aggregate='token'
  )
  models = {'critic': nano(), 'solver': nano()}
  with pytest.raises(ValueError, match='num_hinted: got 1 with num_solutions'):
    make_recipe(rejective_sft, settings(section), models, grade)


# --------------------------------------------------------- RL, a meta-judge


def test_rl_pays_1_for_right_scores_and_else_minus_1():
  batch, records, critic = collect(
    lambda number, index, _: (True, False, index == 0)[number],
    refcritic, batch_size=3,
  )  # fmt: skip
  critiques = [r for r in records if r.stage == 'critique']
  rewards = [r.scores['reward'] for r in critiques]
  assert rewards == [1, 1, -1, -1, 1, -1]
  # (1 - 0) / 1 and (-1 - 0) / 1 in the one group that differs.
  advantages = [
    float(a[m][0]) if m.any() else 0.0
    for a, m in zip(batch['advantages'], batch['mask'], strict=True)
  ]
  np.testing.assert_allclose(advantages, [0, 0, 0, 0, 1, -1], atol=1e-3)


def test_a_meta_judge_learns_from_right_and_wrong_texts():
  critic = critic_of(say(lambda number, index, _: index == number))
  meta = nano(
    prompts='slates', lengths=(256,), max_new_tokens=64, head='reward'
  )
  section = reward_config.reward_model(
    role='meta', stage='critique', num_responses=3, max_pairs=1
  )
  recipe = make_recipe(
    reward_model,
    settings(section | dict(batch_size=3)),
    {'critic': critic, 'meta': meta},
    grade,
  )
  batch, records = recipe.collect(
    {'critic': None, 'meta': None}, slates(), jax.random.key(0)
  )
  rows = [
    meta.tokenizer.decode(tokens[mask][:-1])
    for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True)
  ]
  texts = {r.text: r for r in records if r.stage == 'critique'}
  judged = [texts[row].scores['judge'] for row in rows]
  assert judged == [1, 0] * 3  # the chosen one is the right one
  assert recipe.takes_solutions and rollout.determined_rewards(records)
