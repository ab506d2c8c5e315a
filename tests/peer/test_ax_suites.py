"""Ax's own tests of ``generation_strategy``, ``adapter``, ``service``, ``orchestration`` and ``api``, with ours in the place
of Ax's.

``stand_in.py`` says what is replaced. What cannot apply is in ``EXCLUDED``, by name and with its reason. ``SLOW`` names
the tests that take more than three seconds each: they run when ``GPU_GS_PEER=all`` is set.
"""

import importlib
import importlib.util
import os
import unittest
from collections import Counter

import pytest

from tests.peer.stand_in import adapter_mocked_by, in_place_of_stock

pytest.importorskip("pyfakefs", reason="Ax's test base class needs it")
pytest.importorskip("sqlalchemy", reason="Ax's tests import its SQL store")

MODULES = [
    *(
        f"ax.generation_strategy.tests.test_{name}"
        for name in (
            "best_model_selector",
            "center_generation_node",
            "dispatch_utils",
            "external_generation_node",
            "generation_node",
            "generation_node_input_constructors",
            "generation_strategy",
            "generator_spec",
            "transition_criterion",
        )
    ),
    *(
        f"ax.adapter.tests.test_{name}"
        for name in (
            "adapter_utils",
            "base_adapter",
            "cross_validation",
            "hierarchical_search_space",
            "model_fit_metrics",
            "prediction_utils",
            "registry",
            "torch_adapter",
            "torch_moo_adapter",
            "utils",
        )
    ),
    *(f"ax.adapter.transfer_learning.tests.test_{name}" for name in ("adapter", "task_selection_cv")),
    *(
        f"ax.service.tests.test_{name}"
        for name in (
            "ax_client",
            "best_point",
            "best_point_utils",
            "early_stopping",
            "global_stopping",
            "interactive_loop",
            "managed_loop",
            "report_utils",
        )
    ),
    "ax.orchestration.tests.test_orchestrator",
    "ax.api.tests.test_client",
    "ax.api.utils.tests.test_generation_strategy_dispatch",
]

DISPATCH = (
    "it checks which of Ax's generators a dispatch function put into a node; ours takes that one's place after it"
)
BEST_POINT = "it wants the best point on the generator run, which an ask of ours does not compute"

SPELLED_OUT = "it spells out the class names of nodes and generators"

EXCLUDED = {
    "TestGenerationStrategy.test_string_representation": SPELLED_OUT,
    "TestAxOrchestrator.test_repr": SPELLED_OUT,
    "TestAxOrchestratorMultiTypeExperiment.test_repr": SPELLED_OUT,
    "TestGenerationStrategy.test_gen_with_fixed_features": (
        "it demands that a mock of optimize_acqf is called; fixed features: tests/kinds/test_asks.py"
    ),
    "TestDispatchUtils.test_choose_generation_strategy_legacy": DISPATCH,
    "TestDispatchUtils.test_non_saasbo_discards_irrelevant_generator_kwargs": DISPATCH,
    "TestDispatchUtils.test_num_trials": DISPATCH,
    "TestDispatchUtils.test_choose_gs_custom_with_model_config": DISPATCH,
    "TestDispatchUtils.test_choose_gs_fast_with_options": DISPATCH,
    "TestDispatchUtils.test_choose_gs_with_custom_botorch_acqf_class": DISPATCH,
    "TestAxClient.test_default_generation_strategy_continuous": DISPATCH,
    "TestAxClient.test_default_generation_strategy_continuous_for_moo": DISPATCH,
    "TestAxClient.test_torch_device": "it reads a node's torch_device; in ours it has become the device policy",
    "ModelRegistryTest.test_ST_MTGP": (
        "it demands Ax's Acquisition class itself; multi-task models: tests/plugin/test_accelerate_strategies.py"
    ),
    "ModelRegistryTest.test_botorch_modular": BEST_POINT,
    "TestBestPointUtils.test_get_best_point_with_model_prediction": BEST_POINT,
    "TorchAdapterTest.test_evaluate_acquisition_function": (
        "it mocks qLogNoisyExpectedImprovement.forward; ours evaluates a closed form"
    ),
}

NEEDS_NUMPYRO = {
    "TestDispatchUtils.test_saas_options",
    "CrossValidationTest.test_efficient_loo_cv_with_fully_bayesian_model",
    "PairwiseCVTest.test_pairwise_cv_with_saas_pairwise_modellist",
    "ModelRegistryTest.test_SAASBO",
    "ModelRegistryTest.test_SAAS_MTGP",
}

