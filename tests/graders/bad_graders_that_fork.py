"""bad_graders, as a grader that may start processes."""

from bad_graders import CANARIES, exact, extract  # noqa: F401
from bad_graders import decide as _decide

IN_SANDBOX = True


def decide(answer, reference, *, deadline_s, walls):
  return _decide(answer, reference)
