"""Is a refinement worth more to a solver because a critique led to it?

Critique-GRPO (https://arxiv.org/abs/2506.03106) trains a solver on refinements
of its solutions as if they were answers to the bare question. A reader of its
code suspected that any right answer in the group would do. Here one more answer
joins each group: a refinement by the critiques of a critic that RL trained
(critique) or by the solver's own (own), by the verdict alone (verdict), by a
critic that gives the answer away (leaked); the best of more solutions (extra);
the reference solution (reference); none (grpo). All arms begin with one solver
and take as many steps, and a step samples as many tokens, within a tenth: 14
solutions of a problem, or 7 and 7, or 4 with critiques and refinements, as
critiques are half as long again. `tokens/...` of a run are the true numbers.

Expectation: what matters is how often an arm rescues a group in which nobody is
right (solve/rescued). The critic's critiques rescue more of them than as many
tokens spent on more solutions do. This solver follows advice, and has not
learned to take over an answer: by the verdict alone or by the answer it mostly
copies itself, and rescues least. So critique is more accurate than extra and
grpo, by 3 points or more, and neither verdict nor leaked is. The reference
rescues every group for nothing and is the best arm. pass@4 parts the arms less
than accuracy does. What the solver makes of critiques (refined right) gets no
better: no arm trains it on a prompt with a critique.

Result: not asked yet.
"""

from configs import critique_grpo, grid

CONFIG = 'configs/critique_grpo.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
ARMS = ('rl', *critique_grpo.ARMS)  # after RL of the critic: the solver's start
TABLE = [
  dict(
    evaluation='heldout',
    columns=ARMS,
    metrics=(
      'accuracy before',
      'refined right, wrong solutions',
      'accuracy after critique and refine',
    ),
  ),
  dict(evaluation='heldout', columns=ARMS, methods=('pass', 'majority')),
]
