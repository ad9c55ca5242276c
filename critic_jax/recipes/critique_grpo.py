"""Critique-GRPO: a solver learns from refinements as from its own answers.

Critique-GRPO is https://arxiv.org/abs/2506.03106.

1. The solver solves each problem `num_solutions` times.
2. A critic, or a rule, writes a critique of each solution, and the solver
   refines the solutions whose critiques `gate` admits.
3. The first candidate with the highest reward joins the problem's solutions as
   one more response to the question alone; no other refinement is trained.
4. Reward: the final answer is right. Advantages relative to all of the group.
5. Policy gradient, and `off_policy` for the tokens of the one that joined: the
   solver wrote them in the light of a critique that is not in the prompt now.

Other candidates tell what the critique is worth: `num_extra` more solutions,
and the reference solution (LUFFY, https://arxiv.org/abs/2504.14945).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from critic_jax import lookup
from critic_jax.data import batching, group_rows
from critic_jax.loss_fns import policy_gradient
from critic_jax.rewards import refinement
from critic_jax.rollouts import joining, rollout, solving, written
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe, Sampled


def make(
  models,
  grade,
  *,
  num_solutions: int, num_refinements: int, num_extra: int, use_reference: bool,
  critic: str, writer: Mapping, gate: str,
  advantage: Mapping, objective: Mapping, off_policy: Mapping, kl: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver', of `critic` if it writes the critiques, and of
      'ref' if the KL has a coefficient.
    grade: final answers to grades.
    num_solutions: solutions of each problem that are trained.
    num_refinements: candidates from each admitted critique; 0 for none.
    num_extra: more solutions of each problem, which are candidates only.
    use_reference: whether the problem's own solution is the last candidate.
    critic: the role that criticises; 'solver': its own solutions.
    writer: in its place a `module` of critic_jax.tasks with a name and keywords
      of its function `(solution, rng) -> text`, or `module=''` for the role.
    gate: which critiques are followed; see `refinement.admits`.
    off_policy: a surrogate, as `objective`, for the tokens of what joined.
  """
  [solver] = get_models(models, 'solver')
  refinement.check_gate(gate)
  lookup.check_counts(num_solutions=num_solutions)
  joining.check_candidates(num_refinements, num_extra, use_reference)
  write_critique = lookup.bind_task(writer, 'writer', ('solution', 'rng'))
  is_asked = bool(num_refinements) and not write_critique
  [teacher] = get_models(models, critic) if is_asked else [None]
  policy = policy_gradient.make_policy_loss(
    models, 'solver', objective=objective, kl=kl, microbatches=microbatches,
    off_policy=off_policy,
  )  # fmt: skip
  num_solved, size = num_solutions + num_extra, num_solutions + 1
  num_critiqued, num_rows = batch_size * num_solutions, batch_size * size
  solve = solving.bind(solver, num_solved, grade=grade)
  to_rows, pack = batching.make_rows(
    solver, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip
  to_group_rows = group_rows.make_group_rows(to_rows, advantage, size)

  def criticise(solutions, roles, key):
    stage, generate = solver.stages.critique, None
    if teacher:
      stage, generate = teacher.stages.critique, teacher.bind(roles[critic])
    else:  # a rule must know whether a solution is right
      solutions = [s for s in solutions if not s.undetermined]
    return written.or_sampled(stage, generate, solutions, write_critique, key)

  def refine(critiques, roles, key):
    admitted = [c for c in critiques if refinement.admits(gate, c)]
    stage, n = solver.stages.refine, num_refinements
    request = rollout.Request(stage, admitted, key, n, num_critiqued)
    generate = solver.bind(roles['solver'])
    return _score(rollout.run_graded_together([request], generate, grade)[0])

  def write_references(problems):
    stage = solver.stages.solve
    records = [joining.reference(stage, problem) for problem in problems]
    records = [
      batching.encode(r, stage.prompt(r.problem), solver) for r in records
    ]
    return _score(rollout.grade(records, grade))

  def collect(roles, problems, key):
    keys = jax.random.split(key, 3)

    # 1. Solve.
    solutions = _score(solve(roles, problems, keys[0]))
    own = [r for r in solutions if r.index < num_solutions]

    # 2. Criticise, and refine.
    critiques, refinements = [], []
    if num_refinements:
      critiques = criticise(own, roles, keys[1])
      refinements = refine(critiques, roles, keys[2])
    references = write_references(problems) if use_reference else []

    # 3. One candidate joins each group.
    groups, candidates = joining.split(
      solutions, refinements, references, num_own=num_solutions,
      num_solved=num_solved,
    )  # fmt: skip
    joined = [joining.best(its) for its in candidates]
    rows = sum(map(joining.join, groups, joined), [])

    # 4. Advantages in each group; the batch.
    batch = to_group_rows(rows)
    has_joined = np.arange(num_rows) % size == num_solutions
    batch['off_policy'] = batch['mask'] & has_joined[:, None]
    batch = policy.add_ref_logprobs(pack(batch), roles)
    records = [*solutions, *critiques, *refinements, *references]
    return batch, joining.tell(records, groups, candidates, joined)

  stages = [
    Sampled('solve', 'solver', batch_size, num_solved),
    Sampled('critique', critic, num_critiqued, int(is_asked)),
    Sampled('refine', 'solver', num_critiqued, num_refinements),
  ]
  return Recipe(
    collect, policy.loss, trained=('solver',), num_rows=num_rows,
    sampled=tuple(stage for stage in stages if stage.num_samples),
    scored=policy.scored,
    metrics=frozenset([*policy.metrics, *joining.metric_names()]),
    corrects_staleness=policy.corrects_staleness,
  )  # fmt: skip


def _score(records):
  """Rewards the records with right answers."""
  return rollout.score(
    records, [], {'correct': refinement.correct}, {'correct': 1.0}
  )
