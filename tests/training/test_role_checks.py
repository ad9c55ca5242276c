import io
import types

import pytest
from helpers import random_params
from loop_helpers import nano
from rich.console import Console

from configs import evaluate as evaluate_config
from configs import reward_model, sft
from critic_jax import evaluate, train
from critic_jax.pretrained import hf_weights
from critic_jax.training import role_checks, roles

TRUNK, WHOLE = {'embed': 0}, {'embed': 0, 'scalar_head': 0}
HEADS = dict(solver='lm', value='value', reward='reward', second='reward')


def check(loaded, *phases):
  """Checks heads; phases are (trained, copies); who is not loaded is drawn."""
  models = {
    role: dict(head=head, source='models/x' if role in loaded else '')
    for role, head in HEADS.items()
  }
  role_checks.check_heads(
    models,
    loaded,
    [
      types.SimpleNamespace(
        config=types.SimpleNamespace(copy=copies),
        recipe=types.SimpleNamespace(trained=trained),
      )
      for trained, copies in phases
    ],
  )


@pytest.mark.parametrize(
  ('loaded', 'phases'),
  [
    (dict(solver=TRUNK), ()),  # a language head is always read
    (dict(reward=WHOLE), ()),
    (dict(reward=TRUNK), [(('reward',), {})]),
    (dict(value=TRUNK), [(('solver', 'value'), dict(value='solver'))]),
    (dict(reward=TRUNK, second=WHOLE), [((), dict(reward='second'))]),
    # From scratch, and trained before it is copied.
    (
      dict(reward=TRUNK),
      [(('second',), {}), (('solver',), dict(reward='second'))],
    ),
  ],
)
def test_heads_that_are_read_or_trained(loaded, phases):
  check(loaded, *phases)


@pytest.mark.parametrize(
  ('loaded', 'phases'),
  [
    (dict(reward=TRUNK), ()),
    (dict(reward=TRUNK), [(('solver',), {})]),
    # What is copied has no head, one of another kind, or a random one.
    (dict(reward=TRUNK), [(('solver',), dict(reward='solver'))]),
    (dict(reward=TRUNK, value=WHOLE), [((), dict(reward='value'))]),
    (dict(reward=TRUNK), [((), dict(reward='second'))]),
    # Copied before it is trained; and a trained one that a random one replaces.
    (dict(reward=TRUNK), [(('second',), dict(reward='second'))]),
    (dict(reward=WHOLE), [((), dict(reward='second'))]),
  ],
)
def test_heads_that_stay_random(loaded, phases):
  with pytest.raises(
    ValueError,
    match=r"^models.reward: got head='reward' and the source 'models/x', "
    'which lacks that head',
  ):
    check(loaded, *phases)


@pytest.mark.parametrize('command', [train, evaluate])
def test_both_commands_refuse_it_before_anything_is_drawn(
  command, tmp_path, monkeypatch
):
  """A reward model of a language model's folder, which no phase trains."""
  lm = nano()
  folder = tmp_path / 'language_model'
  hf_weights.save(
    folder, lm.model.config, random_params(lm.model), lm.tokenizer
  )
  config = evaluate_config.get_config('tiny')
  if command is train:
    config = reward_model.get_config('tiny')
    config.order, config.evals.heldout.after = ('solver', 'rl'), ('rl',)
  settings = dict(head='reward', source=str(folder), size='', tokenizer='')
  with config.unlocked():
    config.models.reward = sft.role() | settings | dict(lengths=(128,))
  monkeypatch.delattr(roles, 'init_params')
  with pytest.raises(ValueError, match=r"^models.reward: got head='reward'"):
    command.run(config, str(tmp_path / 'run'), Console(file=io.StringIO()))
  assert not (tmp_path / 'run').exists()
