"""SPC's game by hand: attacks that count, who is shown them, who is paid."""

import random

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  critique,
  grade,
  make_recipe,
  scripted,
  settings,
)

from configs import spc
from critic_jax.recipes import self_play
from critic_jax.rollouts import attacks
from critic_jax.tasks import arithmetic, arithmetic_labels

# What an attacker writes who is told the first step, or the second.
BROKEN = (
  'Step 1: 5 + 2 = 8\nStep 2: 8 * 2 = 16\nThe answer is \\boxed{16}.',
  'Step 1: 5 + 2 = 7\nStep 2: 7 * 2 = 15\nThe answer is \\boxed{15}.',
)
NOBODY = dict(module='', name='')
CAUGHT, FOOLED = critique('incorrect'), critique('correct')


def obey(prompt, index):
  """Attacks as it is told, but every third time not at all."""
  told = 'Make step 2 wrong.' in prompt
  return RIGHT if index == 2 else BROKEN[told]


def disobey(prompt, index):
  """Makes the other step wrong."""
  return BROKEN['Make step 1 wrong.' in prompt]


def make(side, models=(), **changes):
  """Makes the recipe of scripted players, and these."""
  section = spc.self_play(side) | dict(
    num_attacks=4, num_critiques=2, aggregate='sequence',
    advantage=dict(name='group_relative', normalize=False),
  )  # fmt: skip
  lms = dict(
    attacker=scripted(obey, max_new_tokens=64),
    attacker_0=scripted(obey, max_new_tokens=64),
    critic=scripted(lambda prompt, index: (CAUGHT, FOOLED)[index]),
  ) | dict(models)
  section |= dict(batch_size=2)
  return make_recipe(self_play, settings(section, **changes), lms, grade), lms


def collect(side, problems=(PROBLEM,), models=(), **changes):
  """Collects a batch and the records of each stage."""
  recipe, lms = make(side, models, **changes)
  batch, records = recipe.collect(
    dict.fromkeys(lms), list(problems), jax.random.key(0)
  )
  stages = {}
  for record in records:
    stages.setdefault(record.stage, []).append(record)
  return batch, stages, lms


def signals(batch):
  """Returns the advantage of each row that is learned from."""
  rows = zip(batch['advantages'], batch['mask'], strict=True)
  return [row[mask].mean() for row, mask in rows if mask.any()]


def test_an_attacker_learns_by_hand():
  batch, stages, lms = collect('attacker')
  [order] = stages['order']
  assert order.text == f'Make step {order.parsed["target"] + 1} wrong.'
  assert order.parent.text == RIGHT
  # One of four attacks is none, and is shown to nobody.
  assert [a.scores['breaks'] for a in stages['attack']] == [1, 1, 0, 1]
  assert len(lms['critic'].prompts) == 3
  assert not any(RIGHT in prompt for prompt in lms['critic'].prompts)
  # Of each, one critic catches it and one is fooled: (1 - 1) / 2 = 0.
  assert [a.scores['reward'] for a in stages['attack']] == [0, 0, -1, 0]
  # The mean is -1/4.
  np.testing.assert_allclose(signals(batch), [0.25, 0.25, -0.75, 0.25])
  assert {c.parent for c in stages['critique']} <= set(stages['attack'])


def test_a_critic_learns_by_hand_of_attacks_and_of_what_is_right():
  batch, stages, lms = collect('critic', num_attacks=1)
  [attack] = stages['attack']
  assert len(lms['critic'].prompts) == 2
  paid = {attack.text: [], RIGHT: []}
  for c in stages['critique']:
    paid[c.parent.text].append(c.scores['reward'])
  # The first of two critiques calls everything wrong, the second right: who
  # says one thing only does not win.
  assert paid == {attack.text: [1, -1], RIGHT: [-1, 1]}
  np.testing.assert_allclose(signals(batch), [1, -1, -1, 1])


