import pytest

from critic_jax import strict_json


def nested(levels):
  return '[' * levels + ']' * levels


def test_values_are_jsons():
  assert strict_json.loads('{"a": [1, null]}') == {'a': [1, None]}
  assert strict_json.loads(b'"\xc3\xa9"') == 'é'
  assert strict_json.loads('0') == 0
  assert strict_json.loads(nested(99))


@pytest.mark.parametrize('levels', [101, 900, 100_000])
def test_depth_is_bounded(levels):
  with pytest.raises(ValueError, match='more than 100 levels'):
    strict_json.loads(nested(levels))


@pytest.mark.parametrize('text', ['', '{', '"\\x"', '9' * 5000, b'\xff'])
def test_what_is_no_json_is_one_kind_of_error(text):
  with pytest.raises(ValueError):
    strict_json.loads(text)


@pytest.mark.parametrize('text', ['[]', '5', '{"a": ', nested(10**5), '\0'])
def test_a_file_holds_an_object(tmp_path, text):
  path = tmp_path / 'a.json'
  path.write_text(text)
  with pytest.raises(ValueError, match='a.json: got .*; expected a JSON obj'):
    strict_json.read(path)
  path.write_text('{"a": 1}')
  assert strict_json.read(path) == {'a': 1}


def test_the_size_of_a_file_is_bounded(tmp_path, monkeypatch):
  monkeypatch.setattr(strict_json, 'MAX_BYTES', 9)
  (tmp_path / 'a.json').write_text('{"a": 10}')
  assert strict_json.read(tmp_path / 'a.json') == {'a': 10}
  (tmp_path / 'a.json').write_text('{"a": 100}')
  with pytest.raises(ValueError, match='more than 9 bytes'):
    strict_json.read(tmp_path / 'a.json')
