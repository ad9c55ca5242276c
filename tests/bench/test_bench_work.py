"""Least flops and bytes of works against counts by hand."""

from hand_counts import HEAD, KEYS, KV, LAYERS, MODEL, PARAMS

from critic_jax.bench import work as work_lib
from critic_jax.bench.work import Need, Stage, Work


def test_decode():
  work = Work('x', rows=3, prompt=5, stages=(Stage('solver', 1, new=4),))
  prefill, decode = work_lib.needs(work, MODEL, 'float32')
  # Each row: 5 tokens that look at 1 + .. + 5 keys, then logits of the last.
  assert prefill == Need(
    '0.prefill', 3 * (2 * LAYERS * 5 + KEYS * 15 + 2 * HEAD), 4 * PARAMS
  )
  # Three steps: the fourth token is sampled and not fed. 6 + 7 + 8 looks.
  assert decode == Need(
    '0.decode',
    3 * (2 * LAYERS * 3 + KEYS * 21 + 3 * 2 * HEAD),
    3 * 4 * PARAMS + 3 * 21 * KV,
  )
  assert work.kind == 'sample' and work.tokens == 12


def test_bfloat16_moves_half():
  work = Work('x', rows=3, prompt=5, stages=(Stage('solver', 1, new=4),))
  full = work_lib.needs(work, MODEL, 'float32')
  half = work_lib.needs(work, MODEL, 'bfloat16')
  assert [need.flops for need in half] == [need.flops for need in full]
  assert [2 * need.bytes for need in half] == [need.bytes for need in full]


def test_a_group_has_one_prompt():
  work = Work('x', rows=1, prompt=5, stages=(Stage('solver', 7, new=2),))
  prefill, decode = work_lib.needs(work, MODEL, 'float32')
  assert prefill.flops == 2 * LAYERS * 5 + KEYS * 15 + 2 * HEAD
  assert decode.flops == 7 * (2 * LAYERS + KEYS * 6 + 2 * HEAD)
  # One step: the prompt's keys and values are read once, each row's own too.
  assert decode.bytes == 4 * PARAMS + (5 + 7) * KV


TREE = Work(
  'tree',
  rows=2,
  prompt=5,
  stages=(
    Stage('solver', 3, new=4),  # 6 solutions
    Stage('critic', 2, new=4, carry=4, template=1),  # 12 critiques
    Stage('solver', 2, new=3, carry=2),  # 24 refinements
  ),
)


def test_a_tree_computes_no_prefix_twice():
  needs = {n.phase: n for n in work_lib.needs(TREE, MODEL, 'float32')}

  def flops(rows, tokens, start):
    looks = sum(start + i for i in range(1, tokens + 1))
    return rows * (2 * LAYERS * tokens + KEYS * looks)

  assert needs['0.prefill'].flops == flops(2, 5, 0) + 2 * 2 * HEAD
  assert needs['0.decode'].flops == flops(6, 3, 5) + 6 * 3 * 2 * HEAD
  # The critic has seen nothing: 2 problems, 6 solutions of 4, 6 templates.
  assert needs['1.prefill'].flops == (
    flops(2, 5, 0) + flops(6, 4, 5) + flops(6, 1, 9) + 6 * 2 * HEAD
  )
  # The solver has the problem and 3 of the solution's 4 tokens: the last one,
  # the template, and 2 tokens of each critique are new to it.
  assert needs['2.prefill'].flops == (
    flops(6, 1, 8) + flops(6, 1, 9) + flops(12, 2, 10) + 12 * 2 * HEAD
  )
  assert needs['2.decode'].flops == flops(24, 2, 12) + 24 * 2 * 2 * HEAD
  # Two steps: 2 problems, 6 solutions with template, 12 ends, and their own.
  cached = 2 * 5 + 6 * 5 + 12 * 2
  assert needs['2.decode'].bytes == 2 * 4 * PARAMS + KV * (
    (cached + 24) + (cached + 48)
  )
  assert TREE.stage_rows == [6, 12, 24]
  assert TREE.tokens == 6 * 4 + 12 * 4 + 24 * 3


def test_update():
  work = Work('x', rows=3, prompt=5)
  (need,) = work_lib.needs(work, MODEL, 'bfloat16')
  forward = 2 * LAYERS * 5 + KEYS * 15 + 4 * 2 * HEAD
  assert need == Need('update', 3 * 3 * forward, 40 * PARAMS)
  assert work.kind == 'update' and work.tokens == 15


def test_least_seconds_takes_the_slower_limit_of_each_phase():
  needs = [Need('a', flops=10, bytes=1), Need('b', flops=1, bytes=12)]
  assert work_lib.least_seconds(needs, 5.0, 4.0) == 2.0 + 3.0


def test_resized():
  work = work_lib.resized(TREE, rows=1, prompt=9, new=2)
  assert (work.rows, work.prompt) == (1, 9)
  assert [(s.new, s.carry) for s in work.stages] == [(2, 0), (2, 2), (2, 2)]
  prefill = work_lib.resized(work_lib.WORKS['prefill'], new=8)
  assert prefill.kind == 'prefill' and prefill.tokens == 8 * 512


def test_the_critic_step_is_the_one_of_the_goals():
  work = work_lib.WORKS['critic_step']
  assert work.stage_rows == [8, 32, 128]
  assert {stage.role for stage in work.stages} == {'solver', 'critic'}
