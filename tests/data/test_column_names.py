import pytest

from critic_jax.data import column_names, problems

ROW = {
  'prompt': 'Why?', 'Label': 7, 'question': 'Not this?', 'id': 3,
  'extra': {'answer': '8', 'texts': ['a', {'b': 'c'}]}, 'a.b': 'd',
}  # fmt: skip


@pytest.mark.parametrize(
  ('columns', 'expected'),
  [
    ('question=prompt', {'question': 'Why?'}),
    ('answer=Label', {'answer': 7}),
    ('answer=label', {'answer': 7}),
    ('answer=extra.answer', {'answer': '8'}),
    ('answer=extra.texts.1.b', {'answer': 'c'}),
    ('answer=a.b', {'answer': 'd'}),
    (' question = question , answer = prompt ', {
      'question': 'Not this?', 'answer': 'Why?'}),
    ('question=id,answer=question', {'question': 3, 'answer': 'Not this?'}),
  ],
)  # fmt: skip
def test_columns_get_our_names(columns, expected):
  row = column_names.renamed(ROW, column_names.parse(columns))
  assert {name: row[name] for name in expected} == expected


def test_a_name_without_a_column_is_none():
  row = column_names.renamed(ROW, column_names.parse('id='))
  assert 'id' not in row and row['prompt'] == 'Why?'
  assert column_names.renamed(ROW, column_names.parse('')) is ROW


@pytest.mark.parametrize(
  ('columns', 'reason'),
  [
    ('answer=extra.answers', "got no 'answers' of 'extra.answers' in"),
    ('answer=extra.texts.2', "got no '2' of 'extra.texts.2' in"),
    ('question=promt', "got no 'promt' among .*'question=prompt'"),
  ],
)
def test_a_column_that_is_not_there_is_named(columns, reason):
  with pytest.raises(ValueError, match=f'columns: {reason}'):
    column_names.renamed(ROW, column_names.parse(columns))


@pytest.mark.parametrize(
  ('columns', 'reason'),
  [
    ('prompt', "got 'prompt' in 'prompt'; expected NAME=COLUMN"),
    ('question=a,', "got '' in 'question=a,'; expected NAME=COLUMN"),
    ('question=a,question=b', "got 'question' twice"),
    ('query=a', "name: got 'query'; expected one of"),
  ],
)
def test_other_forms_are_refused(columns, reason):
  with pytest.raises(ValueError, match=f'columns: {reason}'):
    column_names.parse(columns)


def test_a_row_is_read_by_its_columns(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('prompt,label,cot\nWhat is 1 + 1?,2,It is \\boxed{2}.\n')
  columns = 'question=prompt,answer=label,solution=cot'
  [problem] = problems.read(path, columns=columns)
  assert problem.question == 'What is 1 + 1?'
  assert (problem.answer, problem.solution) == ('2', 'It is \\boxed{2}.')
