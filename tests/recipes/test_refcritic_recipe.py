import time
import types

import jax
import numpy as np
import pytest
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  critique,
  finish,
  grade,
  init,
  make_recipe,
  nano,
  scripted,
  settings,
)

from configs import critique_rl
from configs import refcritic as config
from critic_jax.graders.pool import Pool
from critic_jax.recipes import refcritic
from critic_jax.types import Generation, Problem

GOOD = critique('incorrect', ADVICE)
VAGUE = critique('incorrect')
FOOLED = critique('correct')
HANGS = 'So it is \\boxed{9^{9^{9^{9}}}}.'


def solver_script(prompt, index):
  """Solves wrongly at first, rightly with concrete advice."""
  if 'Critique:' not in prompt:
    return WRONG
  return RIGHT if 'It should be' in prompt else WRONG


def section(**changes):
  return settings(
    {'batch_size': 1, 'aggregate': 'sequence', **config.refcritic()},
    **{
      'num_critiques': 4,
      'num_refinements': 2,
      'num_controls': 0,
      **changes,
    },
  )


def collect(critiques, solve=solver_script, grade=grade, **changes):
  """Collects the batch and the records by stage of scripted roles."""
  solver = scripted(solve)
  critic = scripted(lambda prompt, index: critiques[index], max_new_tokens=64)
  roles = {'solver': None, 'critic': None}
  recipe = make_recipe(
    refcritic,
    section(num_critiques=len(critiques), **changes),
    {'solver': solver, 'critic': critic},
    grade,
  )
  batch, records = recipe.collect(roles, [PROBLEM], jax.random.key(0))
  stages = {
    stage: [r for r in records if r.stage == stage]
    for stage in ('solve', 'critique', 'refine', 'complete')
  }
  return batch, stages, solver


def rewards(stages, name='reward'):
  return [c.scores[name] for c in stages['critique']]


def row_advantages(batch):
  """Returns the advantage of each row, which all its tokens share."""
  return [
    row[mask].mean() if mask.any() else 0.0
    for row, mask in zip(batch['advantages'], batch['mask'], strict=True)
  ]


def test_the_flow_by_hand():
  batch, stages, solver = collect([GOOD, VAGUE, FOOLED, 'Hm.'])
  assert len(stages['solve']) == 1 and len(stages['critique']) == 4
  # Two refinements of each of the two that rightly call it wrong.
  assert [r.id for r in stages['refine']] == [
    f'sum-0/solve.0/critique.{c}/refine.{i}' for c in (0, 1) for i in (0, 1)
  ]
  assert rewards(stages, 'judge') == [1.0, 1.0, 0.0, 0.0]
  assert rewards(stages, 'refine') == [1.0, 0.0, 0.0, 0.0]
  assert rewards(stages) == [2.0, 1.0, 0.0, 0.0]
  # mean 0.75, variance (1.25^2 + 0.25^2 + 2 * 0.75^2) / 4 = 0.6875
  expected = (np.array([2, 1, 0, 0]) - 0.75) / 0.6875**0.5
  np.testing.assert_allclose(row_advantages(batch), expected, rtol=1e-5)
  # The rows are the critiques; the solver's tokens are not trained.
  for row, record in enumerate(stages['critique']):
    start = len(record.prompt_tokens)
    assert np.flatnonzero(batch['mask'][row])[0] == start
    trained = batch['tokens'][row][batch['mask'][row]]
    assert trained.tolist() == record.tokens.tolist()
  np.testing.assert_allclose(batch['weights'].sum(axis=1), 0.25)
  # Asked to solve once, to refine once for each admitted critique.
  assert len(solver.prompts) == 1 + 2


def test_the_solver_sees_conclusions_only():
  thoughts = 'The reference says 14.'
  text = critique('incorrect', ADVICE, thoughts)
  _, _, solver = collect([text, text])
  for prompt in solver.prompts:
    assert thoughts not in prompt and 'think>' not in prompt
  assert all(ADVICE in prompt for prompt in solver.prompts[1:])


@pytest.mark.parametrize('mask_answers', [False, True])
def test_the_solver_sees_masked_conclusions_where_answers_are_masked(
  mask_answers,
):
  _, _, solver = collect([GOOD, GOOD], mask_answers=mask_answers)
  for prompt in solver.prompts[1:]:
    advice = ADVICE.replace('= 7', '= ?') if mask_answers else ADVICE
    assert f'Critique:\n{advice}\n' in prompt


