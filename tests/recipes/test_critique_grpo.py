"""Critique-GRPO's flow of data: who joins a group, and as what."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  mesh,
  nano,
  problems,
  scripted,
  settings,
)

from configs import common
from configs import critique_grpo as config
from critic_jax.inspection import limits
from critic_jax.models.transformer import Transformer
from critic_jax.recipes import critique_grpo, grpo
from critic_jax.rollouts import stage_metrics
from critic_jax.sampling import lm
from critic_jax.text.tokenizer import Tokenizer
from critic_jax.training import roles, updates
from critic_jax.types import Generation, Problem

GOOD = critique('incorrect', ADVICE)
HANGS = 'The answer is \\boxed{99}.'
# It begins as a right solution does, and is another text.
REFINED = 'Step 1: 5 + 2 = 7\nThe answer is \\boxed{14}.'
FIELDS = 'tokens', 'mask', 'logprobs', 'advantages', 'weights'


def section(**changes):
  return settings(
    config.critique_grpo(num_solutions=2) | dict(batch_size=1), **changes
  )


def solve_if_told(prompt, index):
  """Solves wrongly at first, and rightly with concrete advice."""
  return REFINED if 'It should be' in prompt else WRONG


def grade_in_time(pairs):
  return [
    'timeout' if text == HANGS else mark
    for (text, _), mark in zip(pairs, grade(pairs), strict=True)
  ]


def collect(solve=solve_if_told, texts=(GOOD,), grade=grade, **changes):
  """Collects a step of scripted roles; `texts` are the critiques, in turn."""
  solver = scripted(solve, max_new_tokens=64)
  asked = []

  def criticise(prompt, index):
    asked.append(prompt)
    return texts[(len(asked) - 1) % len(texts)]

  critic = scripted(criticise, max_new_tokens=64)
  models = {'solver': solver, 'critic': critic}
  recipe = make_recipe(critique_grpo, section(**changes), models, grade)
  batch, records = recipe.collect(
    dict.fromkeys(models), [PROBLEM], jax.random.key(0)
  )
  return recipe, batch, records, solver


def texts_of(batch, lm):
  """Returns the prompt and the response of each row."""
  pairs = []
  for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True):
    start = mask.argmax() if mask.any() else 0
    decode = lm.tokenizer.decode
    pairs.append((decode(tokens[:start]), decode(tokens[mask][:-1])))
  return pairs


def row_advantages(batch):
  return [
    row[mask][0] if mask.any() else None
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]


def by_stage(records, stage):
  return [record for record in records if record.stage == stage]


def test_the_flow_by_hand():
  recipe, batch, records, solver = collect()
  question = f'Problem: {PROBLEM.question}\nSolution:\n'
  assert texts_of(batch, solver) == [
    (question, WRONG), (question, WRONG), (question, REFINED)
  ]  # fmt: skip
  # Rewards 0, 0, 1, less their mean of a third, not divided by a deviation.
  np.testing.assert_allclose(
    row_advantages(batch), [-1 / 3, -1 / 3, 2 / 3], rtol=1e-6
  )
  expected = batch['mask'] & np.array([[False], [False], [True]])
  np.testing.assert_array_equal(batch['off_policy'], expected)
  # A token weighs what another does: limit * rows, Dr. GRPO's constant.
  np.testing.assert_allclose(batch['weights'][batch['mask']], 1 / (64 * 3))
  assert [len(by_stage(records, s)) for s in ('solve', 'critique', 'refine')] \
    == [2, 2, 2]  # fmt: skip
  assert [r.scores['joined'] for r in by_stage(records, 'refine')] == [1, 0]
  assert recipe.trained == ('solver',) and recipe.num_rows == 3
  assert [s.stage for s in recipe.sampled] == ['solve', 'critique', 'refine']


def test_the_group_is_not_filled_with_copies_of_the_refinement():
  """The released default puts it in the place of every solution."""
  words = iter('abcdefgh')
  solve = lambda p, i: REFINED if 'It should' in p else next(words)  # noqa: E731
  _, batch, _, solver = collect(solve, num_solutions=7)
  responses = [response for _, response in texts_of(batch, solver)]
  assert responses == [*'abcdefg', REFINED]
  assert batch['off_policy'].any(axis=1).sum() == 1


def test_what_is_trained_holds_neither_the_critique_nor_the_first_solution():
  """Nor does the refinement's own prompt, whose tokens it keeps."""
  _, batch, records, solver = collect()
  refined = by_stage(records, 'refine')[0]
  assert ADVICE in solver.tokenizer.decode(refined.prompt_tokens)
  prompt, response = texts_of(batch, solver)[2]
  for text in ('Critique', 'Refined', WRONG, ADVICE):
    assert text not in prompt + response
  tokens = batch['tokens'][2][batch['mask'][2]]
  assert tokens.tolist() == refined.tokens.tolist()


