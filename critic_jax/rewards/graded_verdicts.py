"""Rewards of critiques beside the verdict: near misses, reviews, form, hints.

`distance` pays for the first wrong step by how near it is named, as FAPO does
for its reward model (https://arxiv.org/abs/2510.22543). `reviewed` pays for a
verdict only as far as what the critique says of the solution is so, as
DeepSeekMath-V2 does for its verifier (https://arxiv.org/abs/2511.22570). `form`
and `reference` are, beside `judge`, the rewards of GUI-Critic-R1's S-GRPO for a
critique of an action (https://arxiv.org/abs/2506.04614), and `works` is what
RefCritic would pay in the place of `reference`. `judged_in_form` is what
CriticLean pays, a verdict in its form alone (https://arxiv.org/abs/2507.06181).
Each is `(critique, refinements) -> float`; a config names it with a weight in
the setting `graded`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from critic_jax.rewards import (
  refinement,
  step_labels,
  suggestions,
  verdicts,
)
from critic_jax.types import THINKING, Record


def distance(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns FAPO's reward of a verdict and of the step that it names.

  1 for a right verdict and -1 for a false or missing one; and where a wrong
  solution is called wrong, less |named - labelled| / steps. The truth is the
  step's label and not the answer's grade: a right answer after a wrong step is
  wrong (a flawed positive). Steps as far off as the solution is long, and no
  step at all, cost 1: so a near miss is worth more than a guess, and a right
  'incorrect' is never worth less than a false verdict.

  The paper has no word for a critique that names no step, nor a bound; both are
  ours. Without the distance it is `judge` and `misjudge`, with the weight 1.

  Raises:
    ValueError: nobody labelled the solution.
  """
  solution = critique.parent
  if solution.refused:
    return None
  label = step_labels.first_error(solution)
  if label is None:
    return None
  called_wrong = critique.parsed.get('verdict') == 'incorrect'
  if not refinement.has_verdict(critique) or called_wrong != (label >= 0):
    return -1.0
  if not called_wrong:
    return 1.0
  named = critique.parsed.get('step')
  if named is None or named < 0:
    return 0.0
  return 1.0 - min(abs(named - label) / num_steps(solution), 1.0)


def num_steps(solution: Record) -> int:
  """Returns the steps of a solution: given ones, or lines that are not blank.

  It is 1 at least; the label after the last step is as far off as that.
  """
  given = solution.parsed.get('num_steps')
  lines = [line for line in solution.text.split('\n') if line.strip()]
  return max(1, len(lines) if given is None else given)


def reviewed(
  critique: Record,
  refinements: Sequence[Record],
  *,
  reviewer: Callable[[Record], float] | None,
  flawed_score: float = 0.5,
) -> float | None:
  """Returns DeepSeekMath-V2's reward: form * (1 - |s' - s|) * review.

  The form is 1 with one verdict in a critique that was not cut off, else 0. The
  score s of a solution is 1 if it is right, 0 if its answer is wrong, and
  `flawed_score` if its answer is right although a step is labelled wrong; s' is
  what the critique says, in the same scale: 'incorrect' is 0, 'correct' is 1,
  and 'correct' after `Step k is wrong` is `flawed_score`. The review is in
  [0, 1]: whether what it says of the steps is so. Without it, a critic is paid
  in full for a right verdict on errors that it made up.

  With a review of 1, and without labels of steps, it is `judge`. The paper's
  scores are 0, 0.5 and 1, people's; its review is a model's.

  Args:
    critique: a critique of a graded solution.
    refinements: not read.
    reviewer: critique -> its review.
    flawed_score: the score between right and wrong.

  Raises:
    ValueError: `flawed_score` or a review is not in [0, 1], or nobody reviews.
  """
  if reviewer is None:
    raise ValueError(
      'reviewer: got none; expected who reviews critiques; set its module and '
      'its name'
    )
  _check_share('flawed_score', flawed_score)
  right = refinement.is_right(critique.parent, critique=critique)
  if right is None:
    return None
  if not refinement.has_verdict(critique):
    return 0.0
  truth = said = 0.0
  if right:
    label = critique.parent.parsed.get('first_error')
    truth = 1.0 if label in (None, -1) else flawed_score
  if critique.parsed['verdict'] == 'correct':
    said = flawed_score if verdicts.wrong_steps(critique.text) else 1.0
  review = reviewer(critique)
  _check_share(f'the review of {critique.id}', review)
  return (1.0 - abs(said - truth)) * review


