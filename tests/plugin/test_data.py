"""Training data by what is new: equal to what a freshly made Ax adapter has, and made without Ax's frames."""

import copy
import pickle

import numpy as np
import pytest
from ax.adapter import base as adapter_base
from ax.adapter.torch import TorchAdapter

from gpu_gs.plugin import adapter as adapter_module
from gpu_gs.plugin.ask import Ask, in_progress
from gpu_gs.device import Decision
from tests.plugin.data_helpers import (
    TRANSFORMS,
    Recorder,
    Story,
    adapters,
    add_trial,
    assert_same,
    assert_same_frames,
    attach,
    constrained,
    draw,
    float_space,
    make_experiment,
    mixed_space,
    refit,
    single,
    two_objectives,
)

CASES = {
    "floats": (float_space, single, "default", False),
    "floats with known noise": (float_space, single, "default", True),
    "floats with a constraint": (float_space, constrained, "default", True),
    "floats, two objectives": (float_space, two_objectives, "default", False),
    "mixed, one-hot": (mixed_space, single, "default", False),
    "mixed, choices kept": (mixed_space, constrained, "mixed", True),
    "mixed, all continuous": (mixed_space, two_objectives, "continuous", False),
}


@pytest.fixture
def passes(monkeypatch):
    """Counts full passes over the experiment by live adapters."""
    made = []
    real = adapter_module.extract_experiment_data

    def counted(*args, **kwargs):
        made.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(adapter_module, "extract_experiment_data", counted)
    return made


def fresh(experiment, **kwargs):
    return TorchAdapter(experiment=experiment, generator=Recorder(), **kwargs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(6))
def test_after_any_course_of_events_the_tensors_are_those_of_a_fresh_adapter(case, seed):
    space, config, transforms, known_noise = CASES[case]
    experiment = make_experiment(space(), config())
    story = Story(experiment, seed=seed, known_noise=known_noise)
    story.begin()
    live = adapters(experiment, transforms=TRANSFORMS[transforms])
    for _ in range(12):
        for _ in range(story.rng.integers(1, 4)):
            story.step()
        reference = fresh(experiment, transforms=TRANSFORMS[transforms])
        refit(live, experiment)
        assert_same(live, reference)
        if story.rng.random() < 0.2:
            assert_same_frames(live, reference)


@pytest.mark.parametrize("case", CASES)
def test_what_is_only_added_needs_no_full_pass(case, passes):
    space, config, transforms, known_noise = CASES[case]
    experiment = make_experiment(space(), config())
    story = Story(experiment, seed=11, known_noise=known_noise, tame=True)
    story.begin()
    live = adapters(experiment, transforms=TRANSFORMS[transforms])
    passes.clear()
    for _ in range(60):
        story.step()
        refit(live, experiment)
    assert not passes
    reference = fresh(experiment, transforms=TRANSFORMS[transforms])
    assert_same(live, reference)
    assert_same_frames(live, reference)
    assert len(live.generator.fits) > 8
