"""Groups of solutions that another response joins, as if drawn with them."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from critic_jax import lookup
from critic_jax.rollouts import rollout, stage_metrics
from critic_jax.types import Problem, Record, Stage

Groups = list[list[Record]]
REFERENCE = 'reference'


def split(
  solutions: Sequence[Record],
  refinements: Sequence[Record],
  references: Sequence[Record],
  *,
  num_own: int,
  num_solved: int,
) -> tuple[Groups, Groups]:
  """Returns the groups that are trained, and the candidates of each.

  Args:
    solutions: `num_solved` of each problem.
    refinements: of critiques of the solutions, in any order.
    references: one of each problem, or none at all.
    num_own: the first solutions of a problem, which are its group; the others
      are candidates.
    num_solved: all solutions of a problem.

  Returns:
    Groups of `num_own` solutions. Candidates: the refinements of the group's
    first solution, of the second, ...; other solutions; the reference.
  """
  refined = collections.defaultdict(list)
  for record in refinements:
    refined[id(record.parent.parent)].append(record)
  groups, candidates = [], []
  for number in range(len(solutions) // num_solved):
    solved = solutions[number * num_solved : (number + 1) * num_solved]
    own, others = solved[:num_own], solved[num_own:]
    groups.append(list(own))
    its = itertools.chain(*(refined[id(solution)] for solution in own))
    candidates.append([*its, *others, *references[number : number + 1]])
  return groups, candidates


def best(candidates: Sequence[Record]) -> Record | None:
  """Returns the first candidate with the highest reward; None without any.

  One without a reward, as its grader timed out, or without tokens is none.
  """
  scored = [r for r in candidates if 'reward' in r.scores and len(r.tokens)]
  return max(scored, key=lambda r: r.scores['reward'], default=None)


def join(group: Sequence[Record], joined: Record | None) -> list[Record]:
  """Returns a group's records and one more, all responses to one prompt.

  The one that joins keeps its tokens, and the log-probabilities that they had
  under the prompt that they were sampled from. Its own prompt, with what led to
  it, is left out.

  Args:
    group: the solutions of a problem.
    joined: what joins them; None: a record that nothing is learned from.
  """
  if joined is None:
    return [*group, dataclasses.replace(group[0], scores={})]
  prompt_tokens = group[0].prompt_tokens
  return [*group, dataclasses.replace(joined, prompt_tokens=prompt_tokens)]


def reference(solve: Stage, problem: Problem) -> Record:
  """Returns the problem's own solution as a response of a stage, ungraded.

  Args:
    solve: the stage of solutions; the record's is `REFERENCE`, in its form.
    problem: its solution is the response.

  Raises:
    ValueError: it has none.
  """
  if not problem.solution:
    raise ValueError(
      f'problem {problem.id}: got no solution; expected one to join its '
      'group; take problems with solutions, or set use_reference=False'
    )
  stage = solve._replace(name=REFERENCE)
  return rollout.write(stage, problem, problem.solution)


def tell(
  records: Sequence[Record],
  groups: Groups,
  candidates: Groups,
  joined: Sequence[Record | None],
) -> list[Record]:
  """Returns the records with scores that say what became of each.

  Solutions of a group have 'all_wrong', whether none of them is right, and if
  so 'rescued', whether what joined is. Candidates have 'joined'.

  Args:
    records: all records of a step, parents before the responses to them.
    groups: the solutions of each problem, scored.
    candidates: those of each problem, scored.
    joined: the one that joined, of each problem.
  """
  told = {}
  for group, its, record in zip(groups, candidates, joined, strict=True):
    rewards = [r.scores['reward'] for r in group if 'reward' in r.scores]
    note = {'all_wrong': float(not any(rewards))} if rewards else {}
    if rewards and not any(rewards):
      note['rescued'] = float(record is not None and record.scores['reward'])
    told |= {id(solution): note for solution in group}
    told |= {id(other): {'joined': float(other is record)} for other in its}
  return noted(records, told)


def noted(
  records: Sequence[Record], notes: Mapping[int, Mapping[str, float]]
) -> list[Record]:
  """Returns records with more scores; parents are replaced with them.

  Args:
    records: parents before the responses to them.
    notes: scores by name, by the id of their record.
  """
  successor = {id(None): None}
  for record in records:
    scores = {**record.scores, **notes.get(id(record), {})}
    parent = successor[id(record.parent)]
    new = dataclasses.replace(record, scores=scores, parent=parent)
    successor[id(record)] = new
  return [successor[id(record)] for record in records]


def metric_names() -> list[str]:
  """Lists the metrics of a step's records, with what `tell` says of them.

  Solutions, refinements and references have the reward 'correct'.
  """
  names, scores = stage_metrics.names, ('correct', 'joined')
  of_groups = [*scores, 'all_wrong', 'rescued']
  return [
    *names('solve', rewards=of_groups, is_graded=True),
    *names('critique', has_verdict=True),
    *names('refine', rewards=scores, is_graded=True),
    *names(REFERENCE, rewards=scores, is_graded=True),
  ]


def check_candidates(
  num_refinements: int, num_extra: int, use_reference: bool
) -> None:
  """Raises ValueError if there is never a candidate, or a number is no count.

  Args:
    num_refinements: of each critique, all of them candidates.
    num_extra: solutions of each problem that are candidates.
    use_reference: whether the problem's own solution is one.
  """
  lookup.check_counts(0, num_refinements=num_refinements, num_extra=num_extra)
  if not (num_refinements or num_extra or use_reference):
    raise ValueError(
      'num_refinements, num_extra, use_reference: got none, by which nobody '
      'joins a group; expected a candidate; raise one, or take the recipe grpo'
    )
