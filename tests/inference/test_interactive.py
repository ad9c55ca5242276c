"""A solver and a critic that are asked from Python."""

import pathlib
import pydoc
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import random_params
from loop_helpers import nano

import critic_jax
from critic_jax.inference import interactive
from critic_jax.pretrained import hf_weights
from critic_jax.training import roles
from critic_jax.workdir import trained

ROOT = pathlib.Path(critic_jax.__file__).parents[1]
README = (ROOT / 'critic_jax/inference/README.md').read_text()
BLOCKS = [
  block.split('```')[0].strip() for block in README.split('```\n')[1::2]
]
PROBLEM = 'Ada has 5 eggs. Ada finds 2 more. How many eggs?'
SETTINGS = dict(prompts='plain', max_new_tokens=8, lengths=(128,))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Saves a model of random weights."""
  path, lm = tmp_path_factory.mktemp('weights') / 'nano', nano()
  params = random_params(lm.model, 0)
  hf_weights.save(path, lm.model.config, params, lm.tokenizer)
  return str(path)


@pytest.fixture(scope='module')
def loop(folder):
  return interactive.load(folder, **SETTINGS)


def test_importing_it_imports_next_to_nothing():
  code = (
    'import sys, critic_jax; assert "load" in dir(critic_jax); '
    'assert not {"jax", "numpy", "absl", "critic_jax.types"} & {*sys.modules}; '
    'critic_jax.Problem; assert "jax" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_another_name_is_an_error():
  with pytest.raises(AttributeError, match="no attribute 'laod'"):
    _ = critic_jax.laod


def test_its_help_says_what_it_does():
  text = pydoc.plain(pydoc.render_doc(critic_jax))
  for line in ('load(source: ', 'class Loop', 'solve(', 'critique(', 'refine('):
    assert line in text, line
  for name in critic_jax.__all__:
    assert pydoc.getdoc(getattr(critic_jax, name)), name
  public = [x for x in vars(interactive.Loop) if not x.startswith('_')]
  assert {'solve', 'critique', 'refine', 'score'} <= {*public}


def test_answers_are_functions_of_the_arguments(loop):
  first, again = loop.solve(PROBLEM, 2), loop.solve(PROBLEM, 2)
  other = loop.solve(PROBLEM, 2, seed=1)
  texts = [[record.text for record in x] for x in (first, again, other)]
  assert texts[0] == texts[1] != texts[2]
  assert texts[0][0] != texts[0][1]
  assert [record.stage for record in first] == ['solve'] * 2
  assert first[0].problem.question == PROBLEM and 'answer' in first[0].parsed


def test_a_text_and_a_record_are_criticised_alike(loop):
  [solution] = loop.solve(PROBLEM)
  critiques = loop.critique(PROBLEM, solution, 2)
  of_text = loop.critique(PROBLEM, solution.text, 2)
  for record, other in zip(critiques, of_text, strict=True):
    np.testing.assert_array_equal(record.prompt_tokens, other.prompt_tokens)
    np.testing.assert_array_equal(record.tokens, other.tokens)
    assert 'verdict' in record.parsed
  [refined] = loop.refine(critiques[0])
  assert refined.parent is critiques[0] and refined.stage == 'refine'
  assert refined.ancestor('solve') is solution


def test_the_score_is_the_share_of_critiques_that_approve(loop, monkeypatch):
  verdicts = iter(['correct', 'incorrect', None, 'correct'])
  ask = interactive._ask

  def judging(*arguments):
    records = ask(*arguments)
    for record in records:
      verdict = next(verdicts)
      record.parsed.update(
        verdict=verdict, status='ok' if verdict else 'missing'
      )
    return records

  monkeypatch.setattr(interactive, '_ask', judging)
  assert loop.score(PROBLEM, 'Step 1: 5 + 2 = 8', n=4) == 0.5


def test_a_prompt_that_is_too_long_is_refused(loop):
  [record] = loop.solve(PROBLEM * 50)
  assert record.refused and not record.text


@pytest.mark.parametrize('number', range(4))
def test_each_is_five_lines_of_the_readme(number, loop, monkeypatch, capsys):
  monkeypatch.setattr(critic_jax, 'load', lambda source: loop, raising=False)
  assert len(BLOCKS[number].splitlines()) == 5
  exec(BLOCKS[number], {})
  assert capsys.readouterr().out


def test_a_run_answers_as_it_was_trained(tiny_run):
  loop = interactive.load(f'{tiny_run}:rl')
  checkpoint, _ = trained.find(f'{tiny_run}:rl')
  lms = roles.make_lms(checkpoint.config['models'])
  for role, model in (('critic', loop.critic), ('solver', loop.solver)):
    lm = lms[role]
    assert model.lm.stages == lm.stages and model.lm.lengths == lm.lengths
    assert model.lm.sampling_params == lm.sampling_params
    assert model.lm.model == lm.model
    saved = checkpoint.read_role(role)
    jax.tree.map(np.testing.assert_array_equal, model.params, saved)
  one = interactive.load(f'{tiny_run}:rl:critic', max_new_tokens=4)
  assert one.critic is one.solver and one.critic.lm.max_new_tokens == 4


def test_a_solver_may_be_another_model(folder, tiny_run):
  sizes = dict(lengths=(64,), max_new_tokens=32)
  loop = interactive.load(folder, solver=f'{tiny_run}:rl', **sizes)
  assert loop.critic.lm.lengths == loop.solver.lm.lengths == (64,)
  assert loop.critic.lm is not loop.solver.lm


def test_what_is_wrong_is_named(folder, loop, tiny_run):
  with pytest.raises(ValueError, match="temprature.*mean 'temperature'"):
    interactive.load(folder, temprature=0.0)
  with pytest.raises(ValueError, match="critic 'nowhere': models.critic: "):
    interactive.load('nowhere')
  with pytest.raises(ValueError, match="role: got 'critik'"):
    interactive.load(f'{tiny_run}:rl:critik')
  with pytest.raises(ValueError, match=r"solver: got none; .*solver='\.\.\.'"):
    interactive.Loop(loop.critic, None).solve(PROBLEM)
  with pytest.raises(ValueError, match='problem: got 3; expected a text'):
    loop.solve(3)
  with pytest.raises(ValueError, match='solution: got 8; expected a text'):
    loop.critique(PROBLEM, 8)
  with pytest.raises(ValueError, match="critique: got 'more'; expected a rec"):
    loop.refine('more')
  with pytest.raises(ValueError, match='n: got 0'):
    loop.solve(PROBLEM, 0)
