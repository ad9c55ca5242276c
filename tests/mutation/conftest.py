collect_ignore = ['mutate.py']  # it needs cosmic-ray
