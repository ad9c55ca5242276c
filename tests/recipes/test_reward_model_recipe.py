"""Reward models: pairs by rules, and what is paid by their scores."""

import json
import random
import types

import jax
import numpy as np
import pytest
from loop_helpers import (
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  grade,
  init,
  make_recipe,
  nano,
  problems,
  scripted,
  settings,
)

from configs import common, refcritic
from configs import reward_model as config
from critic_jax.data import batching, preference_files
from critic_jax.loss_fns import scoring
from critic_jax.recipes import grpo, reward_model
from critic_jax.recipes import refcritic as refcritic_recipe
from critic_jax.tasks import arithmetic_labels
from critic_jax.training import eval_phases, phases, roles
from critic_jax.types import Generation

PLANTED = dict(
  module='arithmetic_labels', name='plant', max_slips=3, right_share=0.3
)
SHARE_RIGHT = dict(module='arithmetic_labels', name='share_right')


def reader(**changes):
  return nano(head='reward', max_new_tokens=64, **changes)


def section(**changes):
  base = dict(batch_size=4, num_responses=4, max_pairs=2)
  return settings(config.reward_model(**base | changes))


def make(lm=None, **changes):
  models = {'reward': reader()}
  if lm:
    models['solver' if changes.get('stage') != 'critique' else 'critic'] = lm
  return make_recipe(reward_model, section(**changes), models, grade)


def collect(examples, lm=None, seed=0, **changes):
  recipe = make(lm, **changes)
  batch, records = recipe.collect(
    {'solver': None, 'critic': None}, examples, jax.random.key(seed)
  )
  return recipe, batch, records


def pairs_in(batch):
  """Returns the texts of the pairs of plain rows, without their ends."""
  tokenizer = reader().tokenizer
  texts = [
    tokenizer.decode([t for t in tokens[mask] if t not in tokenizer.eos])
    for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True)
    if mask.any()
  ]
  return list(zip(texts[::2], texts[1::2], strict=True))


def test_the_right_solution_is_chosen():
  solver = scripted(
    lambda prompt, i: (WRONG, RIGHT, WRONG, RIGHT)[i], max_new_tokens=64
  )
  recipe, batch, records = collect([PROBLEM], solver)
  assert pairs_in(batch) == [(RIGHT, WRONG)] * 2
  assert [r.scores['correct'] for r in records] == [0, 1, 0, 1]
  assert [s.role for s in recipe.sampled] == ['solver']
  assert recipe.trained == ('reward',) and recipe.rows_per_group == 2
  starts = batch['mask'].argmax(axis=1)
  prompts = {
    tuple(t[:s]) for t, s in zip(batch['tokens'], starts, strict=True) if s
  }
  prompt = reader().stages.solve.prompt(PROBLEM)
  assert prompts == {tuple(reader().encode_prompt(prompt))}


def test_solutions_that_are_all_alike_make_no_pair():
  for text in (RIGHT, WRONG):
    solver = scripted(lambda prompt, i, text=text: text, max_new_tokens=64)
    recipe, batch, _ = collect([PROBLEM], solver)
    assert not batch['mask'].any()


def test_a_solution_that_was_cut_has_no_end():
  """The score is read at its last token; a finished one ends with its end."""
  solver = scripted(lambda prompt, i: (RIGHT, WRONG)[i], max_new_tokens=30)
  short = scripted(lambda prompt, i: ('So ' * 99, WRONG)[i], max_new_tokens=30)
  end = reader().tokenizer.end
  lm = reader()
  for author, is_cut in ((solver, None), (short, True)):
    _, _, records = collect([PROBLEM], author, num_responses=2)
    for record in records:
      read = batching.reread(record, lm.stages.solve.prompt(PROBLEM), lm)
      assert (read.tokens[-1] == end) == (not record.truncated)
      assert len(read.tokens) > 3
    if is_cut:
      assert records[0].truncated


def test_a_solution_that_is_too_long_for_the_reward_model_is_in_no_pair():
  texts = RIGHT, WRONG, WRONG + ' ' + 'So ' * 60
  solver = scripted(lambda prompt, i: texts[i], max_new_tokens=128)
  _, batch, records = collect([PROBLEM], solver, num_responses=3)
  assert pairs_in(batch) == [(RIGHT, WRONG)]
  assert len(records[2].tokens) > 64 and not records[2].refused