@pytest.mark.parametrize(
  ('gate', 'solution', 'positions'),
  [
    # Positions among GOOD, FOOLED, and a critique without a verdict.
    ('rightly_called_wrong', WRONG, [0]),
    ('rightly_called_wrong', RIGHT, []),
    ('rightly_judged', WRONG, [0]),
    ('rightly_judged', RIGHT, [1]),
    ('called_wrong', WRONG, [0]),
    ('called_wrong', RIGHT, [0]),
    ('wrong', WRONG, [0, 1]),
    ('wrong', RIGHT, []),
    ('always', WRONG, [0, 1]),
    ('always', RIGHT, [0, 1]),
  ],
)
def test_gates(gate, solution, positions):
  def solve(prompt, index):
    return RIGHT if 'Critique:' in prompt else solution

  _, stages, _ = collect([GOOD, FOOLED, 'Hm.'], solve, gate=gate)
  refined = {r.parent.index for r in stages['refine']}
  assert sorted(refined) == positions
  assert rewards(stages, 'refine') == [float(i in positions) for i in range(3)]


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    # judge 1, 1, 0; refine 1, 0, 0.
    (dict(), [2.0, 1.0, 0.0]),
    (dict(refine_weight=0.5), [1.5, 1.0, 0.0]),
    (dict(judge_weight=0.0), [1.0, 0.0, 0.0]),
    (dict(judge_weight=0.25, refine_weight=2.0), [2.25, 0.25, 0.0]),
    (dict(refine_weight=0.0), [1.0, 1.0, 0.0]),
  ],
)
def test_weights(changes, expected):
  _, stages, solver = collect([GOOD, VAGUE, FOOLED], **changes)
  assert rewards(stages) == expected
  # Judge-only asks the solver for nothing but solutions.
  if changes.get('refine_weight') == 0.0:
    assert not stages['refine'] and len(solver.prompts) == 1


def reward_of(make, **changes):
  """The settings of a reward, for critiques of a test and no reference."""
  section = make(kl=dict(name='k2', coef=0.0), **changes)
  del section['num_critiques'], section['num_controls']
  return section


@pytest.mark.parametrize('mode', ['refine', 'delta', 'mend'])
@pytest.mark.parametrize('solution', [WRONG, RIGHT])
def test_critique_rl_pays_its_two_stages(solution, mode):
  def solve(prompt, index):
    if 'Critique:' not in prompt:
      return solution
    return RIGHT if 'It should be' in prompt or solution is RIGHT else WRONG

  texts = [GOOD, VAGUE, FOOLED, BOTH]
  _, stages, _ = collect(texts, solve, **reward_of(critique_rl.verdict_reward))
  verdicts = [1, 1, -1, -1] if solution is WRONG else [-1, -1, 1, -1]
  assert rewards(stages) == verdicts and not stages['refine']
  second = reward_of(critique_rl.both_rewards, refine_reward=mode)
  _, stages, _ = collect(texts, solve, **second)
  if solution is WRONG:  # mended, left wrong, misjudged, no verdict
    expected = [1 + 0.2, 0 + 0.2, -1, -1]
  else:  # kept
    kept = dict(refine=1, delta=0, mend=0.2)[mode]
    expected = [-1, -1, kept + 0.2, -1]
  np.testing.assert_allclose(rewards(stages), expected)


@pytest.mark.parametrize(
  'changes',
  [
    dict(judge_weight=0.0, refine_weight=0.0),
    dict(judge_weight=0.0, num_refinements=0),
    dict(
      judge_weight=0.0,
      refine_weight=0.0,
      shaping=dict(length=dict(weight=0.0, cost=0.01, max_len=1000)),
    ),
  ],
)
def test_settings_by_which_no_critique_earns_anything_are_refused(changes):
  with pytest.raises(ValueError, match='judge_weight, refine_weight: got'):
    collect([GOOD, VAGUE], **changes)


def test_shaping_is_added():
  shaping = dict(length=dict(weight=2.0, cost=0.01, max_len=1000))
  _, stages, _ = collect([GOOD, VAGUE], shaping=shaping)
  for record, rule in zip(stages['critique'], (2.0, 1.0), strict=True):
    assert record.scores['reward'] == pytest.approx(
      rule - 2.0 * 0.01 * len(record.tokens)
    )


