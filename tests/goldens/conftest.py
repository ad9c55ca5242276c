# They need torch, and datasets.
collect_ignore = ['make_goldens.py', 'make_hf_sums.py', 'make_peft.py']
