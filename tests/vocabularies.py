"""A byte-level vocabulary as GGUF files have it, and a chat template."""

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
