"""A byte-level vocabulary as GGUF files have it, a chat template, and texts."""

import tokenizers

SYMBOLS = ('<|im_start|>', '<|im_end|>')
CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content']"
  " + '<|im_end|>' + '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Of models that always think: the prompt opens the thinking.
OPENED = CHATML.replace(
  "'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'"
)
WEIRD = (
  '',
  ' ',
  '  two  spaces  ',
  '\n\n\t\r\n',
  '\x00\x01\x7f\x85',
  '\u2581 and \u2581\u2581',  # sentencepiece's own word boundary
  '\ufeff\u200b\u200d',
  'e\u0301 \u00e9 \u212b',
  '\U0001f469\u200d\U0001f469\u200d\U0001f467',
  '\U0010ffff\ufffe\ue000',
  'مرحبا 日本語 Ёжик',
  '<0x41> <s> </s> <unk> <|im_end|>',
  'Ġ Ċ Ã',  # letters that byte-level vocabularies write bytes with
)


def gguf_metadata(pre='gpt-2', **more):
  """Makes a byte-level vocabulary: 256 bytes, two merges, three specials."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  texts = [*alphabet, 'he', 'hel', '<|end|>', *SYMBOLS, '<think>', '11']
  prefix = 'tokenizer.ggml.'
  return {
    prefix + 'model': 'gpt2',
    prefix + 'pre': pre,
    prefix + 'tokens': texts,
    prefix + 'token_type': [1] * 258 + [3, 3, 3, 4, 1],
    prefix + 'merges': ['h e', 'he l', '1 1'],
    prefix + 'eos_token_id': 260,
    prefix + 'bos_token_id': 258,
    prefix + 'padding_token_id': 258,
    'tokenizer.chat_template': CHATML,
  } | {prefix + key: value for key, value in more.items()}
