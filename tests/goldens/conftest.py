# They need torch, datasets, or TRL.
collect_ignore = [
  'make_goldens.py', 'make_hf_sums.py', 'make_peft.py', 'make_preference.py',
  'make_reward.py',
]  # fmt: skip
