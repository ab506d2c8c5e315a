"""What we override or reproduce of Ax's private code: a test for each, so that a change upstream is noticed here first."""

import hashlib
import inspect

import botorch.fit
import pytest
from ax.adapter.base import Adapter
from ax.adapter.cross_validation import _efficient_loo_cross_validate
from ax.adapter.torch import TorchAdapter
from ax.adapter.transforms.bilog_y import BilogY
from ax.adapter.transforms.cast import Cast
from ax.adapter.transforms.standardize_y import StandardizeY
from ax.adapter.transforms.winsorize import Winsorize
from ax.core import data_utils
from ax.core import utils as core_utils
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generators.torch.botorch_modular.acquisition import Acquisition
from ax.generators.torch.botorch_modular.generator import BoTorchGenerator
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.utils import best_in_sample_point
from botorch.models.gpytorch import BatchedMultiOutputGPyTorchModel
from gpytorch.models import ExactGP

OVERRIDDEN = {
    Surrogate._construct_model: "7b1ea215d5a63db2",
    Surrogate._dataset_matches_cache: "9f1e9df47fbd079d",
    TorchAdapter._gen: "9d4a6380586a5d44",
    TorchAdapter._fit: "5835d413c9b048cf",
    BoTorchGenerator._instantiate_acquisition: "cf1c3843ae55841a",
    BoTorchGenerator.fit: "14e2aa0ae3415c5b",
    GenerationNode._get_model_state_from_last_generator_run: "4e0e7ed0cb8aaa81",
    GenerationNode.gen: "38c06e62bce77662",
    GenerationStrategy.clone_reset: "649ccdba3d661751",
    GenerationNode._try_gen_with_fallback: "ff5ac588d7faf271",
    Acquisition.optimize: "7ec4d8bb6ecbb7c4",
    GenerationStrategy.gen: "a85fc5d833da7cce",
    Adapter.__init__: "ac97f123ebdccbe1",
    Adapter._process_and_transform_data: "3062bd727625917d",
    botorch.fit._fit_fallback: "1121c34f724ba92d",
    BatchedMultiOutputGPyTorchModel.posterior: "135fb1ad75db3988",
    BatchedMultiOutputGPyTorchModel.subset_output: "f81f42e8b55f5641",
    ExactGP.__call__: "91fb773cc7dbdb2f",
    ExactGP._clear_cache: "47d83bc6cba61581",
    ExactGP.get_fantasy_model: "c6aa07f77b12b240",
}

REPRODUCED = {
    # plugin/closed_form.py: ClosedFormAcquisition sets what this sets.
    Acquisition.__init__: "99a99d8df6a55adc",
    # plugin/best_point.py
    best_in_sample_point: "2a61b66b8a338c9a",
    # plugin/observations.py
    data_utils.ExperimentData.convert_to_list_of_observations: "d5db15c2bd8b074d",
    # plugin/data.py: which observations reach the model, in which order, with which metadata.
    data_utils.extract_experiment_data: "1cab0376e3c46090",
    data_utils._extract_arm_data: "67f4e61ca2b74fc1",
    data_utils._extract_observation_data: "49e7e63236a04178",
    TorchAdapter._get_fit_args: "f5821768cc8499da",
    TorchAdapter._convert_experiment_data: "2d26158411207b34",
    Cast.transform_experiment_data: "8628731f7a59a094",
    # plugin/transforms.py: these run on columns that answer to what they call.
    Winsorize.__init__: "5a06cb09a500079f",
    Winsorize.transform_experiment_data: "d6ed18c934fd7b0e",
    BilogY.transform_experiment_data: "b5f3f56b5fa10c16",
    StandardizeY.__init__: "84d9a09dba47c45a",
    StandardizeY.transform_experiment_data: "0b355ecc8ea5052f",
    # plugin/observations.py: pairs training data with the model's rows by their order.
    _efficient_loo_cross_validate: "db01e0716e125cbc",
    # plugin/pending.py
    core_utils.extract_pending_observations: "f3ad021ca84e68ac",
    core_utils.get_pending_observation_features: "8de27b5f962a93b4",
    core_utils.get_pending_observation_features_based_on_trial_status: "8e5ea97d20e34b5b",
    core_utils.compute_metric_availability: "cd36a3667073e64d",
}


def digest(function) -> str:
    source = "".join(inspect.getsource(function).split())
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", [*OVERRIDDEN, *REPRODUCED], ids=lambda f: f.__qualname__)
def test_the_code_we_override_or_reproduce_is_the_code_we_read(function):
    expected = {**OVERRIDDEN, **REPRODUCED}[function]
    assert digest(function) == expected, (
        f"{function.__qualname__} changed upstream: read it again, adapt ours, then update the digest"
    )