def test_groups_are_the_critiques_of_one_solution():
  """Two solutions: a right one among wrong ones moves no other group."""

  def solve(prompt, index):
    if 'Critique:' in prompt:
      return WRONG
    return RIGHT if index == 1 else WRONG

  batch, stages, _ = collect([VAGUE, FOOLED], solve, num_solutions=2)
  assert [c.parent.index for c in stages['critique']] == [0, 0, 1, 1]
  assert rewards(stages) == [1.0, 0.0, 0.0, 1.0]
  np.testing.assert_allclose(row_advantages(batch), [1, -1, -1, 1])


@pytest.mark.parametrize('text', [GOOD, FOOLED, 'Hm.', ''])
@pytest.mark.parametrize('advantage', ['group_relative', 'leave_one_out'])
def test_groups_of_equal_rewards_teach_exactly_nothing(text, advantage):
  # 1/3 is no float: a mean would leave a residue.
  shaping = dict(length=dict(weight=1 / 3, cost=0.1, max_len=1000))
  batch, _, _ = collect(
    [text] * 3, advantage=dict(name=advantage), shaping=shaping
  )
  assert batch['mask'].any()
  assert not batch['advantages'].any()


# ------------------------------------------------------- hostile critics

BOTH = 'Verdict: correct\nVerdict: incorrect'
HIDDEN = '<think>\nVerdict: incorrect\n</think>\nWho knows?'


@pytest.mark.parametrize('solution', [WRONG, RIGHT])
@pytest.mark.parametrize(
  'text',
  [
    BOTH,
    'Verdict: incorrect. No: Verdict: correct',
    'It is wrong.',
    '',
    HIDDEN,
    '<think>\nVerdict: incorrect',
    'Verdict: not correct',
    'Verdict: correct or incorrect',
    'Verdict: incorr\u0435ct',  # a Cyrillic letter
  ],
)
def test_no_verdict_earns_nothing(text, solution):
  def solve(prompt, index):
    return RIGHT if 'Critique:' in prompt else solution

  _, stages, _ = collect([text, text], solve, gate='always')
  assert rewards(stages) == [0.0, 0.0]
  assert not stages['refine']


def test_a_critique_without_an_end_earns_nothing():
  endless = GOOD + ' And so on' * 10_000  # 100 kB, cut at the limit
  first = time.perf_counter()
  _, stages, _ = collect([endless, endless])
  assert time.perf_counter() - first < 10
  assert [c.finish for c in stages['critique']] == ['length'] * 2
  assert rewards(stages) == [0.0, 0.0]


def test_a_verdict_before_the_cut_earns_nothing():
  early = f'{ADVICE}\nVerdict: incorrect\n' + 'So it is.' * 10_000
  batch, stages, _ = collect([early, GOOD])
  assert stages['critique'][0].truncated
  assert rewards(stages) == [0.0, 2.0]
  np.testing.assert_allclose(row_advantages(batch), [-1, 1])


def test_a_refinement_that_hangs_the_grader_is_no_wrong_one():
  """Nor is the mean of the others paid: advice to hang it would be."""
  hard = Problem('sum-0', PROBLEM.question, r'\sqrt{2}', PROBLEM.solution)

  def solve(prompt, index):
    if 'Critique:' not in prompt:
      return WRONG
    return HANGS if index else 'It is \\boxed{\\frac{2}{\\sqrt{2}}}.'

  solver = scripted(solve)
  critic = scripted(lambda prompt, index: GOOD, max_new_tokens=64)
  with Pool(1, deadline_s=1.0) as pool:
    recipe = make_recipe(
      refcritic,
      section(num_critiques=2),
      {'solver': solver, 'critic': critic},
      pool.grade,
    )
    roles = {'solver': None, 'critic': None}
    first = time.perf_counter()
    batch, records = recipe.collect(roles, [hard], jax.random.key(0))
    assert time.perf_counter() - first < 60
  refined = [r for r in records if r.stage == 'refine']
  assert [r.parsed['grade'] for r in refined] == ['right', 'timeout'] * 2
  critiques = [r for r in records if r.stage == 'critique']
  assert [c.scores for c in critiques] == [{'judge': 1.0}] * 2
  assert not batch['mask'].any()


def test_an_overlong_chain_gives_empty_records():
  """The solution fits, the prompt of its critique does not."""
  solver = nano(max_new_tokens=4)
  critic = nano(lengths=(16,), max_new_tokens=4)
  recipe = make_recipe(
    refcritic, section(), {'solver': solver, 'critic': critic}, grade
  )
  roles = init(solver=solver, critic=critic)
  batch, records = recipe.collect(roles, [PROBLEM], jax.random.key(0))
  critiques = [r for r in records if r.stage == 'critique']
  assert [c.finish for c in critiques] == ['prompt'] * 4
  assert not batch['mask'].any() and not batch['weights'].any()
  total, (metrics, _) = jax.jit(recipe.loss)({'critic': roles['critic']}, batch)
  assert float(total) == 0.0
  assert all(np.isfinite(x).all() for x in metrics.values())