def form(critique: Record, refinements: Sequence[Record]) -> float:
  """Returns 1.0 for one verdict and one hint in a whole critique, else 0.0.

  The hint may be 'none', and need not agree with the verdict.
  """
  has_hint = suggestions.hint(critique.text) is not None
  return float(refinement.has_verdict(critique) and has_hint)


def reference(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns 1.0 if the suggested action is the reference, else 0.0.

  S-GRPO's reward of a suggestion. A right action needs none: its critiques get
  1.0 whatever they suggest, as the paper's released statistics count them. The
  verdict need not be true, since `judge` pays for that, but it must be there.
  The paper asks a model whether two actions mean the same; here they are equal.

  Raises:
    ValueError: nobody labelled the wrong action.
  """
  return _suggests(critique, lambda known: [known.reference])


def works(critique: Record, refinements: Sequence[Record]) -> float | None:
  """Returns 1.0 if the suggested action brings the goal nearer, else 0.0.

  It is `reference` where that is the only action that does. The world executed
  every action of the screen when it labelled the judged one
  (`suggestions.Suggestions`).

  Raises:
    ValueError: nobody labelled the wrong action.
  """
  return _suggests(critique, lambda known: known.working)


def judged_in_form(
  critique: Record, refinements: Sequence[Record]
) -> float | None:
  """Returns CriticLean's reward, min(r_acc, r_fmt): in {0, 1}.

  r_acc is `judge`: 1 if the verdict is that of the label; r_fmt is 1 if the
  critique is in form (`in_form`). It is their product, and `judge` where all
  critiques are in form. Their sum would pay a false verdict for its form: a
  critic who guesses would earn 1.5 of 2.

  The formula is as others display it. Which form the paper asks for is unknown
  to us; `in_form` is ours.
  """
  right = refinement.judge(critique, refinements)
  return None if right is None else min(right, in_form(critique))


def in_form(critique: Record) -> float:
  """Returns 1.0 for thoughts, then reasons, then the verdict, and no more.

  The critique was not cut off; it begins with its one span of thinking, in
  which something is thought; reasons follow, a line at least, without a
  verdict; and the last line is the verdict's sentence alone.
  """
  text = critique.text.strip()
  opened, closed = THINKING
  thoughts, end, _ = text.removeprefix(opened).partition(closed)
  *reasons, last = (verdicts.conclusion(text) or '').split('\n')
  is_one_span = text.startswith(opened) and text.count(opened) == 1
  return float(
    critique.finish == 'stop'
    and is_one_span
    and bool(end and thoughts.strip())
    and text.count(closed) == 1
    and any(line.strip() for line in reasons)
    and not any('verdict' in line.lower() for line in reasons)
    and verdicts.verdict(last) is not None
    and last.strip(' *_`').lower().startswith('verdict')
  )


def _suggests(critique, accepted) -> float | None:
  """Returns 1.0 if the suggestion is among those accepted of its parent."""
  right = refinement.is_right(critique.parent, critique=critique)
  if right is None:
    return None
  if not refinement.has_verdict(critique):
    return 0.0
  if right:
    return 1.0
  known = suggestions.read(critique.parent)
  return float(suggestions.suggested(critique) in accepted(known))


def _check_share(what: str, value: float) -> None:
  if not 0 <= value <= 1:
    raise ValueError(f'{what}: got {value}; expected a number from 0 to 1')
