"""Is a veto of each critic better than their mean, and what does it cost?

Synthetic-Persona-Chat (https://arxiv.org/abs/2312.10007) filters a generator's
outputs by several critics and feeds the best back, three times. Here three
experts each see one defect of a solution, and err in a tenth of their answers;
a generator imitates what all of them let pass (`veto`), what two of three do
(`mean`), or any of its solutions (`all`), in three rounds of 5 batches. All
sample as many solutions.

Expectation: right answers rise from round to round by `veto`, by 5 points or
more in all, and less by `mean`, which lets the commonest defect pass, a false
sum; `all` changes by no more than 3 points. pass@4 less pass@1, what four
samples add to one, shrinks most by `veto`: it costs diversity, which
`solve/distinct` of training shows less, as solutions of one problem are much
alike anyway.

Result: not asked yet.
"""

from configs import grid, persona_chat

CONFIG = 'configs/persona_chat.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=('solver', *sum(map(persona_chat.names, persona_chat.ARMS), ())),
  metrics=('selection/pass@1', 'selection/pass@4', 'selection/majority@4'),
)
