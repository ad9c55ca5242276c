"""Lines that say what a run chooses: of its platform, and of a template."""

import dataclasses
import io

import pytest
from helpers import tiny_config, tiny_lm
from vocabularies import CHATML, OPENED, gguf_metadata

from configs import refcritic
from critic_jax.models.transformer import Transformer
from critic_jax.plan import abstract
from critic_jax.pretrained import gguf_import
from critic_jax.rollouts import stages
from critic_jax.terminal import Console
from critic_jax.text import tokenizer
from critic_jax.training import choices, phases

STRIPPED = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
GO_ON = "solver: refinements continue their solution's conversation"
ANEW = 'solver: refinements are read anew with problem and solution: '


def make_lm(template, style='instruct'):
  metadata = gguf_metadata(add_bos_token=False)
  metadata['tokenizer.chat_template'] = template
  files = gguf_import.tokenizer_files(metadata)
  return tiny_lm(
    model=Transformer(tiny_config(vocab_size=264, num_layers=1, max_len=2304)),
    tokenizer=tokenizer.from_files(files),
    stages=stages.make_stages(style),
    lengths=(2048,),
    max_new_tokens=32,
  )


@pytest.mark.parametrize(
  'template, line',
  [
    (CHATML, GO_ON),
    (STRIPPED, f'{GO_ON}, but where thinking is taken out by the chat '
     'template'),
    (OPENED.replace("m['content']", "m['content'].split('</think>')[-1]"),
     f'{ANEW}the chat template changes earlier turns'),
    (CHATML.replace('<|im_end|>', ''),
     f'{ANEW}the chat template changes earlier turns'),
  ],
)  # fmt: skip
def test_whether_refinements_continue_their_conversation(template, line):
  assert choices.of_refinements({'solver': make_lm(template)}, 'solver') == [
    line
  ]


def test_a_style_without_conversations_has_no_line():
  lm = make_lm(CHATML, style='plain')
  assert choices.of_refinements({'solver': lm}, 'solver') == []


def made(platform, **settings):
  """The quickstart's smallest form, with settings of its critic."""
  config = refcritic.get_config('tiny')
  config.models.critic.update(settings)
  return config, abstract.make_lms(config, platform)


@pytest.mark.parametrize(
  'platform, settings, lines',
  [
    ('cpu', {}, []),
    ('cpu', dict(layers='scanned'),
     ['critic: layers as a loop, attention xla']),
    ('tpu', {}, ['cold, critic, solver: layers as a loop, attention splash']),
    ('tpu', dict(layers='unrolled', attention='xla'),
     ['cold, solver: layers as a loop, attention splash',
      'critic: layers one by one, attention xla']),
    ('gpu', dict(dtype='bfloat16'),
     ['cold, solver: layers as a loop, attention xla (cudnn computes bfloat16 '
      'or float16, not float32)',
      'critic: layers as a loop, attention cudnn']),
    ('other_gpu', dict(dtype='bfloat16'),
     ['cold, critic, solver: layers as a loop, attention xla']),
  ],
)  # fmt: skip
def test_the_programs_of_a_platform(platform, settings, lines):
  config, lms = made(platform, **settings)
  assert sorted(choices.of_models(config.models, lms, platform)) == lines


def test_windows_are_not_for_every_program():
  model = Transformer(tiny_config('mistral', vocab_size=264))
  settings = {'critic': dict(attention='auto')}
  lms = {'critic': tiny_lm(model=model)}
  assert choices.of_models(settings, lms, 'tpu') == [
    'critic: layers one by one, attention xla (splash computes attention to '
    'all tokens, not windows of 4)'
  ]
  settings['critic']['attention'] = 'splash'
  with pytest.raises(
    ValueError, match="got 'splash' for windows of 4; expected attention to al"
  ):
    choices.of_models(settings, lms, 'tpu')


def test_weights_without_a_chat_template_are_named():
  lms = {'critic': tiny_lm(), 'solver': make_lm(CHATML), 'cold': tiny_lm()}
  settings = {role: dict(source='some/folder') for role in lms}
  settings['cold']['source'] = ''  # drawn, for a world of its own
  assert choices.of_templates(settings, lms) == [
    'critic: some/folder has no chat template; prompts are plain text'
  ]


def test_a_run_and_an_evaluation_say_both():
  """Who refines is in the phases of a run, and in its evaluations."""
  config, lms = made('tpu')
  recipes = phases.make_phases(config, lms, None)
  examples = {f'evals.{name}': range(1000) for name in config.evals}

  def shown(*phases):
    console = Console(width=200, file=io.StringIO())
    choices.show(config, lms, 'tpu', phases, console, examples)
    return console.file.getvalue().splitlines()

  [programs] = shown(*recipes)  # a plain style
  model = lms['solver'].model
  lms['solver'] = dataclasses.replace(
    make_lm(CHATML), model=model, lengths=(8,)
  )
  config.evals.heldout.num_refinements = 0
  assert shown(*recipes) == [programs, GO_ON]
  assert shown() == [programs]
  config.evals.heldout.num_refinements = 1
  assert shown() == [programs, GO_ON]


def test_an_evaluation_with_fewer_examples_than_it_asks_for_says_so():
  config = refcritic.get_config('tiny')
  section = config.evals.heldout
  num = section.num_examples
  evals, few = {'heldout': section}, {'evals.heldout': range(num - 1)}
  assert choices.of_examples(evals, few) == [
    f"heldout: {num - 1} of {num} examples, as 'test' has no more"
  ]
  assert not choices.of_examples(evals, {'evals.heldout': range(num)})
