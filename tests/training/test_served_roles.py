"""Runs whose solver is a server's: nothing is lost, nothing is asked twice."""

import json

import jax
import pytest
from bad_server import bad_server
from helpers import PROBLEM
from run_helpers import assert_same, run, serve, served_config

from configs import refcritic
from critic_jax.plan import __main__ as plan
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares
from critic_jax.rollouts import rollout
from critic_jax.sampling import endpoint as endpoint_lib
from critic_jax.sampling.served import Served
from critic_jax.training import eval_phases, roles
from critic_jax.workdir import run_dir


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(endpoint_lib, '_FIRST_DELAY_S', 0.01)
  monkeypatch.setattr(endpoint_lib, '_MAX_DELAY_S', 0.05)


def read(path, names):
  return [r for name in names for r in run_dir.read_records(path / name)]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Trains a run whose server is as bad as can be, and counts requests."""
  path = tmp_path_factory.mktemp('served') / 'run'
  faults = ['drop', 'status 429', 'no json', 'half', 'no choices']
  with pytest.MonkeyPatch.context() as patch, bad_server(faults) as server:
    patch.setattr(endpoint_lib, '_FIRST_DELAY_S', 0.01)
    patch.setattr(endpoint_lib, '_MAX_DELAY_S', 0.05)
    return run(served_config(server.url), path, has_report=True), server


def test_three_steps_lose_no_problem(whole):
  path, server = whole
  config = served_config(server.url)
  size, num = config.phases.rl.batch_size, config.phases.rl.num_solutions
  for step in range(3):
    [file] = (path / 'records' / 'rl').glob(f'*{step}.jsonl.gz')
    records = run_dir.read_records(file)
    solutions = [r for r in records if r.stage == 'solve']
    assert len(solutions) == size * num
    for solution in solutions:
      assert solution.text.startswith('Step 1') and solution.finish == 'stop'
      assert 'correct' in solution.parsed and not len(solution.tokens)
    assert sum(r.stage == 'critique' for r in records) == (
      size * num * config.phases.rl.num_critiques
    )
  metrics = [*run_dir.read_metrics(path / 'metrics.jsonl')]
  assert len(metrics) == 3
  assert all(x['solve/count'] == size * num for x in metrics)
  assert not any('solve/length' in x for x in metrics)
  assert min(server.attempts.values()) == 6
  for body in server.requests:
    assert body['model'] == 'small' and body['max_tokens'] == 48
    [*_, last] = body['messages']
    assert last['role'] == 'user' and last['content']
  assert len({x['seed'] for x in server.requests}) > 10
  assert 'Step 1' in (path / 'report.html').read_text()


def test_a_run_that_goes_on_asks_for_what_it_has_not(whole, tmp_path):
  path, server = whole
  with bad_server() as other:
    config = served_config(other.url)
    asked, ask = [], Served._request

    def request(self, messages, seed):
      if len(asked) == limit:
        raise ValueError('stopped here')
      asked.append(seed)
      return ask(self, messages, seed)

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(Served, '_request', request)
      limit = len(server.requests) * 2 // 3  # in the last step, or evaluating
      with pytest.raises(ValueError, match='stopped here'):
        run(config, tmp_path / 'run')
    num_asked = len(other.requests)
    run(config, tmp_path / 'run')
    assert_same(path, tmp_path / 'run')
    assert sorted(map(json.dumps, other.requests)) == sorted(
      map(json.dumps, server.requests)
    )
    assert 0 < num_asked < len(other.requests)


def test_the_server_may_move_and_may_not_be_another(whole, tmp_path):
  path, server = whole
  # Nobody answers at this address, and nothing is asked.
  config = served_config('http://127.0.0.1:1/v1')
  run(config, path)
  config.models.solver.served.num_requests = 1
  run(config, path)
  config.models.solver.served.model = 'large'
  with pytest.raises(ValueError, match='models.solver.served.model'):
    run(config, path)


def test_requests_are_functions_of_the_key():
  settings = dict(temperature=0.5, top_p=0.9, prompts='instruct')
  with bad_server(['drop']) as server:
    config = {'solver': serve(server.url, **settings)}
    lm = roles.make_lms(config)['solver']
    problems = [PROBLEM] * 2

    def sample(seed):
      stage, generate = lm.stages.solve, lm.bind({})
      key = jax.random.key(seed)
      return rollout.run(stage, generate, problems, key, n=2)

    first, again, other = (sample(seed) for seed in (0, 0, 1))
    texts = [[r.text for r in x] for x in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    seeds = {x['seed'] for x in server.requests}
    assert len(seeds) == 8 and all(0 <= seed < 2**31 for seed in seeds)
    critique = rollout.write(lm.stages.critique, first[0], 'Step 1 is wrong.')
    key = jax.random.key(2)
    rollout.run(lm.stages.refine, lm.bind({}), [critique], key, n=1)
    body = server.requests[-1]
    words = [message['role'] for message in body['messages']]
    assert words == ['user', 'assistant', 'user']
    assert body['messages'][1]['content'] == first[0].text
    assert (body['temperature'], body['top_p']) == (0.5, 0.9)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(source='http://u:p@host'), 'source: got .*; expected http://HOST'),
    (dict(served=dict(model='')), "served: a served model: got .*'model'.*"),
    (dict(top_k=3), 'top_k: got 3 for a model that is served; expected 0'),
    (dict(prefix='<think>'), 'prefix: got '),
    (dict(head='value'), "head: got 'value'"),
    (dict(temperature=-1.0), 'temperature: got -1'),
    (dict(lora=dict(rank=4)), 'lora.rank: got 4 for a model that is served'),
    (dict(prompts='plane'), "prompts: .*did you mean 'plain'"),
  ],
)
def test_wrong_settings_are_named(changes, message):
  section = serve('http://127.0.0.1:1/v1', **changes)
  with pytest.raises(ValueError, match=f'models.solver: {message}'):
    roles.make_lms({'solver': section})


def test_more_wrong_settings_are_named():
  for name, value in (('model', ''), ('num_requests', 0), ('timeout_s', 0)):
    section = serve('http://127.0.0.1:1/v1')
    section.served[name] = value
    with pytest.raises(ValueError, match=f'models.solver: served: {name}: got'):
      roles.make_lms({'solver': section})
  section = refcritic.tiny_role()
  section['served']['model'] = 'small'
  with pytest.raises(ValueError, match='expected the URL of its server'):
    roles.make_lms({'solver': section})


def test_an_evaluation_asks_for_nothing_that_is_not_obeyed():
  config = served_config('http://127.0.0.1:1/v1')
  lms = roles.make_lms(config.models)
  config.evals.heldout.sampling = dict(solver=dict(temperature=0.0))
  eval_phases.check_evaluations(config, lms)
  config.evals.heldout.sampling = dict(solver=dict(top_k=5))
  with pytest.raises(ValueError, match='top_k: got 5 for a model that is serv'):
    eval_phases.check_evaluations(config, lms)


@pytest.mark.parametrize('case', ['trained', 'copied', 'ref'])
def test_a_role_that_needs_weights_is_not_served(case, tmp_path):
  config = served_config('http://127.0.0.1:1/v1')
  role = 'solver'
  if case == 'trained':
    role, config.models.critic = 'critic', config.models.solver
  elif case == 'copied':
    config.phases.rl.copy = dict(critic='solver')
  else:
    role, config.models.ref = 'ref', config.models.solver
    config.phases.rl.kl.coef = 0.1
  with pytest.raises(
    ValueError, match=rf'phases.rl.*models.{role}: got a model that is served'
  ):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_plan_says_that_it_needs_no_memory():
  config = served_config('http://127.0.0.1:1/v1')
  mesh = plan.make_mesh(config, 'h100', 'data=1', '', False)
  result = plan.forecast.make(config, mesh, CHIPS['h100'], Shares())
  assert 'solver' not in result.parameters and 'critic' in result.parameters
  assert any('no memory here' in line for line in result.choices)
  [phase] = result.phases
  assert phase.held['parameters of solver'] == 0
  assert not any('solve' in str(time) for time in phase.times)
