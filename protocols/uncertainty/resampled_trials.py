"""The same people drawn for every trial: intervals over BLUFR's ten trials, IJB-A's ten splits.

Trials share people, so that their deviation is no interval of anything.  A draw gives each person
one weight in all of them, and the number reported is taken over the trials of that draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evalkit.protocols.uncertainty.intervals import bounded, rising
from evalkit.protocols.uncertainty.outcomes import DrawnOutcomes, Outcomes
from evalkit.protocols.uncertainty.resampling import metric_draws, metric_ends
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import Weights, weight_draws
from evalkit.types import Estimate, Floats, Ints


def people_weights(who: Ints, draws: int, seed: int) -> list[Weights]:
    """Draw the weights of all people `draws` times; who : (N,) of each row, from 0.

    Weights go by the first row of each person, whatever their names.
    """
    _, first = np.unique(who, return_index=True)
    place = np.argsort(np.argsort(first))
    return [(weight[place], unseen) for weight, unseen in weight_draws(len(first), draws, seed)]


def trial_draws(
    outcomes: Outcomes,
    names: Sequence[str],
    weights: Sequence[Weights],
    people: Ints,
    present: float = 1.0,
) -> dict[str, Floats]:
    """Draw the metrics of one trial that can be: name -> (draws, 3).

    The columns: without the person unseen, and `metric_ends`.  people : who is in the outcomes, by
    ascending number.  present : in what share of the trials the person unseen is.
    """
    sample = sample_of(outcomes)
    of_trial = [(weight[people], round(present * unseen)) for weight, unseen in weights]
    ends = metric_ends(sample, names, weights=of_trial)
    alone = metric_draws(sample, [*ends], weights=of_trial)
    return {name: np.column_stack([alone[name], of_ends]) for name, of_ends in ends.items()}


def with_drawn_intervals(
    found: Mapping[str, Estimate],
    drawn: Mapping[str, Floats],
    who: Ints,
    trials: NDArray[np.uint8],
    seed: int,
) -> tuple[dict[str, Estimate], DrawnOutcomes]:
    """Give estimates over trials the intervals of their draws; and the draws as outcomes.

    drawn : name -> (draws, 3) as `trial_draws`, over the trials.  who : (N,) people of the rows.
    trials : digest of what they compare.
    """
    people = len(np.unique(who))
    intervals = {
        name: replace(bounded(found[name], of[:, 1:], people, seed), people=people)
        for name, of in drawn.items()
    }
    kept = {name: of[:, 0] for name, of in drawn.items()}
    return rising({**found, **intervals}), DrawnOutcomes(
        subject=who, trials=trials, seed=seed, drawn=kept
    )
