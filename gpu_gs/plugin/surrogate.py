"""Ax's Surrogate with a warm-started fit.

``Surrogate._construct_model`` builds a BoTorch model and fits it from its default initial values; no state can be
handed in without also loading it into the fitted model's buffers. Overriding that one private method is the only way
to fit from another start, so it is done here and nowhere else; ``tests/plugin/test_upstream.py`` notices when the
method changes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import (
    Surrogate,
    SurrogateSpec,
    submodel_input_constructor,
)
from ax.generators.torch.botorch_modular.utils import (
    ModelConfig,
    copy_model_config_with_default_values,
    fit_botorch_model,
)
from botorch.models.gpytorch import GPyTorchModel
from botorch.models.model import Model
from botorch.utils.datasets import SupervisedDataset
from botorch.utils.transforms import is_fully_bayesian
from gpytorch.models import ExactGP
from torch import Tensor

from gpu_gs.gp.fit import FitOptions, FitResult, export_hyperparameters, fit

Hyperparameters = dict[str, Any]


def model_key(outcome_names: tuple[str, ...], config: ModelConfig) -> str:
    """The name under which a submodel's hyperparameters are kept: its outcomes and its model configuration.

    ``config`` is the one given by the user (an unnamed one is told by a digest of its contents).
    """
    name = config.name or hashlib.sha256(str(config).encode()).hexdigest()[:12]
    return "|".join(outcome_names) + "@" + name


def is_exact_gp(model: Model) -> bool:
    """Whether the model has one set of hyperparameters, to be fitted by maximizing a marginal likelihood."""
    return isinstance(model, GPyTorchModel) and isinstance(model, ExactGP) and not is_fully_bayesian(model)


class WarmSurrogate(Surrogate):
    """A Surrogate whose GPs start their fit from the hyperparameters in ``warm``.

    Attributes:
        warm: Hyperparameters by ``model_key``, as of the last ask. Only an ask replaces them: a fit in between (for
            an analysis, say) starts from them but leaves them alone, so that it cannot change the next candidate.
        fit_options: Iteration limits.
        fits: The outcome of the last fit of each submodel, by ``model_key``.
    """

    def __init__(
        self,
        surrogate_spec: SurrogateSpec | None = None,
        refit_on_cv: bool = False,
        warm_start_refit: bool = True,
        metric_to_best_model_config: dict[str, ModelConfig] | None = None,
        warm: Mapping[str, Hyperparameters] | None = None,
        fit_options: FitOptions | None = None,
    ) -> None:
        super().__init__(
            surrogate_spec=surrogate_spec,
            refit_on_cv=refit_on_cv,
            warm_start_refit=warm_start_refit,
            metric_to_best_model_config=metric_to_best_model_config,
        )
        self.warm: dict[str, Hyperparameters] = dict(warm or {})
        self.fit_options = fit_options or FitOptions()
        self.fits: dict[str, FitResult] = {}

    def _serialize_attributes_as_kwargs(self) -> dict[str, Any]:
        return {
            **super()._serialize_attributes_as_kwargs(),
            "warm": self.warm,
            "fit_options": self.fit_options,
        }

    def _construct_model(
        self,
        dataset: SupervisedDataset,
        search_space_digest: SearchSpaceDigest,
        model_config: ModelConfig,
        state_dict: Mapping[str, Tensor] | None,
        refit: bool,
    ) -> Model:
        if state_dict is not None or not refit or self._dataset_matches_cache(dataset=dataset):
            return super()._construct_model(
                dataset=dataset,
                search_space_digest=search_space_digest,
                model_config=model_config,
                state_dict=state_dict,
                refit=refit,
            )
        config = copy_model_config_with_default_values(
            model_config=model_config,
            dataset=dataset,
            search_space_digest=search_space_digest,
        )
        inputs = submodel_input_constructor(
            config.botorch_model_class,
            model_config=config,
            dataset=dataset,
            search_space_digest=search_space_digest,
            surrogate=self,
        )
        assert config.botorch_model_class is not None  # copy_model_config_with_default_values chose one
        model: Model = config.botorch_model_class(**inputs)
        if not is_exact_gp(model):
            fit_botorch_model(model, mll_class=config.mll_class, mll_options=config.mll_options)
            return model
        key = model_key(tuple(dataset.outcome_names), model_config)
        self.fits[key] = fit(
            model,
            config.mll_class,
            config.mll_options,
            warm=self.warm.get(key),
            options=self.fit_options,
        )
        return model

    def export_warm(self) -> dict[str, Hyperparameters]:
        """The hyperparameters of the fitted submodels, exact and ready for JSON."""
        exported = {}
        for outcomes, model in self._submodels.items():
            config = self.metric_to_best_model_config.get(outcomes[0])
            key = None if config is None else model_key(outcomes, config)
            if key is not None and key in self.fits:
                exported[key] = export_hyperparameters(model)
        return exported
