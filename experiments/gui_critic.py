"""Is a critic that hits the reference better than one whose hints work?

GUI-Critic-R1 (https://arxiv.org/abs/2506.04614) pays a critic of actions for
its form, its verdict, and a suggestion that means the same as the reference;
others' summary has success on AndroidWorld rise from 22.4 to 27.6. In the world
of screens it can be told whether a suggestion works, the reference or not: of
the wrong actions of the test 29 % could be replaced by several that do, and who
takes any of these hits the reference in 85 %. From one cold start, 40 steps of
RL each: `verdict` pays form and verdict, `reference` and `works` pay the
suggestion, too. An agent errs in 30 % of its actions and has two turns to
spare: alone it reaches its goal in 46 % of 200 episodes, with the verdicts of a
teacher who always compares in 66 %, with its hints in all, and with those of
one who always guesses in 2 %. `verdict_only` has a critic's verdicts without
its hints.

Expectation: a guessed verdict is right half of the times and a guessed hint
works in 5 %, so the suggestion tells comparing from guessing where the verdict
cannot: with it verdicts are a few points better after as many steps. `works`
and `reference` do not differ in verdicts, in hints that work, and in episodes;
only in the share of hints that are the reference, near 100 % and near 85 %: an
order that the goal does not ask for is learned and helps nobody. The cold start
does harm to the agent. After RL episodes gain more by hints than by verdicts
alone.

Result: not asked yet.
"""

from configs import grid

_COLUMNS = 'cold_start', 'verdict', 'reference', 'works'
_EPISODES = (
  'episodes that reach their goal',
  'the same, without the critic',
  'gain in episodes by the critic',
  'episodes lost by the critic',
)

CONFIG = 'configs/gui_critic.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation='heldout',
    columns=_COLUMNS,
    metrics=(
      'balanced verdict accuracy',
      'hint is the reference, if wrong',
      'hint works, if wrong',
    ),
  ),
  dict(evaluation='episodes', columns=_COLUMNS, metrics=_EPISODES),
  dict(evaluation='verdict_only', columns=_COLUMNS, metrics=_EPISODES),
]
