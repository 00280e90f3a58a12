"""Vectors become numbers: arrays in, a `Report` out.  Needs numpy and scipy, nothing else.

Protocols, each with `evaluate`: `lfw`, `verification` (any pair list), `score` (scores alone),
`all_vs_all`, `megaface`, `trillion`, `blufr`, `geometry`; `ijb` has `verify` and `identify`.
`catalogue` lists them.  What they share: `metrics` (TPR@FAR, AUC, EER, rank-k, 10-fold accuracy,
what a score is, how others measure), `uncertainty` (intervals, paired tests), `failures`,
`one_to_many`, `allpairs` (every pair of two sets of any size) and `recipes` (published systems).

>>> from evalkit.protocols import metrics
>>> metrics.tpr_at_far([0.9, 0.8, 0.1], [0.4, 0.3, 0.2, 0.0], "0.25").value
0.6666666666666666
"""