# ------------------------------------------------------------------- loss


def test_the_loss_is_finite_and_trains_the_critic_only():
  batch, _, _ = collect([GOOD, VAGUE, FOOLED, 'Hm.'])
  critic = nano(max_new_tokens=64)
  recipe = make_recipe(
    refcritic,
    section(),
    {'solver': scripted(solver_script), 'critic': critic},
    grade,
  )
  params = {'critic': init(critic=critic)['critic']}
  grad = jax.jit(jax.value_and_grad(recipe.loss, has_aux=True))
  (total, (metrics, _)), gradient = grad(params, batch)
  assert np.isfinite(total) and set(gradient) == {'critic'}
  leaves = jax.tree.leaves(gradient)
  assert all(np.isfinite(leaf).all() for leaf in leaves)
  assert any(np.any(leaf) for leaf in leaves)
  assert metrics['policy/entropy'] > 1.0


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(refine_reward='mended'), "refine_reward: .*did you mean 'mend'"),
    (dict(misjudge_weight='a'), "misjudge_weight: got 'a'"),
    (dict(gate='sometimes'), "gate: got 'sometimes'; expected one of"),
    (dict(objective=dict(name='ppo')), "got 'ppo'"),
    (dict(objective=dict(name='ppo_clip', clip=0.2)), "got 'clip'"),
    (dict(advantage=dict(name='group_relativ')), "mean 'group_relative'"),
    (dict(kl=dict(name='k4', coef=0.1)), "got 'k4'"),
    (dict(shaping=dict(lenght=dict(weight=1.0))), "did you mean 'length'"),
    (dict(shaping=dict(overlong=dict(weight=1.0))), 'max_len'),
  ],
)
def test_wrong_settings_fail_when_the_recipe_is_made(changes, message):
  models = {'solver': scripted(None), 'critic': scripted(None)}
  with pytest.raises(ValueError, match=message):
    make_recipe(refcritic, section(**changes), models, grade)


@pytest.mark.parametrize(
  'name', ['num_solutions', 'num_critiques', 'num_refinements', 'shaping']
)
def test_missing_settings_fail_when_the_recipe_is_made(name):
  config = section()
  del config[name]
  models = {'solver': scripted(None), 'critic': scripted(None)}
  with pytest.raises(TypeError, match=name):
    make_recipe(refcritic, config, models, grade)


def test_the_records_are_whole_trees():
  """Responses have the scored critique as parent; no record is twice."""
  _, stages, _ = collect([GOOD, VAGUE], num_controls=2)
  scored = {id(c) for c in stages['critique']}
  assert stages['refine'] and all(c.scores for c in stages['critique'])
  assert {id(r.parent) for r in stages['refine']} == scored


def test_controls_are_not_rewarded():
  plain, stages, _ = collect([GOOD, VAGUE, FOOLED])
  batch, checked, solver = collect([GOOD, VAGUE, FOOLED], num_controls=8)
  assert rewards(stages) == rewards(checked)
  np.testing.assert_array_equal(plain['advantages'], batch['advantages'])
  # Beside two critiques' refinements: empty and masked; nothing to swap with.
  assert len(solver.prompts) == 1 + 2 + 4
  assert sum('It should be' in prompt for prompt in solver.prompts) == 2


def test_a_judge_pays_the_critique_that_it_prefers_in_both_orders():
  def judging(prompts, keys, n, max_prompts):
    none = np.zeros(0, np.int32)
    firsts = [prompt.split('second teacher')[0] for prompt in prompts]
    words = ['first' if 'It should be' in x else 'second' for x in firsts]
    return [
      [Generation(none, none, none, f'Better: {word}', 'stop')]
      for word in words
    ]

  judge = types.SimpleNamespace(bind=lambda params: judging)
  texts = [GOOD, VAGUE, VAGUE]
  solver = scripted(solver_script)
  critic = scripted(lambda prompt, index: texts[index], max_new_tokens=64)
  models = {'solver': solver, 'critic': critic, 'judge': judge}
  changes = dict(
    num_critiques=3, preference_weight=0.5, judge_weight=0.0, refine_weight=0.0
  )
  recipe = make_recipe(refcritic, section(**changes), models, grade)
  batch, records = recipe.collect(
    dict.fromkeys(models), [PROBLEM], jax.random.key(0)
  )
  critiques = [r for r in records if r.stage == 'critique']
  assert [c.scores['preferred'] for c in critiques] == [1.0, 0.0, 0.0]
  assert [c.scores['reward'] for c in critiques] == [0.5, 0.0, 0.0]
  advantages = row_advantages(batch)
  assert advantages[0] > 0 > advantages[1]
  compared = [r for r in records if r.stage.startswith('compare')]
  assert len(compared) == 6 and compared[0].parent in critiques
  assert recipe.sampled[-1] == ('compare', 'judge', 6, 1)
  assert 'compare/agreement' in recipe.metrics
  assert 'critique/preferred' in recipe.metrics
  with pytest.raises(
    ValueError, match="models: got .*; expected also .'judge'"
  ):
    del models['judge']
    make_recipe(refcritic, section(**changes), models, grade)