# ------------------------------------------------------------------- arms


def always(text):
  return lambda prompt, index: text


def right_if_again(prompt, index):
  """Is right in the third solution of a problem, and in no other."""
  return RIGHT if index == 2 and 'Critique:' not in prompt else WRONG


VERDICT, LEAKED = config.ARMS['verdict'], config.ARMS['leaked']
NO_REFINEMENT = dict(num_refinements=0)


@pytest.mark.parametrize(
  ('solve', 'arm', 'joined', 'sampled', 'num_prompts'),
  [
    # A solution to the problem, then what the solver is asked.
    (right_if_again, NO_REFINEMENT | dict(num_extra=2), RIGHT, ['solve'], 1),
    (always(WRONG), NO_REFINEMENT | dict(use_reference=True),
     PROBLEM.solution, ['solve'], 1),
    (always(WRONG), VERDICT, WRONG, ['solve', 'refine'], 8),
    (always(WRONG), LEAKED, WRONG, ['solve', 'refine'], 8),
    # The solver's own critique advises it, too.
    (lambda p, i: GOOD if p.endswith('Critique:') else solve_if_told(p, i),
     config.ARMS['own'], REFINED, ['solve', 'critique', 'refine'], 9),
    # Refinements come first, then solutions, then the reference.
    (right_if_again, dict(num_extra=1, use_reference=True), RIGHT,
     ['solve', 'critique', 'refine'], 3),
  ],
)  # fmt: skip
def test_arms_differ_in_who_joins(solve, arm, joined, sampled, num_prompts):
  recipe, batch, records, solver = collect(
    solve, texts=[critique('incorrect')], **arm
  )
  num_own = arm.get('num_solutions', 2)
  assert recipe.num_rows == num_own + 1
  rows = texts_of(batch, solver)
  assert rows[-1] == (rows[0][0], joined)
  assert [response for _, response in rows[:-1]] == [WRONG] * num_own
  assert [s.stage for s in recipe.sampled] == sampled
  assert len(solver.prompts) == num_prompts
  assert len(by_stage(records, 'solve')) == num_own + arm.get('num_extra', 0)
  # Chosen among several, it is no sample of the policy, whoever wrote it.
  assert batch['off_policy'].any(axis=1).tolist() == [False] * num_own + [True]


def test_a_verdict_says_no_more_than_that():
  _, _, _, solver = collect(**VERDICT)
  for prompt in solver.prompts[1:]:
    advice = prompt.partition('Critique:\n')[2]
    assert advice == (
      'There is a mistake.\nVerdict: incorrect\nRefined solution:'
    )


def test_a_critic_that_leaks_the_answer_is_seen():
  for arm, leak in ((LEAKED, 1.0), (VERDICT, 0.0)):
    _, _, records, solver = collect(**arm)
    assert all(
      ('boxed{14}' in p.partition('Critique:')[2]) == bool(leak)
      for p in solver.prompts[1:]
    )
    metrics = stage_metrics.summary(records)
    assert metrics['critique/leak'] == leak
    watch = limits.Watch(section().limits, window=1)
    assert ('critique/leak' in watch.add(metrics)) == bool(leak)