SLOW = {
    "AdapterWithPLBOTest.test_plbo_with_learned_objective_and_extra_metrics",
    "CrossValidationTest.test_cross_validate_with_data_reducing_transforms",
    "MultiObjectiveTorchAdapterTest.test_infer_objective_thresholds",
    "TestAdapterFitMetrics.test_model_fit_metrics",
    "TestOptimize.test_optimize_search_space_exhausted",
    "TestGenerationStrategy.test_deduplication_and_fallback",
    "TorchAdapterTest.test_fitting_auxiliary_experiment_dataset",
    "InferReferencePointFromExperimentTest.test_get_tensor_converter_adapter",
    "ReportUtilsTest.test_get_standard_plots",
    "ReportUtilsTest.test_get_standard_plots_map_data",
    "ReportUtilsTest.test_get_standard_plots_moo",
    "ReportUtilsTest.test_get_standard_plots_moo_no_objective_thresholds",
    "ReportUtilsTest.test_get_standard_plots_moo_relative_constraints",
    "ReportUtilsTest.test_skip_contour_high_dimensional",
    "ReportUtilsTest.test_warn_if_unpredictable_metrics",
    "TestAxOrchestrator.test_sqa_storage_map_metric_experiment",
    "TestAxOrchestratorMultiTypeExperiment.test_sqa_storage_map_metric_experiment",
}

TESTS = [
    (module, case.__name__, test)
    for module in MODULES
    for case in vars(importlib.import_module(module)).values()
    if isinstance(case, type) and issubclass(case, unittest.TestCase) and case.__module__ == module
    for test in unittest.defaultTestLoader.getTestCaseNames(case)
]


def run(module_name: str, name: str, test: str) -> tuple[unittest.TestResult, Counter[str]]:
    """One of Ax's tests with ours in the place of Ax's, and how often parts of ours were called."""
    module = importlib.import_module(module_name)
    case: type[unittest.TestCase] = getattr(module, name)

    def set_up(self: unittest.TestCase) -> None:
        case.setUp(self)
        adapter_mocked_by(self)

    # the same name and module: some tests look themselves up
    ours = type(name, (case,), {"setUp": set_up, "__module__": case.__module__})
    result, calls = unittest.TestResult(), Counter[str]()
    with in_place_of_stock(module, calls):
        ours(test).run(result)
    return result, calls


@pytest.mark.filterwarnings("default")  # they are Ax's, about Ax's own tests
@pytest.mark.parametrize(("module", "case", "test"), TESTS, ids=[f"{case}-{test}" for _, case, test in TESTS])
def test_ax(module: str, case: str, test: str) -> None:
    name = f"{case}.{test}"
    if name in EXCLUDED:
        pytest.skip(EXCLUDED[name])
    if name in NEEDS_NUMPYRO and importlib.util.find_spec("numpyro") is None:
        pytest.skip("fully Bayesian models need BoTorch's extra fully_bayesian (NumPyro)")
    if name in SLOW and os.environ.get("GPU_GS_PEER") != "all":
        pytest.skip("slow: GPU_GS_PEER=all runs it")
    result, _ = run(module, case, test)
    problems = [text for _, text in (*result.errors, *result.failures)]
    assert not problems, "\n".join(problems)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("module", "case", "test"),
    [
        (
            "ax.generation_strategy.tests.test_generation_strategy",
            "TestGenerationStrategyWithoutAdapterMocks",
            "test_with_model_selection",
        ),
        ("ax.service.tests.test_best_point_utils", "TestBestPointUtils", "test_best_from_model_prediction"),
        ("ax.adapter.tests.test_torch_moo_adapter", "MultiObjectiveTorchAdapterTest", "test_hypervolume"),
        ("ax.api.tests.test_client", "TestClient", "test_get_next_trials_with_db"),
        ("ax.orchestration.tests.test_orchestrator", "TestAxOrchestrator", "test_get_fitted_adapter"),
        (
            "ax.orchestration.tests.test_orchestrator",
            "TestAxOrchestratorMultiTypeExperiment",
            "test_generate_candidates_works_for_iteration",
        ),
    ],
)
def test_ours_takes_part(module: str, case: str, test: str) -> None:
    result, calls = run(module, case, test)
    assert result.wasSuccessful()
    assert calls["WarmBoTorchGenerator"] > 0, "no generator of ours was fitted"


def test_what_is_named_exists() -> None:
    names = {f"{case}.{test}" for _, case, test in TESTS}
    assert set(EXCLUDED) <= names
    assert names >= SLOW | NEEDS_NUMPYRO
