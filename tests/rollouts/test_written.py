import random

import jax
from helpers import make_record
from loop_helpers import PROBLEM, scripted

from critic_jax.rollouts import written
from critic_jax.types import Stage

STAGE = Stage('critique', lambda parent: 'Check it.', lambda text: {})


def drawn(parent, rng):
  return f'{parent.id} {rng.randrange(1000)}'


def test_a_rule_writes_in_the_order_of_the_records():
  parents = [make_record('solve', index=i) for i in range(2)]
  records = written.by_rule(STAGE, parents, drawn, random.Random(0), n=2)
  rng = random.Random(0)
  assert [r.text for r in records] == [
    drawn(parents[i], rng) for i in (0, 0, 1, 1)
  ]
  assert [(r.parent.index, r.index) for r in records] == [
    (0, 0), (0, 1), (1, 0), (1, 1)
  ]  # fmt: skip
  assert not any(len(r.tokens) for r in records)


def test_a_key_decides_what_a_rule_draws():
  def texts(seed):
    records = written.or_sampled(
      STAGE, None, [PROBLEM], drawn, jax.random.key(seed), n=8
    )
    return [record.text for record in records]

  assert texts(0) == texts(0) != texts(1)


def test_a_model_is_asked_where_there_is_no_rule():
  lm = scripted(lambda prompt, index: f'{prompt} {index}')
  parents = [make_record('solve'), make_record('solve', finish='prompt')]
  records = written.or_sampled(
    STAGE, lm.bind(None), parents, None, jax.random.key(0), n=2
  )
  # Nothing is sampled for a parent that was refused, but there is a record.
  assert [r.text for r in records] == ['Check it. 0', 'Check it. 1', '', '']
  assert [r.refused for r in records] == [False, False, True, True]
  assert lm.prompts == ['Check it.']


def test_a_rule_has_nothing_to_say_of_what_was_refused():
  parents = [make_record('solve'), make_record('solve', finish='prompt')]
  records = written.or_sampled(
    STAGE, None, parents, drawn, jax.random.key(0), n=2
  )
  assert [r.parent for r in records] == [parents[0]] * 2
