"""Properties that every recipe has, new ones too: a recipe adds a row here."""

import dataclasses
import functools
import pkgutil
from collections.abc import Callable

import jax
import numpy as np
import pytest
from helpers import make_record, random_params
from loop_helpers import (
  ADVICE,
  PROBLEM,
  RIGHT,
  WRONG,
  Scripted,
  critique,
  make_recipe,
  nano,
  settings,
)
from loop_helpers import grade as grade_at_once

from configs import common, critic_v, deepcritic, sciglm, timo
from configs import critique_coder as critique_coder_config
from configs import critique_grpo as critique_grpo_config
from configs import echo as echo_config
from configs import mmc as mmc_config
from configs import multi_critique as multi_config
from configs import ppo as ppo_config
from configs import preference as preference_config
from configs import process_reward as process_config
from configs import refcritic as refcritic_config
from configs import reward_model as reward_config
from configs import spc as spc_config
from configs import spct as spct_config
from critic_jax import lookup, recipes
from critic_jax.loss_fns import scoring
from critic_jax.models import quantize
from critic_jax.models.transformer import Transformer
from critic_jax.rollouts import stage_metrics
from critic_jax.types import Comparison, Generation, Problem

WRONG_PROBLEM = Problem('wrong', 'Ben has 1 pen. How many?', '1', '1')
HUNG_PROBLEM = Problem('hung', 'Eve has 1 hat. How many?', '1', '1')
HANGS = 'The answer is \\boxed{99}.'  # the test's graders say so
HANG_ADVICE = 'Make the grader hang.'
LONG = 'Zoe counts.'  # what no prompt has room for
LONG_PROBLEM = Problem('long', LONG * 100, '', RIGHT)

# The settings of each recipe, beside those that all have.
CASES = {
  'sft': dict(role='solver', lessons=dict(module='lessons', name='reference')),
  'cold_start': dict(num_solutions=1, num_critiques=2, writer=dict(module='')),
  'rejective_sft': spct_config.rejective(
    1.0,
    num_solutions=1,
    num_critiques=2,
    num_hinted=0,
    writer=dict(module=''),
  ),
  'contrast': mmc_config.contrast(
    dict(module='arithmetic_contrasts', name='contrasted'),
    num_solutions=2,
    first_error=dict(module='', name=''),
  ),
  'grpo': common.policy_gradient()
  | common.solver_rewards()
  | dict(num_solutions=2),
  'ppo': ppo_config.ppo().phases.rl.to_dict() | dict(num_solutions=2),
  'refcritic': refcritic_config.refcritic(
    num_critiques=2, num_refinements=2, num_controls=2
  ),
  'online_preference': critic_v.online_preference(
    writer=dict(module=''),
    num_critiques=2,
    step_marks=dict(module=''),
    score=dict(judge=1.0, overlap=0.0, agreement=0.0),
  ),
  'multi_critique': multi_config.preference(
    refiners=('solver',), num_critiques=2, corrections=dict(module='')
  ),
  'critique_grpo': critique_grpo_config.critique_grpo(num_solutions=2),
  'second_look': deepcritic.second_look(
    num_critiques=2,
    writer=dict(module=''),
    # It agrees, and so reads no problem of a world that these are not of.
    second_writer=deepcritic.second_look()['second_writer']
    | dict(check_share=0.0),
    first_error=dict(module=''),
  ),
  'process_reward': process_config.process_reward(
    role='reward',
    num_solutions=2,
    first_error=dict(module='', name=''),
    completions=dict(num=1, max_steps=3, labels=dict(name='hard')),
  ),
  'critique_coder': critique_coder_config.critique_coder(
    num_samples=2, num_given=1, writer=dict(module='')
  ),
  'co_evolution': echo_config.co_evolution(
    num_solutions=2, num_critiques=2, gate='wrong', refine_settings={}
  ),
  'offline_preference': preference_config.preference(),
  'reward_model': reward_config.reward_model(num_responses=2),
  'annotation': sciglm.annotation(
    num_solutions=2,
    min_scores=(0.0, 0.5),
    num_reviews=1,
    first_error=dict(module=''),
  ),
  'self_critic': timo.self_critic(
    num_solutions=2,
    num_critiques=1,
    score=dict(approval=1.0, confidence=0.0, agreement=1.0),
  ),
  'self_play': spc_config.self_play(
    'critic',
    attackers=('solver',),
    writer=dict(module=''),
    num_critiques=2,
    first_error=dict(module='', name=''),
  ),
}
# They write what is learned: nothing is sampled.
WRITTEN = ('sft', 'offline_preference')
COLD_STARTS = ('cold_start', 'contrast', 'rejective_sft', 'second_look')
PENALTY = dict(kl=dict(name='k2', coef=0.5))
IN_INT8 = ('ref',)
HEADS = {'value': 'value', 'reward': 'reward'}