def test_a_reference_is_graded_as_others_are():
  odd = dataclasses.replace(PROBLEM, solution='I do not know.')
  solver = scripted(always(RIGHT), max_new_tokens=64)
  recipe = make_recipe(
    critique_grpo,
    section(num_refinements=0, use_reference=True),
    {'solver': solver},
    grade,
  )
  batch, records = recipe.collect({'solver': None}, [odd], jax.random.key(0))
  np.testing.assert_allclose(
    row_advantages(batch), [1 / 3, 1 / 3, -2 / 3], rtol=1e-6
  )
  [reference] = by_stage(records, 'reference')
  assert reference.scores == {'correct': 0.0, 'reward': 0.0, 'joined': 1.0}
  # Nobody sampled it: to its writer each token was certain.
  assert not batch['logprobs'][2].any()


# ------------------------------------------------------- groups and gates


def test_nobody_joins_where_no_candidate_is_known_and_it_is_grpo_then():
  solve = lambda p, i: HANGS if 'It should' in p else [RIGHT, WRONG][i]  # noqa: E731
  _, batch, _, solver = collect(solve, grade=grade_in_time)
  recipe = make_recipe(
    grpo,
    settings(
      config.policy_gradient()
      | common.solver_rewards()
      | dict(num_solutions=2, batch_size=1)
    ),
    {'solver': solver},
    grade,
  )
  expected, _ = recipe.collect({'solver': None}, [PROBLEM], jax.random.key(0))
  assert not batch['mask'][2].any() and not batch['off_policy'].any()
  for name in FIELDS:
    np.testing.assert_array_equal(batch[name][:2], expected[name], name)


def test_a_wrong_one_joins_where_none_is_right_and_is_pushed_away():
  solve = lambda p, i: WRONG if 'Critique:' in p else [RIGHT, WRONG][i]  # noqa: E731
  _, batch, _, _ = collect(solve)
  np.testing.assert_allclose(
    row_advantages(batch), [2 / 3, -1 / 3, -1 / 3], rtol=1e-6
  )


@pytest.mark.parametrize('text', [RIGHT, WRONG])
def test_groups_of_equal_rewards_teach_exactly_nothing(text):
  _, batch, _, _ = collect(always(text))
  assert batch['mask'].any() and not batch['advantages'].any()


@pytest.mark.parametrize(
  ('gate', 'refined'), [('always', [0, 1]), ('wrong', [1])]
)
def test_the_gate_says_which_solutions_are_refined(gate, refined):
  solve = lambda p, i: REFINED if 'Critique:' in p else [RIGHT, WRONG][i]  # noqa: E731
  _, _, records, _ = collect(solve, gate=gate)
  parents = [r.parent.parent.index for r in by_stage(records, 'refine')]
  assert parents == refined


def test_metrics_tell_of_groups_without_a_right_solution():
  recipe, _, records, _ = collect()
  metrics = stage_metrics.summary(records)
  assert metrics['solve/all_wrong'] == metrics['solve/rescued'] == 1.0
  assert metrics['refine/joined'] == 0.5
  assert {*metrics} <= recipe.metrics
  _, _, records, _ = collect(always(WRONG))
  assert stage_metrics.summary(records)['solve/rescued'] == 0.0
  _, _, records, _ = collect(always(RIGHT))
  metrics = stage_metrics.summary(records)
  assert metrics['solve/all_wrong'] == 0.0 and 'solve/rescued' not in metrics


