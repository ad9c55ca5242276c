"""Annotation: a solver imitates those of its own answers that critics let pass.

SciGLM's critic-and-revise annotation, https://arxiv.org/abs/2401.07950, and the
generator and mixture of critics of https://arxiv.org/abs/2312.10007:

1. The solver solves each problem `num_solutions` times.
2. Reflection: of problems that nothing solves, a critic criticises the newest
   answers and the solver refines them, `num_reflections` times.
3. What is not solved yet is refined once more, with what a teller writes, such
   as the true answer.
4. Experts, rules or the critic, score the answers: right ones, if it is
   checked. `mixture` makes one score of several, and an answer needs at least
   that of its attempt in `min_scores`: later attempts may be filtered more.
5. Loss: minus the log-probability of the best answers to each problem, as
   responses to the bare problem.

SciGLM's filter is a classifier, and the personas' generator is not trained but
shown what was kept. `critic_jax/rollouts/annotating.py` has the choices.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import jax

from critic_jax import lookup
from critic_jax.data import batching
from critic_jax.loss_fns import imitation
from critic_jax.rollouts import annotating, attempts, solving
from critic_jax.sampling.lm import get_models
from critic_jax.types import Recipe


def make(
  models,
  grade,
  *,
  num_solutions: int, num_reflections: int, teller: Mapping,
  critic: str, num_reviews: int, experts: Mapping, mixture: str,
  is_checked: bool, min_scores: Sequence[float], num_kept: int,
  first_error: Mapping,
  batch_size: int, aggregate: str, row_shapes: Sequence, microbatches: int,
) -> Recipe:  # fmt: skip
  """Makes the recipe; settings that most recipes have are in `__init__.py`.

  Args:
    models: LMs of 'solver', and of `critic` if it is asked.
    grade: final answers to grades.
    num_solutions: solutions of each problem.
    num_reflections: rounds of critiques and refinements; 0 for none.
    teller: who helps in the last round, a function of critic_jax.tasks,
      `(solution, rng) -> text`; `module=''` for nobody.
    critic: the role that criticises and reviews; 'solver': its own answers.
    num_reviews: the critic's reviews of each answer that needs a score; 0 for
      none. The share that calls it right is a score.
    experts: functions of critic_jax.tasks, `(problem, text, rng) -> score` in
      [0, 1], by the names of their scores.
    mixture: 'minimum', or 'mean', of the scores.
    is_checked: whether only right answers are kept.
    min_scores: the least score of a solution, and of each round's refinements.
    num_kept: answers to each problem that are kept, at most.
    first_error: who knows the first wrong step, as of `refcritic`: only how
      often none is there is measured. `module=''` for nobody.
  """
  [solver] = get_models(models, 'solver')
  lookup.check_counts(num_solutions=num_solutions, num_kept=num_kept)
  rounds = attempts.bind(
    models, grade, batch_size=batch_size, num_solutions=num_solutions,
    num_reflections=num_reflections, teller=teller, critic=critic,
    num_reviews=num_reviews, num_reviewed=sum(map(bool, min_scores)),
    experts=experts,
  )  # fmt: skip
  assess = annotating.bind_assessment(experts, mixture, first_error)
  annotating.check(
    min_scores, num_rounds=rounds.number, is_checked=is_checked,
    experts=tuple(experts), num_reviews=num_reviews,
  )  # fmt: skip
  solve = solving.bind(solver, num_solutions, grade=grade)
  num_rows = batch_size * num_kept
  to_rows, pack = batching.make_rows(
    solver, num_rows=num_rows, aggregate=aggregate, row_shapes=row_shapes,
    microbatches=microbatches,
  )  # fmt: skip

  def collect(roles, problems, key):
    keys = jax.random.split(key, 2 * rounds.number + 3)

    # 1. Solve. 2. Reflect. 3. Tell.
    tried = [solve(roles, problems, keys[0])]
    records = [*tried[0]]
    for number in range(1, 1 + rounds.number):
      wrong = annotating.unsolved(tried, num_solutions)
      its_keys = keys[2 * number - 1 : 2 * number + 1]
      critiques, answers = rounds.attempt(number, wrong, roles, its_keys)
      tried.append(answers)
      records += critiques + answers

    # 4. Score, and keep.
    strict = itertools.compress(tried, min_scores)
    strict = annotating.candidates(strict, is_checked)
    reviews = rounds.review(strict, roles, keys[-2])
    notes = assess(
      annotating.candidates(tried, is_checked), reviews,
      random.Random(int(jax.random.bits(keys[-1]))),
    )  # fmt: skip
    groups = annotating.groups(tried, num_solutions)
    kept = [annotating.keep(x, notes, min_scores, num_kept) for x in groups]

    # 5. Learn them as answers to the bare problem.
    ask = solver.stages.solve.prompt
    rows = [
      batching.encode(answer, ask(answer.problem), solver)
      for answer in sum(kept, [])
    ]
    records = annotating.tell(records + reviews, groups, notes, kept)
    return pack(to_rows(rows)), records

  return Recipe(
    collect, imitation.make_imitation_loss(models, 'solver'),
    trained=('solver',), num_rows=num_rows, sampled=rounds.sampled,
    metrics=frozenset([*imitation.METRICS, *rounds.metrics]),
  )  # fmt: skip