@dataclasses.dataclass(frozen=True, eq=False)
class Checked(Scripted):
  """A scripted LM that samples with parameters of its own model only.

  Attributes:
    keys: the data of the keys of each call.
  """

  keys: list = dataclasses.field(default_factory=list)

  def bind(self, params):
    """Returns a `Generate`; raises if the parameters are another role's."""
    assert num_hidden(params) == self.model.config.mlp_dim
    generate = super().bind(params)

    def logged(prompts, keys, n, max_prompts):
      data = np.asarray(jax.random.key_data(keys))[: len(prompts)]
      self.keys.append([tuple(key) for key in data.tolist()])
      return generate(prompts, keys, n, max_prompts)

    return logged

  def _say(self, prompt, index):
    if LONG in prompt:
      nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
      prompt_tokens = np.array(self.encode_prompt(prompt), np.int32)
      return Generation(prompt_tokens, *nothing, '', 'prompt')
    return super()._say(prompt, index)


def num_hidden(params):
  return params['layers_0']['mlp']['up']['kernel'].shape[-1]


def solve(prompt, index):
  """Solves a problem rightly once in two times, and one problem never."""
  if 'Make step' in prompt:
    return WRONG
  if HANG_ADVICE in prompt or 'Eve' in prompt:
    return HANGS
  return RIGHT if index == 0 and 'Ben' not in prompt else WRONG


def criticise(prompt, index):
  return critique(('incorrect', 'correct')[index % 2], ADVICE)


@functools.cache
def make_models(solve: Callable = solve, criticise: Callable = criticise):
  """Makes models of the roles, each of a size of its own, and parameters."""

  def write(prompt, index):
    is_asked = prompt.endswith('Critique:')
    return (criticise if is_asked else solve)(prompt, index)

  scripts = dict(solver=write, critic=criticise)
  models, params = {}, {}
  for i, role in enumerate(('solver', 'critic', 'ref', 'value', 'reward')):
    lm = nano(max_new_tokens=64, head=HEADS.get(role, 'lm'))
    config = dataclasses.replace(lm.model.config, mlp_dim=32 + 8 * i)
    params[role] = random_params(Transformer(config), seed=i)
    if role in IN_INT8:
      params[role] = quantize.quantize(params[role])
      config = dataclasses.replace(config, param_dtype='int8')
    fields = {f.name: getattr(lm, f.name) for f in dataclasses.fields(lm)}
    fields.pop('_compiled')
    script = scripts.get(role)
    models[role] = Checked(
      **fields | dict(model=Transformer(config)), script=script
    )
  return models, params


def make(name, models, grade=grade_at_once, **changes):
  section = settings(
    CASES[name] | dict(batch_size=4, aggregate='token'), row_shapes=()
  )
  names = lookup.settings_of(lookup.module('recipes', name).make)
  section.update({k: v for k, v in changes.items() if k in names})
  return make_recipe(lookup.module('recipes', name), section, models, grade)


def collect(recipe, params, problems):
  if recipe.takes_comparisons:
    problems = [compared(problem) for problem in problems]
  return recipe.collect(params, problems, jax.random.key(0))


def compared(problem):
  """Makes a comparison of a problem's right solution and a wrong one."""
  responses = [
    make_record('solve', problem=problem, index=i, text=text, tokens=[],
                scores={'preference': 1.0 - i})
    for i, text in enumerate((RIGHT, WRONG))
  ]  # fmt: skip
  return Comparison(problem, tuple(responses))


def trained(recipe, params):
  return {role: params[role] for role in recipe.trained}


def test_every_recipe_has_a_row():
  names = {module.name for module in pkgutil.iter_modules(recipes.__path__)}
  assert set(CASES) == names


# ------------------------------------------------------ models of the roles


