"""Outcome constraints on weighted sums of metrics, which Ax 1.3 takes for constraints on the first metric alone.

``StandardizeY`` makes a plain ``OutcomeConstraint`` of every sum, and of a plain one ``Derelativize`` and
``extract_outcome_constraints`` read one metric with the weight 1; only the deprecated ``ScalarizedOutcomeConstraint`` is
read in full. ``Winsorize`` and ``BilogY`` bend a metric around the bound of its sum, after which the sum of what is
modelled is another one. A constraint on one metric is right in Ax, and stays as it is here.
"""

from ax.core.optimization_config import OptimizationConfig
from ax.core.outcome_constraint import OutcomeConstraint, ScalarizedOutcomeConstraint


def has_sums(config: OptimizationConfig | None) -> bool:
    return config is not None and any(len(c.metric_names) > 1 for c in config.outcome_constraints)


def with_whole_sums(config: OptimizationConfig | None) -> OptimizationConfig | None:
    """The configuration with sums of the class that Ax reads in full; the same object if there are none."""
    if config is None or not has_sums(config):
        return config
    return config.clone_with_args(outcome_constraints=[_whole(c) for c in config.outcome_constraints])


def _whole(constraint: OutcomeConstraint) -> OutcomeConstraint:
    if len(constraint.metric_names) == 1:
        return constraint.clone()
    return ScalarizedOutcomeConstraint.clone(constraint)  # type: ignore[arg-type]  # its constructor warns


def for_outcomes(config: OptimizationConfig | None) -> OptimizationConfig | None:
    """What transforms of outcomes may know: no sum, and no bound of a metric that is in one.

    They then standardize such a metric and do nothing else to it.
    """
    if config is None or not has_sums(config):
        return config
    summed = {name for c in config.outcome_constraints if len(c.metric_names) > 1 for name in c.metric_names}
    alone = [c for c in config.outcome_constraints if not summed.intersection(c.metric_names)]
    return config.clone_with_args(outcome_constraints=alone)
