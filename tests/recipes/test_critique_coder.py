"""Critique-Coder's flow of data: solutions to judge among problems to solve."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  make_recipe,
  mesh,
  nano,
  problems,
  scripted,
  settings,
)

from configs import critique_coder as config
from critic_jax.inspection import limits
from critic_jax.models.transformer import Transformer
from critic_jax.recipes import critique_coder
from critic_jax.rollouts import stage_metrics
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.training import roles, updates
from critic_jax.types import Problem

OTHER = Problem('other', 'Ben has 1 pen.', '1', '1')
LONG = Problem('long', 'Zoe counts. ' * 100, '1', '1')
HANGS = 'The answer is \\boxed{99}.'
OWN = dict(module='')
GIVEN = dict(module='arithmetic_labels', name='plant', max_slips=1)


def section(**changes):
  small = dict(num_samples=2, num_given=1, writer=OWN)
  return settings(
    config.critique_coder(**small) | dict(batch_size=2, aggregate='sequence'),
    **changes,
  )


def solve(prompt, index):
  """Judges all to be wrong, and then all to be right; solves in turn."""
  if prompt.endswith('Critique:'):
    return critique(('incorrect', 'correct')[index % 2])
  return (RIGHT, WRONG)[index % 2]


def grade_in_time(pairs):
  return [
    'timeout' if text == HANGS else mark
    for (text, _), mark in zip(pairs, grade(pairs), strict=True)
  ]


def collect(script=solve, examples=(PROBLEM, PROBLEM), grade=grade, **changes):
  solver = scripted(script, max_new_tokens=64)
  recipe = make_recipe(
    critique_coder, section(**changes), {'solver': solver}, grade
  )
  batch, records = recipe.collect(
    {'solver': None}, list(examples), jax.random.key(0)
  )
  return recipe, batch, records, solver


def row_advantages(batch):
  return [
    row[mask][0] if mask.any() else None
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]


def by_stage(records, stage):
  return [record for record in records if record.stage == stage]


def test_the_flow_by_hand():
  recipe, batch, records, solver = collect()
  [given] = by_stage(records, 'given')
  critiques, solutions = (by_stage(records, s) for s in ('critique', 'solve'))
  assert given.text == RIGHT and given.parsed['correct']
  assert [c.parent for c in critiques] == [given] * 2
  assert [c.scores['reward'] for c in critiques] == [0, 1]
  assert [s.scores['reward'] for s in solutions] == [1, 0]
  # Two groups with rewards of their own: mean 1/2, deviation 1/2.
  np.testing.assert_allclose(row_advantages(batch), [-1, 1, 1, -1], rtol=1e-6)
  # What is trained are critiques and solutions, and nothing that was given.
  rows = zip(batch['tokens'], batch['mask'], strict=True)
  assert [solver.tokenizer.decode(tokens[mask][:-1]) for tokens, mask in rows] \
    == [r.text for r in critiques + solutions]  # fmt: skip
  assert recipe.trained == ('solver',) and recipe.num_rows == 4
  assert [s.stage for s in recipe.sampled] == ['solve', 'given', 'critique']


@pytest.mark.parametrize(('right_share', 'judged'), [(1.0, 1), (0.0, 0)])
def test_a_writer_gives_solutions_that_are_graded(right_share, judged):
  writer = GIVEN | dict(right_share=right_share)
  recipe, batch, records, solver = collect(examples=problems(2), writer=writer)
  [given] = by_stage(records, 'given')
  assert given.parsed['correct'] == bool(judged)
  rewards = [c.scores['reward'] for c in by_stage(records, 'critique')]
  assert rewards == [1 - judged, judged]
  # Nobody samples it: one prompt to judge, one to solve.
  assert len(solver.prompts) == 2 and len(given.tokens) == 0
  assert [s.stage for s in recipe.sampled] == ['solve', 'critique']


def test_a_fifth_of_the_batches_of_the_config_is_to_be_judged():
  phase = config.get_config('critique_coder').phases.critique_coder
  assert phase.num_given / phase.batch_size == 0.2
  assert phase.writer.right_share == 0.5


@pytest.mark.parametrize('word', ['correct', 'incorrect'])
def test_always_the_same_verdict_is_no_gain_in_a_group(word):
  script = lambda p, i: critique(word) if 'Critique:' in p else WRONG  # noqa: E731
  _, batch, records, _ = collect(script)
  assert not batch['advantages'].any()
  watch = limits.Watch(section().limits, window=1)
  crossings = watch.add(stage_metrics.summary(records))
  assert 'critique/called_wrong' in crossings


def test_a_hedged_verdict_earns_nothing():
  both = 'Verdict: correct\nVerdict: incorrect'
  script = lambda p, i: both if 'Critique:' in p else solve(p, i)  # noqa: E731
  _, _, records, _ = collect(script)
  assert [c.scores['reward'] for c in by_stage(records, 'critique')] == [0, 0]


def test_a_given_solution_that_timed_out_teaches_nothing():
  """Nor does a solution of its own that did; the others are as they were."""

  def script(prompt, index):
    hangs = 'Ben' in prompt or index == 2
    is_solved = not prompt.endswith('Critique:')
    return HANGS if hangs and is_solved else solve(prompt, index)

  _, batch, records, _ = collect(
    script, (OTHER, PROBLEM), grade_in_time, num_samples=3
  )
  grades = [r.parsed.get('grade') for r in by_stage(records, 'given')]
  assert grades == ['timeout']
  assert all(not c.scores for c in by_stage(records, 'critique'))
  np.testing.assert_array_equal(
    batch['mask'].any(axis=1), [False] * 3 + [True, True, False]
  )
  np.testing.assert_allclose(row_advantages(batch)[3:5], [1, -1], rtol=1e-6)


def test_a_given_solution_that_does_not_fit_is_no_content():
  _, batch, records, _ = collect(examples=(LONG, PROBLEM))
  assert [r.finish for r in by_stage(records, 'critique')] == ['prompt'] * 2
  assert row_advantages(batch) == [None, None, 1, -1]


# ------------------------------------------------------------------ a toy

# The solver sees two tokens: whether it is to judge a 7, to judge something
# else, or to solve; it writes any of eight.
PROMPT, SEVEN, NONE, EOS, SOLVE = 1, 2, 3, 4, 0
WORDS = {5: 'Verdict: correct', 6: 'Verdict: incorrect', 7: '\\boxed{7}'}


def toy_tokenizer() -> Tokenizer:
  def encode(text, parse_special):
    if 'Critique' not in text:
      return [PROMPT, SOLVE]
    return [PROMPT, SEVEN if 'boxed{7}' in text else NONE]

  def decode(tokens):
    return ' '.join(WORDS.get(token, '') for token in tokens).strip()

  return Tokenizer(
    vocab_size=8, eos=(EOS,), pad=0, bos=None, unknown=None, special={},
    chat_template=None, adds_bos=False, files={}, encode_fn=encode,
    decode_fn=decode,
  )  # fmt: skip


def test_the_solver_learns_both():
  """Its own solutions are judged: first most are wrong, and then none."""
  plain = nano()
  solver = dataclasses.replace(
    plain,
    tokenizer=toy_tokenizer(),
    model=Transformer(dataclasses.replace(plain.model.config, vocab_size=8)),
    lengths=(2,),
    max_new_tokens=3,
  )
  recipe = make_recipe(
    critique_coder,
    section(num_samples=8, num_given=4, batch_size=8, aggregate='token'),
    {'solver': solver},
    grade,
  )
  toys = [Problem(f'toy-{i}', 'Which?', '7') for i in range(8)]
  params = roles.init_params({'solver': solver}, {}, mesh(), jax.random.key(0))
  # Faster, some draws judge all wrong while most are, and never come back.
  tx = optax.adam(3e-3)
  state = updates.init_state(tx, params, mesh())
  shares = []
  for step in range(160):
    batch, records = recipe.collect(state.params, toys, jax.random.key(step))
    means = stage_metrics.summary(records)
    shares.append([means['critique/judge'], means['solve/correct']])
    if len(shares) > 2 and np.min(np.mean(shares[-3:], axis=0)) > 0.95:
      break
    state, _ = updates.update(recipe.loss, tx, state, batch)
  assert max(shares[0]) < 0.4
  assert np.min(np.mean(shares[-3:], axis=0)) > 0.9, shares


# --------------------------------------------------------------- settings


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_given=2), 'num_given: got 2 of batch_size=2'),
    (dict(num_given=0), 'num_given: got 0'),
    (dict(num_samples=1), 'num_samples: got 1'),
    (dict(writer=dict(module='labels', name='leaked_answer')), 'of .problem'),
    (dict(objective=dict(name='ppo')), "got 'ppo'"),
  ],
)
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    make_recipe(critique_coder, section(**changes), {'solver': nano()}, grade)