@pytest.mark.parametrize('learner', ['attacker', 'critic'])
def test_an_attack_on_another_step_does_not_count(learner):
  models = dict(attacker=scripted(disobey, max_new_tokens=64))
  batch, stages, lms = collect(learner, models=models)
  assert not lms['critic'].prompts and 'critique' not in stages
  assert {a.scores['reward'] for a in stages['attack']} == {-1.0}
  assert not np.any(signals(batch))
  # Where nobody knows the steps, a wrong answer is enough.
  _, stages, _ = collect(learner, models=models, first_error=NOBODY)
  assert {a.scores['breaks'] for a in stages['attack']} == {1.0}


def test_opponents_share_the_problems():
  problems = arithmetic.problems('train', 2, min_steps=2, max_steps=2)
  models = {
    name: scripted(lambda prompt, index: '', max_new_tokens=64)
    for name in ('attacker', 'attacker_0')
  }
  both = tuple(models)
  _, stages, lms = collect(
    'critic', problems, models, attackers=both, first_error=NOBODY
  )
  assert [len(lms[name].prompts) for name in both] == [1, 1]
  asked = [lms[name].prompts[0] for name in both]
  assert [p.question in a for p, a in zip(problems, asked, strict=True)] == [
    True, True
  ]  # fmt: skip
  assert len(stages['attack']) == 8


def test_players_sample_at_most_what_is_stated():
  recipe = make('critic', attackers=('attacker', 'attacker_0'), batch_size=5)[0]
  stated = {(s.stage, s.role): s.num_prompts * s.num_samples
            for s in recipe.sampled}  # fmt: skip
  # 3 of 5 problems; of each 4 attacks, and then the solution.
  assert stated == {
    ('attack', 'attacker'): 3 * 4,
    ('attack', 'attacker_0'): 3 * 4,
    ('critique', 'critic'): 5 * (4 + 1) * 2,
  }
  assert recipe.num_rows == 50 and recipe.trained == ('critic',)
  recipe = make('attacker')[0]
  assert recipe.num_rows == 2 * 4 and recipe.trained == ('attacker',)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(order='Make it wrong.'), "order: got 'Make it wrong.'"),
    (dict(attackers=()), 'attackers: got .*expected roles'),
    (dict(attackers=('attacker', 'attacker')), 'attackers: got .*each of them'),
    (dict(attackers=('critic',)), "learner: got 'critic'.*none of the other"),
    (dict(critics=('critic', 'attacker')), "learner: got 'critic'"),
    (dict(learner='solver'), "learner: got 'solver'"),
    (dict(num_critiques=1), 'num_critiques: got 1; expected an integer of 2'),
    (dict(writer=dict(module='')), 'solver'),
  ],
)
def test_wrong_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    collect('critic', **changes)


def test_a_wrong_solution_is_not_attacked_and_orders_depend_on_nothing_else():
  solve = scripted(lambda prompt, index: BROKEN[0])
  _, stages, _ = collect(
    'critic', models=dict(solver=solve), writer=dict(module='')
  )
  assert 'order' not in stages and 'attack' not in stages
  problems = arithmetic.problems('train', 30, min_steps=3, max_steps=3)
  _, alone, _ = collect('critic', problems[1:2])
  _, beside, _ = collect('critic', problems[:2])
  assert alone['order'][0].text == beside['order'][1].text
  assert len({order.text for order in _orders(problems)}) == 3


def _orders(problems):
  solutions = [arithmetic_labels.solution(p, False, None) for p in problems]
  return attacks.give_orders(solutions, spc.ORDER, 0)


def test_the_first_attacker_does_as_it_is_told():
  rng = random.Random(0)
  for problem in arithmetic.problems('train', 50):
    lesson = arithmetic_labels.attack_lesson(problem, rng, order=spc.ORDER)
    (_, solution), (_, order), (stage, text) = lesson.messages
    step = arithmetic.first_error(problem, text)
    assert (stage, solution) == ('refine', problem.solution)
    assert order == f'Make step {step + 1} wrong.'
    assert sum(arithmetic_labels.step_marks(problem, text)) == 1
