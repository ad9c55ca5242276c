"""Episodes of an agent, judged by scripted critics, and their metrics."""

import random

import jax
import pytest
from helpers import make_record
from loop_helpers import nano, scripted
from ml_collections import ConfigDict

from configs import gui_critic
from critic_jax import lookup
from critic_jax.data import sources
from critic_jax.evals import critic_loop, episode_metrics, protocols
from critic_jax.tasks import screens, screens_agent, screens_critiques
from critic_jax.training import eval_sections
from critic_jax.types import Problem
from critic_jax.workdir import run_dir

NUM = 12
TOKENIZER = gui_critic.role()['tokenizer'] | dict(
  vocab_size=640, num_problems=50
)


def read_prompt(prompt):
  """Makes the judged action of a prompt in the plain style."""
  question, _, rest = prompt.removeprefix('Problem: ').partition(
    '\nSolution:\n'
  )
  action = rest.removesuffix('\nCritique:')
  screen, action = screens.read(action), screens.read_action(action)
  return screens_agent.judged(Problem('p', question, ''), screen, action)


def approve(prompt, index):
  return 'Hint: none\nVerdict: correct'


def teach(prompt, index):
  """Criticises as a teacher who always compares."""
  rng = random.Random(index)
  return screens_critiques.critique(read_prompt(prompt), rng, check_share=1.0)


def misguide(prompt, index):
  """Refuses everything, and suggests what the form never has."""
  return 'Hint: type color pink\nVerdict: incorrect'


def collect(script, *, follow_hints=True, num_critiques=1, **settings):
  critic = scripted(
    script, tokenizer=TOKENIZER, lengths=(128,), max_new_tokens=128
  )
  examples = sources.screen_episodes(num_test=NUM, seed=1, **settings)['test']
  advance = lookup.bind_task(
    dict(module='screens_agent', name='advance', follow_hints=follow_hints),
    'episodes',
    ('critique',),
  )
  return critic_loop.collect(
    {'critic': critic},
    {'critic': None},
    examples,
    jax.random.key(0),
    num_solutions=1,
    num_critiques=num_critiques,
    num_refinements=0,
    refine='always',
    controls=False,
    grade=lambda pairs: [1 / 0 for _ in pairs],  # all are labelled
    advance=advance,
  )


def values(records):
  return {k: e.value for k, e in episode_metrics.metrics(records).items()}


def test_who_approves_of_all_changes_nothing():
  metrics = values(collect(approve))
  assert metrics['reached'] == metrics['alone'] and 0 < metrics['alone'] < 1
  assert metrics['gain'] == metrics['harmed'] == metrics['rescued'] == 0


def test_who_checks_and_suggests_reaches_all():
  metrics = values(collect(teach, slack=0))
  assert metrics['reached'] == 1 and metrics['alone'] < 1
  assert metrics['gain'] == metrics['rescued'] == 1 - metrics['alone']
  # Each turn brings the goal nearer.
  problems = screens.problems('test', NUM, seed=1)
  distances = [
    screens.distance(screens.start(p), screens.read_goal(p)) for p in problems
  ]
  assert metrics['length'] == pytest.approx(sum(distances) / NUM)


def test_verdicts_alone_cost_a_turn_each_and_help_less():
  records = collect(teach, follow_hints=False, slack=2)
  metrics = values(records)
  assert metrics['alone'] < metrics['reached'] < 1
  # No form is saved as it should not be.
  ends = [r for r in records if r.parsed.get('episode', {}).get('left') == 0]
  for end in ends:
    saved = end.text == 'Saved.'
    assert saved == end.parsed['episode']['is_reached']


def test_who_refuses_all_and_misguides_reaches_nothing():
  metrics = values(collect(misguide))
  assert metrics['reached'] == 0 and metrics['harmed'] == metrics['alone'] > 0


def test_actions_and_critiques_grow_from_one_another(tmp_path):
  records = collect(teach, num_critiques=2)
  assert len({r.id for r in records}) == len(records)
  for record in records:
    chain = [*record.chain][::-1]
    stages = [r.stage for r in chain]
    numbered = ['solve', 'critique', 'solve_2', 'critique_2', 'solve_3']
    assert stages[:5] == numbered[: len(stages)]
    turns = [r.parsed['episode']['turn'] for r in chain[::2]]
    assert turns == [*range(1, len(turns) + 1)]
  ends = [r for r in records if r.parsed.get('episode', {}).get('left') == 0]
  assert len(ends) == 2 * NUM
  assert not {id(r.parent) for r in records if r.parent} & {*map(id, ends)}
  # Verdicts are measured on first actions: each has as many critiques.
  shown = protocols.metrics(records, refined=False)
  assert shown['episodes that reach their goal'].n == 2 * NUM
  assert shown['balanced verdict accuracy'].n == 2 * NUM
  # Files have what metrics read.
  path = tmp_path / 'records.jsonl.gz'
  run_dir.write_records(path, records)
  again = run_dir.read_records(path)
  assert episode_metrics.metrics(again) == episode_metrics.metrics(records)


def end(id, *, is_reached, alone, turn, left=0):
  problem = Problem(id, '', '')
  episode = dict(is_reached=is_reached, alone=alone, turn=turn, left=left)
  return make_record('solve_3', problem=problem, parsed={'episode': episode})


def test_metrics_by_hand():
  records = [
    end('a', is_reached=True, alone=False, turn=5),
    end('a', is_reached=True, alone=False, turn=5),
    end('b', is_reached=False, alone=True, turn=7),
    end('c', is_reached=True, alone=True, turn=6),
    end('c', is_reached=False, alone=True, turn=3, left=2),  # goes on
    make_record('critique', make_record()),
  ]
  assert values(records) == dict(
    reached=3 / 4, alone=2 / 4, gain=1 / 4, rescued=2 / 4, harmed=1 / 4,
    length=(4 + 4 + 6 + 5) / 4,
  )  # fmt: skip
  worse = [end(x, is_reached=False, alone=True, turn=7) for x in 'abc']
  changes = episode_metrics.compare(records, worse)
  assert changes['reached'].value == -3 / 4
  assert changes['alone'].value == 1 / 2


def test_other_records_have_no_episodes():
  records = [make_record(), make_record('critique', make_record())]
  assert episode_metrics.metrics(records) == {}
  assert episode_metrics.compare(records, records) == {}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_critiques=0), 'episodes: got some with num_critiques=0'),
    (
      dict(num_refinements=1),
      'episodes: got some .*num_refinements=1; expected',
    ),
    (dict(episodes=dict(module='screens')), "expected 'name'"),
    (
      dict(episodes=dict(module='screen_agents', name='advance')),
      "got 'screen_agents'; expected one of .*did you mean 'screens_agent'",
    ),
    (
      dict(episodes=dict(module='screens', name='start')),
      r'episodes: got start\(problem\); expected a function of \(critique\)',
    ),
  ],
)
def test_wrong_settings_of_episodes(changes, message):
  section = ConfigDict(gui_critic.episodes(()) | changes)
  config = ConfigDict(dict(order=()))
  with pytest.raises(ValueError, match=message):
    eval_sections.bind(section, config, {'critic': nano()})