def test_written_solutions_are_paired_by_their_gold():
  recipe, batch, records = collect(
    problems(4), writer=PLANTED, gold=SHARE_RIGHT
  )
  assert recipe.sampled == () and len(records) == 16
  texts = {}
  for record in records:
    gold = arithmetic_labels.share_right(record.problem, record.text)
    assert record.scores['gold'] == gold
    texts[record.text] = gold
  assert 0 < min(texts.values()) < max(texts.values()) == 1
  pairs = pairs_in(batch)
  assert len(pairs) >= 4
  assert all(texts[chosen] > texts[rejected] for chosen, rejected in pairs)


GIVEN = dict(max_responses=3, score=dict(preference=1.0, helpfulness=0.0))


def test_pairs_of_a_file(tmp_path):
  """Read by the loader of offline preferences; swapped and relabelled alike."""
  path = tmp_path / 'pairs.jsonl'
  pairs = [('Two.', 'Three.'), ('No.', 'Yes.'), ('So ' * 99, 'So.')]
  path.write_text(
    ''.join(
      json.dumps(dict(prompt=f'Q{i}?', chosen=chosen, rejected=rejected)) + '\n'
      for i, (chosen, rejected) in enumerate(pairs)
    )
  )
  examples = preference_files.read(path)
  recipe, batch, records = collect(examples, comparisons=GIVEN)
  # The third has a response that is too long.
  assert pairs_in(batch) == pairs[:2]
  assert recipe.takes_comparisons and not recipe.sampled
  assert [r.scores.get('reward') for r in records] == [1, 0, 1, 0, None, 0]
  assert 'solve/preference' in recipe.metrics
  tokens, start = batch['tokens'][0], batch['mask'][0].argmax()
  prompt = [dict(role='user', content='Q0?')]
  assert tokens[:start].tolist() == reader().encode_messages(prompt)
  swapped = [
    collect(examples, seed=seed, comparisons=GIVEN, flip_share=0.4)[1]
    for seed in range(8)
  ]
  seen = {pair for batch in swapped for pair in pairs_in(batch)}
  assert seen == {*pairs[:2], *(pair[::-1] for pair in pairs[:2])}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(stage='critique'), "comparisons: got them with stage='critique'"),
    (dict(writer=PLANTED), 'comparisons: got them with .*arithmetic_labels'),
    (dict(gold=SHARE_RIGHT), 'comparisons: got them with .*arithmetic_labels'),
    (dict(comparisons=GIVEN | dict(max_responses=1)), '^comparisons: max_resp'),
    (
      dict(comparisons=GIVEN | dict(score=dict(x=0.0))),
      '^comparisons: score: ',
    ),
    (
      dict(comparisons=dict(score=dict(x=1.0))),
      '^comparisons: .*max_responses',
    ),
  ],
)
def test_wrong_settings_of_comparisons(changes, message):
  with pytest.raises(ValueError, match=message):
    make(nano(), **dict(comparisons=GIVEN) | changes)


def test_steps_differ_and_are_repeated_by_their_key():
  texts = [
    [r.text for r in collect(problems(4), seed=seed, writer=PLANTED)[2]]
    for seed in (0, 0, 1)
  ]
  assert texts[0] == texts[1] != texts[2]


def test_a_share_of_the_labels_is_swapped():
  solver = scripted(lambda prompt, i: (WRONG, RIGHT)[i], max_new_tokens=64)
  wrong = []
  for seed in range(20):
    _, batch, _ = collect(
      [PROBLEM] * 4, solver, seed=seed, num_responses=2, flip_share=0.25
    )
    wrong += [chosen == WRONG for chosen, _ in pairs_in(batch)]
  assert len(wrong) == 80 and 0.1 < np.mean(wrong) < 0.4


def test_critiques_of_given_solutions_are_paired_by_their_verdicts():
  given = [
    arithmetic_labels.solution(problem, bool(i % 2), random.Random(i))
    for i, problem in enumerate(problems(4))
  ]
  critic = scripted(
    lambda prompt, i: critique(('correct', 'incorrect')[i]), max_new_tokens=64
  )
  recipe, batch, records = collect(
    given, critic, stage='critique', num_responses=2
  )
  assert recipe.takes_solutions and [s.role for s in recipe.sampled] == [
    'critic'
  ]
  pairs = pairs_in(batch)
  verdicts = [chosen.split()[-1] for chosen, _ in pairs]
  assert verdicts == ['correct', 'incorrect'] * 2
  assert {r.stage for r in records} == {'solve', 'critique'}