@pytest.mark.parametrize('name', CASES)
def test_parameters_meet_the_model_of_their_role_only(name):
  """All sizes differ, so that a model refuses parameters of another role."""
  models, params = make_models()
  recipe = make(name, models, **PENALTY)
  batch, _ = collect(recipe, params, [PROBLEM, WRONG_PROBLEM])
  jax.eval_shape(recipe.loss, trained(recipe, params), batch)
  readers = {'ppo': ('ref', 'value'), 'co_evolution': ('ref', 'ref')}
  without = (
    'sft', *COLD_STARTS, 'annotation', 'process_reward', 'reward_model'
  )  # fmt: skip
  readers |= dict.fromkeys(without, ())
  assert recipe.scored == readers.get(name, ('ref',))


@pytest.mark.parametrize('name', CASES)
def test_readers_go_through_the_micro_batches_of_the_update(name, monkeypatch):
  """`test_scoring.py` has the bytes that it saves."""
  models, params = make_models()
  passes = []

  def in_parts(statistic, scorer, batch, microbatches):
    passes.append(microbatches)
    return scoring_in_parts(statistic, scorer, batch, microbatches)

  scoring_in_parts = scoring.in_parts
  monkeypatch.setattr(scoring, 'in_parts', in_parts)
  recipe = make(name, models, microbatches=4, **PENALTY)
  batch, _ = collect(recipe, params, [PROBLEM, WRONG_PROBLEM])
  assert passes == [4] * len(recipe.scored)
  # What they add to a batch has its rows, in their order.
  monkeypatch.undo()
  recipe = make(name, models, **PENALTY)
  whole, _ = collect(recipe, params, [PROBLEM, WRONG_PROBLEM])
  for array, x in batch.items():
    np.testing.assert_allclose(x, whole[array], rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------- metrics


@pytest.mark.parametrize('name', CASES)
def test_metrics_are_means_over_trained_tokens_whatever_the_loss_is(name):
  """All but the parts of the loss; so limits mean the same for every loss.

  Those of pairs are means over pairs.
  """
  models, params = make_models()
  batches = {
    aggregate: collect(
      make(name, models, aggregate=aggregate, **PENALTY),
      params,
      [PROBLEM, WRONG_PROBLEM],
    )[0]
    for aggregate in ('token', 'sequence', 'constant')
  }
  loss = make(name, models, **PENALTY).loss
  loss = jax.jit(functools.partial(loss, trained(make(name, models), params)))
  totals, metrics = {}, {}
  for aggregate, batch in batches.items():
    totals[aggregate], (sums, per_row) = loss(batch)
    metrics[aggregate] = per_row | {
      name: x for name, x in sums.items() if not name.startswith('loss/')
    }
  assert totals['constant'] != totals['token']
  for aggregate in ('sequence', 'constant'):
    for metric, value in metrics['token'].items():
      np.testing.assert_array_equal(metrics[aggregate][metric], value, metric)
  if 'policy/ratio_error' in metrics['constant']:
    # Scripts have log-probability -1 a token; the policy is far from that.
    assert 0.1 < metrics['constant']['policy/ratio_error']
    assert 0.1 < metrics['constant']['policy/kl_ref']


# ------------------------------------------------- what is said of a recipe


# Of wrong solutions self-play makes nothing, and of right ones an annotation
# (test_self_play.py, test_annotation.py).
@pytest.mark.parametrize(
  'name', [x for x in CASES if x not in ('self_play', 'annotation')]
)
def test_a_recipe_samples_what_it_states(name):
  """What fits on a chip, and how long a step takes, is planned by it."""
  models, params = make_models()
  for lm in models.values():
    lm.keys.clear()
  recipe = make(name, models, num_controls=0, batch_size=2, gate='always')
  _, records = collect(recipe, params, [PROBLEM, WRONG_PROBLEM])
  num_prompts = {
    role: sum(map(len, lm.keys)) for role, lm in models.items() if lm.keys
  }
  stated = dict.fromkeys(num_prompts, 0)
  for stage in recipe.sampled:
    stated[stage.role] = stated.get(stage.role, 0) + stage.num_prompts
    num_records = sum(record.stage == stage.stage for record in records)
    assert num_records == stage.num_prompts * stage.num_samples, stage
  assert num_prompts == stated


# -------------------------------------------------------------------- keys


@pytest.mark.parametrize(
  'name', [name for name in CASES if name not in WRITTEN]
)
def test_a_problem_that_comes_again_is_sampled_with_other_keys(name):
  models, params = make_models()
  for lm in models.values():
    lm.keys.clear()
  # Controls of a critique share its key on purpose (rollouts/controls.py).
  recipe = make(name, models, num_controls=0)
  collect(recipe, params, [PROBLEM, WRONG_PROBLEM, PROBLEM, WRONG_PROBLEM])
  calls = [keys for lm in models.values() for keys in lm.keys]
  assert max(map(len, calls)) >= 3
  for keys in calls:
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------- timeouts


def grade_in_time(pairs):
  return [
    'timeout' if text == HANGS else grade
    for (text, _), grade in zip(pairs, grade_at_once(pairs), strict=True)
  ]


def learned(batch):
  """Returns what is learned of each response, in an order of its own."""
  # The reference's depend on the tokens alone, but for rounding.
  others = 'tokens', 'mask', 'ref_logprobs'
  names = [name for name in sorted(batch) if name not in others]
  rows = [
    (
      tuple(batch['tokens'][row][mask].tolist()),
      *(np.round(1.0 * batch[name][row][mask], 5).tolist() for name in names),
    )
    for row, mask in enumerate(batch['mask'])
    if mask.any()
  ]
  return sorted(rows)


def hang_third(prompt, index):
  return HANGS if index == 2 else solve(prompt, index % 2)


def like_hung(prompt, index):
  return critique('correct' if HANGS in prompt else 'incorrect', ADVICE)


def hang_attack(prompt, index):
  if 'Make step' in prompt:
    return HANGS if index else WRONG
  return solve(prompt, index)


def hang_second(prompt, index):
  if 'Critique:' in prompt:
    return solve(prompt, index)
  return HANGS if index else WRONG


def advise_badly(prompt, index):
  text = critique('incorrect', HANG_ADVICE)
  return text if index == 2 else criticise(prompt, index)


# A recipe, its settings with one response more, which hangs the grader, and the
# script that writes it.
TIMEOUTS = {
  'grpo': ('grpo', dict(num_solutions=3), dict(solve=hang_third)),
  'an opponent': (
    'grpo', dict(num_solutions=3, preference=dict(name='raters')),
    dict(solve=hang_third),
  ),
  'ppo': ('ppo', dict(num_solutions=3), dict(solve=hang_third)),
  'critique_grpo': (
    'critique_grpo', dict(num_solutions=3), dict(solve=hang_third)
  ),
  'one of its own pairs': (
    'self_critic', dict(num_solutions=3),
    dict(solve=hang_third, criticise=like_hung),
  ),
  'an attack': ('self_play', dict(num_attacks=2), dict(solve=hang_attack)),
  'its steps': (
    'process_reward', dict(num_solutions=3), dict(solve=hang_third)
  ),
  'a solution': ('refcritic', dict(num_solutions=2), dict(solve=hang_second)),
  'of both roles': (
    'co_evolution', dict(num_solutions=3), dict(solve=hang_third)
  ),
  'a solution of pairs': (
    'online_preference', dict(num_solutions=2), dict(solve=hang_second)
  ),
  'a response of pairs': (
    'reward_model', dict(num_responses=3), dict(solve=hang_third)
  ),
  'a refinement of pairs': (
    'multi_critique', dict(num_critiques=3), dict(criticise=advise_badly)
  ),
  'a refinement': (
    'refcritic', dict(num_critiques=3), dict(criticise=advise_badly)
  ),
}  # fmt: skip


def test_every_recipe_that_grades_has_a_timeout():
  graded = {
    name
    for name in CASES
    if any(
      metric.endswith('/timeout') for metric in make(name, make_models()[0])
      .metrics
    )
  }  # fmt: skip
  # Those that are not here have a test of their own.
  others = {'critique_coder', 'annotation', *COLD_STARTS, *WRITTEN}
  assert graded - others == {x[0] for x in TIMEOUTS.values()}


@pytest.mark.parametrize('case', TIMEOUTS)
def test_a_timeout_is_not_a_wrong_answer(case):
  """All is learned as if the response that hung the grader were not there."""
  name, with_hung, scripts = TIMEOUTS[case]
  models, params = make_models(**scripts)
  # A bad refinement is of a wrong solution.
  problems = [WRONG_PROBLEM] if case == 'a refinement' else [PROBLEM]
  batch, records = collect(
    make(name, models, grade_in_time, **with_hung), params, problems
  )
  assert any(r.parsed.get('grade') == 'timeout' for r in records)
  expected, expected_records = collect(
    make(name, models, grade_in_time), params, problems
  )
  assert learned(batch) == learned(expected) != []
  signals = ('responses', 'targets', 'advantages')
  signal = next(name for name in signals if name in batch)
  assert np.any(batch[signal]), 'all are alike'
  grades = [r.parsed.get('grade') for r in expected_records]
  assert 'timeout' not in grades
  # Were it wrong, more would be learned.
  other, _ = collect(
    make(name, models, grade_at_once, **with_hung), params, problems
  )
  assert learned(other) != learned(batch)


@pytest.mark.parametrize('name', COLD_STARTS)
def test_a_cold_start_keeps_no_critique_of_a_solution_that_timed_out(name):
  models, params = make_models()
  kept = []
  for problems in (
    [PROBLEM, WRONG_PROBLEM],
    [PROBLEM, WRONG_PROBLEM, HUNG_PROBLEM],
  ):
    recipe = make(name, models, grade_in_time, batch_size=8)
    kept.append(learned(collect(recipe, params, problems)[0]))
  assert len(kept[0]) == 2 and kept[0] == kept[1]


# ------------------------------------------------- prompts that do not fit


def asked(models):
  """Returns the prompts that the models were given, and forgets them."""
  prompts = [prompt for lm in models.values() for prompt in lm.prompts]
  for lm in models.values():
    lm.prompts.clear()
  return prompts


def means(records):
  """Returns the metrics of records, but for how many there are and fitted."""
  return {
    name: mean
    for name, mean in stage_metrics.summary(records).items()
    if not name.endswith(('/count', '/refused'))
  }


def praise(prompt, index):
  """Calls everything right: also true of what is not right, if it is empty."""
  return critique('correct' if index else 'incorrect', ADVICE)


@pytest.mark.parametrize('name', CASES)
def test_a_prompt_that_does_not_fit_is_no_content(name):
  """All is learned, asked and measured as if the problem were not there."""
  models, params = make_models(criticise=praise)
  recipe = make(name, models)
  asked(models)
  batch, records = collect(recipe, params, [PROBLEM, WRONG_PROBLEM])
  expected = asked(models)
  assert not any(record.refused for record in records)
  problems = [PROBLEM, LONG_PROBLEM, WRONG_PROBLEM]
  with_long, its_records = collect(recipe, params, problems)
  refused = [record for record in its_records if record.refused]
  assert {record.problem.id for record in refused} == {'long'}
  assert learned(with_long) == learned(batch) != []
  others = [prompt for prompt in asked(models) if LONG not in prompt]
  assert others == expected
  assert means(its_records) == means(records)
  stage = refused[0].stage
  num_refused, number = (
    sum(r.stage == stage for r in some) for some in (refused, its_records)
  )
  share = stage_metrics.summary(its_records)[f'{stage}/refused']
  assert share == num_refused / number > 0
  assert stage_metrics.summary(records)[f'{stage}/refused'] == 0
  if name not in WRITTEN:
    assert refused[0].parsed['grade'] == 'refused'
  assert not any(r.truncated or 'reward' in r.scores for r in refused)


@pytest.mark.parametrize('name', CASES)
def test_a_step_in_which_no_prompt_fits_learns_nothing(name):
  models, params = make_models()
  batch, records = collect(make(name, models), params, [LONG_PROBLEM] * 2)
  assert records and all(record.refused for record in records)
  assert not batch['mask'].any()


def advise_at_length(prompt, index):
  text = critique('incorrect', f'{ADVICE} {LONG}')
  return text if index == 2 else criticise(prompt, index)


def test_a_refinement_that_does_not_fit_does_not_count_against_its_critique():
  models, params = make_models(criticise=advise_at_length)
  batch, records = collect(
    make('refcritic', models, num_critiques=3), params, [WRONG_PROBLEM]
  )
  refused = [r for r in records if r.refused]
  assert {r.stage for r in refused} >= {'refine'}
  assert {r.parent.index for r in refused} == {2}
  assert 'reward' not in refused[0].parent.scores
  expected, expected_records = collect(
    make('refcritic', models), params, [WRONG_PROBLEM]
  )
  assert learned(batch) == learned(expected) != []
  metrics = stage_metrics.summary(records)
  expected_metrics = stage_metrics.summary(expected_records)
  for name in ('refine/correct', 'refine/length', 'refine/truncated'):
    assert metrics[name] == expected_metrics[name]