def test_problems_of_a_step_keep_to_themselves():
  """Also where one comes twice: each has its own refinements."""
  solver = scripted(solve_if_told, max_new_tokens=64)
  other = Problem('other', 'Ben has 1 pen.', '1', '1')
  critic = scripted(
    lambda p, i: critique('incorrect') if 'Ben' in p else GOOD,
    max_new_tokens=64,
  )
  models = {'solver': solver, 'critic': critic}
  recipe = make_recipe(critique_grpo, section(batch_size=4), models, grade)
  batch, records = recipe.collect(
    dict.fromkeys(models), [PROBLEM, other, PROBLEM], jax.random.key(0)
  )
  responses = [response for _, response in texts_of(batch, solver)]
  expected = [WRONG, WRONG, REFINED, *[WRONG] * 3, WRONG, WRONG, REFINED]
  assert responses == [*expected, '', '', '']
  assert batch['off_policy'].any(axis=1).nonzero()[0].tolist() == [2, 5, 8]
  assert len(set(map(id, records))) == len(records) == 3 * (2 + 2 + 2)


# ----------------------------------------------- old log-probabilities


def test_the_sampler_agrees_where_it_answered_the_question_itself():
  """A refinement's log-probabilities are those under the critique."""
  solver = nano(max_new_tokens=16)
  params = init(solver=solver)
  recipe = make_recipe(
    critique_grpo, section(batch_size=2, **VERDICT | dict(num_solutions=2)),
    {'solver': solver}, grade,
  )  # fmt: skip
  # Drawn logits are close to each other: sharpen them.
  params = jax.tree.map(lambda x: 2 * x, params)
  batch, records = recipe.collect(params, problems(2), jax.random.key(0))
  joined = [r for r in records if r.scores.get('joined')]
  assert [r.stage for r in joined] == ['refine', 'refine']
  for row, record in zip((2, 5), joined, strict=True):
    mask = batch['mask'][row]
    np.testing.assert_array_equal(batch['logprobs'][row][mask], record.logprobs)
  _, (sums, per_row) = jax.jit(recipe.loss)(params, batch)
  assert np.max(per_row['policy/max_ratio_error']) < 1e-3
  assert abs(sums['policy/kl_old']) < 1e-4
  share = batch['off_policy'].sum() / batch['mask'].sum()
  assert sums['policy/off_policy'] == pytest.approx(share, rel=1e-5)
  # The same tokens after the question alone are others' log-probabilities.
  assert abs(sums['policy/off_policy_gap']) > 1e-3
  # Taken for the policy's own they would be an error of sampler and trainer.
  mistaken = {**batch, 'off_policy': np.zeros_like(batch['off_policy'])}
  _, (_, per_row) = jax.jit(recipe.loss)(params, mistaken)
  errors = np.asarray(per_row['policy/max_ratio_error'])
  assert min(errors[2], errors[5]) > 10 * max(errors[[0, 1, 3, 4]])


# ------------------------------------------------------------------ a toy

# The solver sees two tokens, the kind of the question among them, and writes
# any of sixteen: a right answer is three tokens, one response in 4,096.
PROMPT, ODD, EVEN, EOS = 1, 2, 3, 4
WORDS = {5: '\\boxed{', 6: '7}', 7: '8}'}
ANSWERS = {'7': [5, 6, EOS], '8': [5, 7, EOS]}


def toy_tokenizer() -> Tokenizer:
  def encode(text, parse_special):
    return [PROMPT, ODD if 'odd' in text else EVEN]

  def decode(tokens):
    return ''.join(WORDS.get(token, ' ') for token in tokens).strip()

  return Tokenizer(
    vocab_size=16, eos=(EOS,), pad=0, bos=None, unknown=None, special={},
    chat_template=None, adds_bos=False, files={}, encode_fn=encode,
    decode_fn=decode,
  )  # fmt: skip


class Told(lm.LM):
  """A solver that refines rightly, and solves as its parameters say."""

  def bind(self, params):
    """Returns a `Generate` that samples solutions only."""
    generate = super().bind(params)

    def refine(prompt):
      answer = '7' if 'odd' in prompt else '8'
      tokens = np.array(ANSWERS[answer], np.int32)
      return Generation(
        np.array(self.encode_prompt(prompt), np.int32), tokens,
        np.zeros(3, np.float32), self.decode_response(tokens), 'stop',
      )  # fmt: skip

    def told(prompts, keys, n, max_prompts):
      if not any('Refined' in prompt for prompt in prompts):
        return generate(prompts, keys, n, max_prompts)
      return [[refine(prompt)] * n for prompt in prompts]

    return told


