"""Does RL move a critic along its base's curve, or off it?

CriticLean (https://arxiv.org/abs/2507.06181) trains a critic of formal
statements by RL on min(verdict, form). In the table of its repository, read by
eye, Qwen3-8B judges 79.8 % rightly before and after: it passes 94.4 % of the
right statements and 34.8 % of the wrong ones before, 90.0 and 30.4 % after. A
threshold moves such a point along a curve for nothing. Turning verdicts round
at random would have left 82.5 % where RL has 90.0, so it is 7.5 points above
that chord; where it is beside the curve of the base's own doubts nobody has
published.

Here the base is a cold start by a teacher who compares a quarter of the
statements with their problems and guesses the others; its doubts are the share
of 8 critiques that call a statement wrong. RL pays the same reward for 40
steps. `difference` has the height of the later point, one critique of each
statement, above the chord and above the curve of the base's votes, which cost 8
times as much: 0 is on it. Then the gate: a formaliser errs in 60 % of its
drafts, a checker refuses three tenths of these, and a critic has it drafted
again, 8 times at most. Of 200 problems 37 % have a faithful first draft, 43.5 %
one that is the first which the checker accepts; behind a critic who guesses
50 % have one in the end, and behind one who is always right 99 %.

Expectation: off the chord by some 20 points at least, since the base can
compare and RL makes it do so always: both rates move the right way, and the
area under the curve of votes rises. Off the base's curve of votes by a few
points only: what 8 guesses and comparisons know together is most of what
comparing knows. The paper's trade, right statements for wrong ones, does not
show where both kinds are as frequent. In the gate the base's verdicts are worth
some 10 points over the checker alone, and RL's 40. (One run of an earlier
version was seen before the gate's numbers were written: `LOG.md`, 2026-11-30.)

Result (2026-11-30): three seeds, each run by itself with 200 held-out
statements (`LOG.md`). Off the chord by 78 to 88 points and, not as expected,
far off the curve of votes, too: by 32 to 37, the intervals above 9. In the gate
the base is worth -2 to 5 points over the checker, RL 45 to 47.
"""

from configs import grid

_COLUMNS = 'cold_start', 'rl'
_RATES = 'operating/right_passed', 'operating/wrong_passed'

CONFIG = 'configs/critic_lean.py:critic_lean'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation='heldout',
    columns=_COLUMNS,
    metrics=(
      'balanced verdict accuracy',
      *_RATES,
      'operating/vote_area',
    ),
  ),
  dict(
    evaluation='heldout',
    columns=('difference',),
    metrics=(*_RATES, 'operating/above_chord', 'operating/above_votes'),
  ),
  dict(
    evaluation='trials',
    columns=_COLUMNS,
    metrics=(
      'faithful first drafts',
      'the same, without the critic',
      'episodes that reach their goal',
      'faithful of those that the checker accepts',
      'faithful of those that the critic accepts, too',
      'trials/accepted',
    ),
  ),
]
