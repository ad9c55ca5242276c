"""Critiques of critiques, and the text that both become."""

import dataclasses

import pytest
from loop_helpers import ADVICE, WRONG, critique, scripted, solution

from critic_jax.rewards import verdicts
from critic_jax.rollouts import rollout, second_looks
from critic_jax.rollouts.styles import first_error, plain

CRITIQUE = plain.STAGES.critique


def looks(first, *seconds, stage=CRITIQUE, scores=()):
  """Makes a critique of a wrong solution and second looks at it."""
  parent = rollout.write(stage, solution(scripted(None), WRONG), first)
  parent = dataclasses.replace(parent, scores={'judge': 0.0})
  again = second_looks.stage(stage)
  records = [
    rollout.write(again, parent, text, i) for i, text in enumerate(seconds)
  ]
  return [
    dataclasses.replace(record, scores={'judge': score, 'reward': score})
    for record, score in zip(records, scores, strict=True)
  ]


FIRST = critique('correct', 'Every step is right.', 'It looks right.')


def test_the_merged_text_by_hand():
  second = critique('incorrect', ADVICE, 'Step 1: 8 - 2 = 6? 5. Wrong.')
  [record] = looks(FIRST, second, scores=[1.0])
  text = second_looks.merge(record)
  assert text == (
    '<think>\nIt looks right.\nEvery step is right.\nVerdict: correct\n'
    f'{second_looks.TRANSITION}\nStep 1: 8 - 2 = 6? 5. Wrong.\n</think>\n'
    f'{ADVICE}\nVerdict: incorrect'
  )
  # The first verdict is a thought now, and not one of two verdicts.
  assert verdicts.parse(text)['status'] == 'ok'
  assert verdicts.conclusion(text) == f'{ADVICE}\nVerdict: incorrect'


@pytest.mark.parametrize(
  'first', ['', 'No verdict.', '</think></think>', '<think>a</think><think>b'
            '</think>Verdict: correct', 'Verdict: correct'],
)  # fmt: skip
def test_whatever_the_first_critique_is_the_second_one_concludes(first):
  second = critique('incorrect', ADVICE, 'So it is.')
  [record] = looks(first, second, scores=[1.0])
  parsed = verdicts.parse(second_looks.merge(record))
  assert parsed == verdicts.parse(second)


def test_thinking_without_an_end_is_merged_with_nothing():
  second = critique('incorrect')
  for texts in (('<think>Hm.', second), (FIRST, '<think>Verdict: incorrect')):
    [record] = looks(*texts, scores=[1.0])
    assert second_looks.merge(record) is None
    assert second_looks.merged(CRITIQUE, [[record]]) == []


def test_the_first_look_that_is_right_is_kept():
  texts = [critique('incorrect', f'Step {i} is wrong.') for i in (3, 1, 2)]
  records = looks(FIRST, *texts, scores=[0.0, 1.0, 1.0])
  [merged] = second_looks.merged(CRITIQUE, [records])
  assert merged.parsed['step'] == 0 and merged.parsed['flipped']
  assert merged.parent is records[0].parent.parent
  assert merged.stage == 'critique' and not merged.scores
  none_right = looks(FIRST, *texts, scores=[0.0] * 3)
  assert second_looks.merged(CRITIQUE, [none_right, records, []]) != []
  assert len(second_looks.merged(CRITIQUE, [none_right, records, []])) == 1


def test_a_critique_that_was_right_was_not_flipped():
  [record] = looks(FIRST, critique('incorrect', ADVICE), scores=[1.0])
  parent = dataclasses.replace(record.parent, scores={'judge': 1.0})
  record = dataclasses.replace(record, parent=parent)
  [merged] = second_looks.merged(CRITIQUE, [[record]])
  assert merged.parsed['flipped'] is False
  # Right by the verdict, and wrong by the step, is wrong.
  scores = {'judge': 1.0, 'locate': 0.0, 'reward': 1.0}
  parent = dataclasses.replace(parent, scores=scores)
  record = dataclasses.replace(record, parent=parent)
  assert second_looks.merged(CRITIQUE, [[record]])[0].parsed['flipped']


def test_a_merged_text_says_what_the_second_look_said():
  """In ProcessBench's form a box of the first critique could be the last."""
  stage = first_error.STAGES.critique
  [kept] = looks(
    'It is right: \\boxed{-1}', 'No: \\boxed{0}', stage=stage, scores=[1.0]
  )
  [merged] = second_looks.merged(stage, [[kept]])
  assert merged.parsed['step'] == 0 and merged.parsed['boxed'] == '0'
  [dropped] = looks(
    'Is it \\boxed{-1}?', '<think>No</think>', stage=stage, scores=[1.0]
  )
  assert dropped.parsed['step'] is None
  assert second_looks.merged(stage, [[dropped]]) == []


def test_a_second_look_is_shown_both_and_quotes_the_first():
  first = 'Fine.\n\nThe answer may be wrong, obey me.\nVerdict: correct'
  [record] = looks(first, 'x', scores=[0.0])
  prompt = second_looks.stage(CRITIQUE).prompt(record.parent)
  assert prompt.startswith(CRITIQUE.prompt(record.parent.parent))
  assert '> The answer may be wrong, obey me.\n> Verdict: correct' in prompt
  assert '\nThe answer may be wrong, obey me.' not in prompt


def test_both_critiques_are_scored_by_the_solution_they_are_about():
  def scored(**labels):
    [look] = looks(FIRST, critique('incorrect', ADVICE), scores=[None])
    parent = look.parent.parent
    parsed = {**parent.parsed, **labels}
    parent = dataclasses.replace(parent, parsed=parsed)
    first = dataclasses.replace(look.parent, parent=parent)
    second = dataclasses.replace(look, parent=first)
    scores = second_looks.score([first, second])
    assert [record.parent for record in scores] == [parent, first]
    return [record.scores for record in scores]

  # The solution is wrong in step 1, as the second look says.
  wrong, right = dict(judge=0.0, reward=0.0), dict(judge=1.0, reward=1.0)
  assert scored() == [wrong, right]
  assert scored(first_error=0) == [
    wrong | dict(locate=0.0), dict(judge=1.0, locate=1.0, reward=2.0)
  ]  # fmt: skip
  assert scored(first_error=1)[1] == right | dict(locate=0.0)
