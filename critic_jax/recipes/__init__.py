"""Training algorithms: one file per way of moving data.

The settings of a phase are the keyword parameters of `make`. Those that most
recipes have are explained here, once:

  advantage     a name and keywords of `objectives/advantages.py`: how rewards
                of a group's records become advantages
  objective     of a policy: the surrogate, a name and keywords of
                `objectives/policy.py`
  kl            the penalty for leaving the role 'ref': `name`, of a function of
                `objectives/kl.py`, and its `coef`; 0 needs no reference
  batch_size    examples a step: problems, given solutions or comparisons
  aggregate     how the loss is normalised over a batch: each token alike,
                'token'; each response, 'sequence'; or tokens by the limit of
                their number, 'constant' (`masked.loss_weights`)
  row_shapes    (rows, columns) that a batch may be packed in, the first that
                holds it; () for none: a row for each response
  microbatches  parts that a batch is cut into, which are read one after another

Settings that name a function of critic_jax.tasks, such as `writer`, have its
`module`, its `name` and its keywords, and `module=''` stands for nobody.
"""
