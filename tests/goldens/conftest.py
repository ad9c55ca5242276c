collect_ignore = ['make_goldens.py']  # it needs torch
