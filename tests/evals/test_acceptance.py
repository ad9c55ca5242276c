"""The gate of CriticLean: formalise, check, criticise, try again."""

import math
import random
import re

import jax
import pytest
from helpers import make_record
from loop_helpers import scripted

from configs import critic_lean
from critic_jax import lookup
from critic_jax.data import sources
from critic_jax.evals import acceptance, critic_loop, protocols
from critic_jax.tasks import formal_critiques, formal_drafts, formal_statements
from critic_jax.types import Problem
from critic_jax.workdir import run_dir

NUM = 24
TOKENIZER = critic_lean.role()['tokenizer'] | dict(num_problems=50)
PROBLEMS = {
  p.question: p for p in formal_statements.problems('test', NUM, seed=1)
}


def read_prompt(prompt):
  """Makes the judged statement of a prompt in the plain style."""
  question, text = re.fullmatch(
    r'Problem: (.*)\nSolution:\n(.*)\nCritique:', prompt, re.S
  ).groups()
  check = formal_drafts.make_checker()
  return formal_drafts.judged(PROBLEMS[question], text, check(text))


def approve(prompt, index):
  return 'Verdict: correct'


def teach(prompt, index):
  rng = random.Random(index)
  return formal_critiques.critique(read_prompt(prompt), rng, check_share=1.0)


def refuse(prompt, index):
  return 'Verdict: incorrect'


def collect(script, **settings):
  critic = scripted(
    script, tokenizer=TOKENIZER, lengths=(128,), max_new_tokens=96
  )
  trials = sources.statement_trials(num_test=NUM, seed=1, **settings)['test']
  advance = lookup.bind_task(
    critic_lean.trials(())['episodes'], 'episodes', ('critique',)
  )
  return critic_loop.collect(
    {'critic': critic},
    {'critic': None},
    trials,
    jax.random.key(0),
    num_solutions=1,
    num_critiques=1,
    num_refinements=0,
    refine='always',
    controls=False,
    grade=lambda pairs: [1 / 0 for _ in pairs],  # all are labelled
    advance=advance,
  )


def values(records):
  shown = protocols.metrics(records, refined=False)
  names = ('trials/', 'episodes/')
  titled = {
    'single': 'faithful first drafts',
    'precision': 'faithful of those that the critic accepts, too',
    'precision_alone': 'faithful of those that the checker accepts',
    'reached': 'episodes that reach their goal',
    'alone': 'the same, without the critic',
  }
  plain = {k.partition('/')[2]: e for k, e in shown.items() if k[:7] in names}
  plain |= {k.partition('/')[2]: e for k, e in shown.items() if '/' in k}
  plain |= {name: shown[title] for name, title in titled.items()}
  return {name: estimate.value for name, estimate in plain.items()}


def test_who_approves_of_all_is_the_checker_alone():
  got = values(collect(approve, refused_share=0.7))
  assert got['reached'] == got['alone'] == got['precision']
  assert got['accepted'] == got['accepted_alone'] == 1
  assert 0 < got['single'] < got['alone'] < 1


def test_who_compares_accepts_what_is_faithful():
  got = values(collect(teach, max_tries=20))
  assert got['reached'] == got['accepted'] == got['precision'] == 1
  assert got['alone'] < 1


def test_few_tries_are_not_enough_for_all():
  got = values(collect(teach, max_tries=1))
  # One draft: it is accepted if it is faithful, and no other is made.
  assert got['reached'] == got['accepted'] == got['single'] == got['alone']
  assert got['precision'] == 1 and got['length'] == 1
  # The checker refuses some, after which there is none.
  assert got['single'] < got['accepted_alone'] < 1


def test_who_refuses_all_has_no_result():
  got = values(collect(refuse, max_tries=3))
  assert got['accepted'] == got['reached'] == 0
  assert math.isnan(got['precision']) and got['precision_alone'] > 0


def test_trials_grow_and_are_read_back(tmp_path):
  records = collect(teach, max_tries=6, error_share=0.9)
  assert len({r.id for r in records}) == len(records)
  ends = [r for r in records if r.parsed.get('episode', {}).get('left') == 0]
  assert len(ends) == NUM == len({r.problem.id for r in ends})
  path = tmp_path / 'records.jsonl.gz'
  run_dir.write_records(path, records)
  again = run_dir.read_records(path)
  assert str(acceptance.metrics(again)) == str(acceptance.metrics(records))


def test_a_checker_that_is_not_there_is_one_error_at_the_start(monkeypatch):
  monkeypatch.setenv('PATH', '/nowhere')
  config = critic_lean.get_config('lean')
  for section in (config, *config.evals.values()):
    read = lookup.bind(sources, section.data)
    with pytest.raises(ValueError, match="checker: got 'lake env lean', which"):
      read()


def end(id, single, alone, accepted, reached, *, alone_accepted=True, left=0):
  episode = dict(
    single=single, alone=alone, alone_accepted=alone_accepted,
    accepted=accepted, is_reached=reached, left=left, turn=3,
  )  # fmt: skip
  problem = Problem(id, '', '')
  return make_record('solve_3', problem=problem, parsed={'episode': episode})


def test_metrics_by_hand():
  records = [
    end('a', True, True, True, True),
    end('b', False, False, True, True),
    end('c', False, True, True, False),
    end('d', False, False, False, False, alone_accepted=False),
    end('d', False, False, False, False, left=2),  # goes on
    make_record('critique', make_record()),
  ]
  got = {k: e.value for k, e in acceptance.metrics(records).items()}
  assert got == pytest.approx(
    dict(
      single=1 / 4,
      accepted=3 / 4,
      accepted_alone=3 / 4,
      precision=2 / 3,
      precision_alone=2 / 3,
    )  # fmt: skip
  )
  worse = [end(x, False, True, True, False) for x in 'abcd']
  changes = acceptance.compare(records, worse)
  assert changes['precision'].value == pytest.approx(-2 / 3)
  assert acceptance.metrics([make_record()]) == {}