def test_step_labels_pay_the_critique_that_finds_the_first_wrong_step():
  """`WRONG` errs in step 1; the verdict alone earns nothing here."""
  steps = [critique('incorrect', f'Step {i} is wrong.') for i in (1, 2, 3)]
  labels = dict(module='arithmetic', name='first_error')
  weights = dict(judge_weight=0.0, refine_weight=0.0, step_weight=2.0)
  _, stages, _ = collect([*steps, VAGUE, FOOLED], first_error=labels, **weights)
  [solution] = stages['solve']
  assert solution.parsed['first_error'] == 0
  assert all(c.parent is solution for c in stages['critique'])
  assert rewards(stages) == [2.0, 0.0, 0.0, 0.0, 0.0]
  assert rewards(stages, 'judge') == [1.0, 1.0, 1.0, 1.0, 0.0]
  with pytest.raises(ValueError, match='step_weight: got 2.0 without labels'):
    collect([GOOD, VAGUE], **weights)


SECOND_WRONG = WRONG.replace('= 8', '= 7').replace('8 * 2', '7 * 2')
COMPLETED = dict(
  judge_weight=0.0, refine_weight=0.0, step_weight=1.0,
  completions=dict(num=2, max_steps=3, labels=dict(name='hard')),
)  # fmt: skip
NAMED = [critique('incorrect', f'Step {k} is wrong.') for k in (1, 2)]


def solve_then_finish(prompt, index):
  return SECOND_WRONG if prompt.endswith('Solution:') else finish(prompt, index)


def test_monte_carlo_labels_are_of_the_solver_s_completions():
  _, stages, _ = collect([*NAMED, FOOLED], solve_then_finish, **COMPLETED)
  [solution] = stages['solve']
  # Nobody solves it anew; its first step can be completed, its second cannot.
  assert solution.parsed['values'] == [0.0, 1.0, 0.0, 0.0]
  assert solution.parsed['targets'] == [1.0, 0.0, 0.0]
  assert 'first_error' not in solution.parsed
  rewards = [c.scores['reward'] for c in stages['critique']]
  assert rewards == [0.0, 1.0, 0.0]
  assert len(stages['complete']) == 3 * 2
  assert all(c.parent.parent is solution for c in stages['complete'])
  assert all(c.parent is solution for c in stages['critique'])


def test_nobody_is_paid_where_completions_tell_nothing():
  """The first share is below a half: it is not clear which step failed."""
  unclear = dict(name='sustained', least=0.5)
  changes = COMPLETED | dict(
    completions=dict(num=2, max_steps=3, labels=unclear)
  )
  batch, stages, _ = collect([*NAMED, FOOLED], solve_then_finish, **changes)
  assert stages['solve'][0].parsed['targets'] is None
  assert all('reward' not in c.scores for c in stages['critique'])
  assert not batch['mask'].any()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(completions=dict(num=2, max_steps=0, labels=dict(name='hard'))),
     'completions: max_steps: got 0'),
    (dict(completions=dict(num=2, max_steps=3, labels=dict(
       name='ratio', threshold=0.0))),
     'completions: labels: threshold: got 0.0'),
    (dict(completions=dict(num=2, max_steps=3, labels=dict(name='first_wrong'))
     ), 'completions: labels: name: got .first_wrong.; expected a rule'),
    (dict(completions=dict(num=2, max_step=3, labels=dict(name='hard'))),
     "max_step'"),
  ],
)  # fmt: skip
def test_wrong_completions(changes, message):
  with pytest.raises(ValueError, match=message):
    collect([GOOD, VAGUE], **COMPLETED | changes)