def test_trained_reward_models_correct_wrong_labels():
  """All labels are those of the judges then, whatever was swapped."""
  models = {'reward': reader(), 'first': reader(), 'second': reader()}
  params = init(**models)
  recipes = [
    make_recipe(
      reward_model,
      section(
        writer=PLANTED, gold=SHARE_RIGHT, flip_share=0.4,
        relabel=dict(roles=roles, share=share, has_margin=bool(roles)),
      ),
      models,
      grade,
    )
    for roles, share in (((), 0.0), (('first', 'second'), 1.0))
  ]  # fmt: skip
  strengths = []
  for recipe in recipes:
    batch, _ = recipe.collect(params, problems(4), jax.random.key(0))
    scores = [
      scoring.score(
        scoring.Scorer.scores,
        scoring.bind(models, params, role),
        batch,
        microbatches=1,
      )
      for role in ('first', 'second')
    ]
    differences = np.mean(scores, axis=0)
    strengths.append(differences[::2] - differences[1::2])
  assert np.any(strengths[0] < 0)
  np.testing.assert_allclose(strengths[1], np.abs(strengths[0]), atol=1e-5)
  assert recipes[1].scored == ('first', 'second') and not recipes[0].scored
  total, _ = jax.jit(recipes[1].loss)({'reward': params['reward']}, batch)
  assert np.isfinite(total) and total > 0


@pytest.mark.parametrize('row_shapes', [(), ((4, 512),)])
def test_the_loss_of_equal_scores_is_log_2(row_shapes):
  recipe, batch, _ = collect(
    problems(4), writer=PLANTED, gold=SHARE_RIGHT, row_shapes=row_shapes,
    objective=dict(name='bradley_terry'),
  )  # fmt: skip
  assert ('segments' in batch) == bool(row_shapes)
  params = init(reward=reader())
  params['reward'] = jax.tree.map(np.asarray, params['reward'])
  head = params['reward']['scalar_head']
  head['kernel'] = np.zeros_like(head['kernel'])
  total, (sums, _) = jax.jit(recipe.loss)(params, batch)
  assert total == pytest.approx(np.log(2), rel=1e-4)
  assert sums['score/accuracy'] == 0  # a tie is not right


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(role='solver'), "models.solver: got head='lm'; expected 'reward'"),
    (dict(role='judge'), r"expected also \['judge'\]"),
    (dict(stage='refine'), "stage: got 'refine'; expected one of"),
    (dict(num_responses=1), 'num_responses: got 1; .* 2 or more'),
    (dict(max_pairs=0), 'max_pairs: got 0'),
    (dict(flip_share=0.5), 'flip_share: got 0.5; expected less than 0.5'),
    (dict(flip_share=-0.1), 'flip_share: got -0.1'),
    (dict(writer=dict(module='arithmetic_labels', name='plan')), "'plant'"),
    (dict(writer=dict(module='labels', name='critique', verdict_first=True)),
     r'writer: got critique\(solution, rng\); expected .*problem, rng'),
    (dict(stage='critique', gold=SHARE_RIGHT), "'share_right', which"),
    (dict(objective=dict(name='dpo')), "got 'dpo'; expected one of"),
    (dict(microbatches=3), 'microbatches: got 3; .* groups of 2'),
  ],
)  # fmt: skip
def test_wrong_settings(changes, message):
  models = {'reward': reader(), 'solver': nano(), 'critic': nano()}
  with pytest.raises(ValueError, match=message):
    make_recipe(reward_model, section(**changes), models, grade)


# ------------------------------------------------------------- fed to RL


def score_by_hand(lm, params, records):
  batch = batching.from_records(
    records, lm, num_rows=len(records), aggregate='token'
  )
  return scoring.score(
    scoring.Scorer.scores,
    scoring.bind({'reward': lm}, {'reward': params}, 'reward'),
    batch,
    microbatches=1,
  )


def grpo_section(**changes):
  base = common.policy_gradient() | common.solver_rewards()
  base |= dict(batch_size=2, aggregate='token')
  return settings(
    base | dict(num_solutions=2, correct_weight=0.0, score_weight=2.0) | changes
  )


def test_grpo_is_paid_by_the_score():
  models = {
    'solver': scripted(lambda p, i: (RIGHT, WRONG)[i], max_new_tokens=64),
    'reward': reader(),
  }
  params = {**init(reward=models['reward']), 'solver': None}
  recipe = make_recipe(grpo, grpo_section(), models, grade)
  batch, records = recipe.collect(params, [PROBLEM], jax.random.key(0))
  scores = score_by_hand(models['reward'], params['reward'], records)
  assert abs(scores[0] - scores[1]) > 1e-3
  for record, score in zip(records, scores, strict=True):
    assert record.scores['score'] == pytest.approx(float(score), abs=1e-5)
    assert record.scores['reward'] == 2 * record.scores['score']
  # Normalised: 1 for the higher score of the two, whatever is right.
  signs = [
    row[mask][0]
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
    if mask.any()
  ]
  np.testing.assert_allclose(signs, np.sign(scores - scores.mean()), atol=1e-5)
  assert recipe.scored == ('reward',)
  assert 'solve/score' in recipe.metrics


