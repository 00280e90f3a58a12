"""Vectors become numbers: arrays in, a `Report` out.  Needs numpy and scipy, nothing else.

Protocols, each with `evaluate`: `lfw`, `verification` (any pair list), `score_list` (scores alone),
`all_vs_all`, `megaface`, `trillion`, `blufr`, `geometry`; `ijb` has `verify` and `identify`.
What they share: `metrics` (TPR@FAR, AUC, EER, rank-k), `kfold` (10-fold accuracy), `intervals` and
`paired` (how sure, is it better), `scores` (what a score is), `allpairs` (every pair of two sets of
any size), `recipes` and `compat` (how others measure).

>>> from evalkit.protocols import metrics
>>> metrics.tpr_at_far([0.9, 0.8, 0.1], [0.4, 0.3, 0.2, 0.0], "0.25").value
0.6666666666666666
"""