def toy_solver():
  plain = nano()
  fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
  fields.pop('_compiled')
  small = dataclasses.replace(plain.model.config, vocab_size=16)
  return Told(
    **fields
    | dict(
      model=Transformer(small), tokenizer=toy_tokenizer(), lengths=(2,),
      max_new_tokens=3,
    )
  )  # fmt: skip


@pytest.mark.parametrize('arm', ['verdict', 'extra'])
def test_the_solver_learns_what_it_would_not_find(arm):
  """Refinements teach it to answer questions alone; more solutions do not."""
  solver = toy_solver()
  changes = config.ARMS[arm] | dict(num_solutions=4, aggregate='token')
  changes |= dict(num_extra=4 * (arm == 'extra'))
  changes |= dict(num_refinements=int(arm != 'extra'), batch_size=8)
  recipe = make_recipe(
    critique_grpo, section(**changes), {'solver': solver}, grade
  )
  toys = [
    Problem(f'toy-{i}', 'an odd one' if i % 2 else 'an even one', '87'[i % 2])
    for i in range(8)
  ]
  params = roles.init_params({'solver': solver}, {}, mesh(), jax.random.key(0))
  tx = optax.adam(1e-2)
  state = updates.init_state(tx, params, mesh())
  shares = []
  for step in range(50 if arm == 'verdict' else 5):
    batch, records = recipe.collect(state.params, toys, jax.random.key(step))
    solved = by_stage(records, 'solve')
    shares.append(np.mean([r.parsed['correct'] for r in solved]))
    if np.mean(shares[-3:]) > 0.95:
      break
    state, _ = updates.update(recipe.loss, tx, state, batch)
  assert shares[0] < 0.05
  if arm == 'verdict':
    assert np.mean(shares[-3:]) > 0.9, shares
  else:
    assert max(shares) < 0.05


# --------------------------------------------------------------- settings


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (NO_REFINEMENT, 'num_refinements, num_extra, use_reference: got none'),
    (dict(num_solutions=0), 'num_solutions: got 0'),
    (dict(num_extra=-1), 'num_extra: got -1'),
    (dict(gate='sometimes'), "gate: got 'sometimes'"),
    (dict(critic='teacher'), "expected also \\['teacher'\\]"),
    (dict(off_policy=dict(name='shape')), "off_policy: .*'shaped'"),
    (dict(off_policy=dict(name='shaped', gamma=-1.0)), 'off_policy: gamma'),
    (dict(writer=dict(module='labels', name='critiqe')), "mean 'critique'"),
    (dict(writer=dict(module='lessons', name='reference')), 'of .solution'),
    (dict(microbatches=2), 'microbatches: got 2'),
  ],
)
def test_wrong_settings(changes, message):
  with pytest.raises(ValueError, match=message):
    collect(**changes)


def test_a_critic_is_loaded_where_it_is_asked_only():
  solver = {'solver': nano()}
  for name in set(config.ARMS) - {'critique', 'grpo'}:
    make_recipe(critique_grpo, section(**config.ARMS[name]), solver, grade)
  with pytest.raises(ValueError, match="expected also .'critic'"):
    make_recipe(critique_grpo, section(), solver, grade)


def test_the_released_default_is_named_as_what_it_is():
  phases = config.get_config('arms').phases
  assert phases.leaked.writer.name == 'leaked_answer'
  # Solutions of a problem, by the tokens of all that is sampled for it.
  assert phases.grpo.num_solutions == phases.reference.num_solutions == 14
  for name in ('verdict', 'leaked'):
    assert phases[name].num_solutions * (1 + phases[name].num_refinements) == 14
  assert phases.extra.num_solutions + phases.extra.num_extra == 14