def judging(prompts, keys, n, max_prompts):
  """Prefers whatever comes first, in each order."""
  none = np.zeros(0, np.int32)
  said = Generation(none, none, np.zeros(0), 'Better: first', 'stop')
  return [[said] for _ in prompts]


def test_refcritic_is_paid_by_the_score_of_critiques():
  models = {
    'critic': scripted(
      lambda p, i: critique(('correct', 'incorrect')[i]), max_new_tokens=64
    ),
    'solver': scripted(lambda p, i: WRONG, max_new_tokens=64),
    'reward': reader(),
    'judge': types.SimpleNamespace(bind=lambda params: judging),
  }
  params = {**init(reward=models['reward']), 'solver': None, 'critic': None}
  params['judge'] = None
  its = refcritic.refcritic(
    num_critiques=2, num_refinements=1, num_controls=1, score_weight=0.5,
    preference_weight=1.0,
  )  # fmt: skip
  recipe = make_recipe(
    refcritic_recipe,
    settings(its | dict(batch_size=1, aggregate='token')),
    models,
    grade,
  )
  _, records = recipe.collect(params, [PROBLEM], jax.random.key(0))
  critiques = [r for r in records if r.stage == 'critique']
  scores = score_by_hand(models['reward'], params['reward'], critiques)
  for record, score in zip(critiques, scores, strict=True):
    assert record.scores['score'] == pytest.approx(float(score), abs=1e-5)
    others = sum(record.scores[x] for x in ('judge', 'refine', 'preferred'))
    assert record.scores['reward'] == pytest.approx(
      others + 0.5 * record.scores['score']
    )
  # All that responds to critiques hangs on those that were scored.
  for stage in ('refine', 'compare'):
    its = [r for r in records if r.stage == stage]
    assert its and all(r.parent in critiques for r in its)
  assert recipe.scored == ('reward',)


def test_nobody_is_trained_without_a_reward():
  models = {'solver': nano(), 'reward': reader()}
  with pytest.raises(ValueError, match='no solution earns anything'):
    make_recipe(grpo, grpo_section(score_weight=0.0), models, grade)
  # Without a weight no role is asked, nor needed.
  plain = grpo_section(score_weight=0.0, correct_weight=1.0)
  assert make_recipe(grpo, plain, {'solver': nano()}, grade).scored == ()


def make_phases(cfg):
  return phases.make_phases(cfg, roles.make_lms(cfg.models), None)


def test_a_reward_model_with_a_random_head_is_refused():
  """Also where it is a copy of a solver that was trained."""
  cfg = config.tiny()
  assert [p.name for p in make_phases(cfg)] == ['solver', 'reward', 'rl']
  cfg.order = ('solver', 'rl')
  cfg.phases.rl.copy = dict(reward='solver')
  with pytest.raises(
    ValueError, match='phases.rl.copy: .*random.*reward_model'
  ):
    make_phases(cfg)


def test_a_critic_is_trained_with_a_reward_model_of_given_critiques():
  cfg = config.critiques()
  made = make_phases(cfg)
  assert [p.name for p in made] == ['cold_start', 'reward', 'rl']
  assert all(p.recipe.takes_solutions for p in made)
  assert made[-1].recipe.scored == ('reward',)


# ------------------------------------------------------- best of several


def test_solutions_are_scored_to_choose_among_them():
  cfg = config.tiny()
  lms = roles.make_lms(cfg.models)
  [evaluation] = eval_phases.make_evaluations(cfg, lms)
  params = init(reward=lms['reward'])
  lm = lms['reward']
  score = evaluation.bound.make_score(params)
  stage = lm.stages.solve
  solutions = [
    batching.encode(
      arithmetic_labels.solution(problem, bool(i % 2), random.Random(i)),
      stage.prompt(problem),
      lm,
    )
    for i, problem in enumerate(problems(3))
  ]
  expected = score_by_hand(lm, params['reward'], solutions)
  actual = [record.scores['score'] for record in score(solutions)]
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_an_evaluation_needs_a_critic_for_critiques_alone():
  cfg = config.tiny()
  lms = roles.make_lms(cfg.models)
  cfg.evals.heldout.num_critiques = 1
  with pytest.raises(ValueError, match=r"expected also \['critic'\]"):
    eval_phases.make_evaluations(cfg, lms)
  cfg.evals.heldout.num_critiques = 0
  cfg.evals.heldout.reward_model.roles = ('solver',)
  with pytest.raises(ValueError, match="evals.heldout: .*got head='lm'"):
    eval_phases.make_evaluations(cfg, lms)
