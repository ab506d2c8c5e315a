"""The shipped objectives, on the real data that scikit-learn brings along (no download).

Each has a tuning set, on which the objective cross-validates over fixed folds, and a held-out set that only the
``*_held_out`` function reads. Splits and folds never change, so an objective is a pure function of its parameters.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from gpu_gs.errors import ConfigError

HELD_OUT = 0.2
"""Share of the rows that tuning never sees."""

MAX_ITERATIONS = 100_000
"""Where libsvm gives up: without a limit, a polynomial kernel with large gamma and C keeps it busy for many minutes, in
compiled code that Ctrl-C cannot reach. With it no trial of ``diabetes_svr`` took more than 2 s of processor time."""


def _sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ConfigError(
            ["the shipped tasks need scikit-learn; install it with: pip install 'gpu-gs[tasks]'"]
        ) from None


@contextmanager
def _giving_up_is_no_news() -> Iterator[None]:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# ---------------------------------------------------------------------------------------------- diabetes (SVR)


@cache
def _diabetes() -> tuple[Any, Any, Any, Any]:
    _sklearn()
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    X, y = load_diabetes(return_X_y=True)
    return tuple(train_test_split(X, y, test_size=HELD_OUT, random_state=0))


def _svr(parameters: Mapping[str, Any]) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    regressor = SVR(
        C=parameters["C"],
        gamma=parameters["gamma"],
        epsilon=parameters["epsilon"],
        kernel=parameters["kernel"],
        max_iter=MAX_ITERATIONS,
    )
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor), transformer=StandardScaler())


def diabetes_svr(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Tunes a support-vector regressor: root mean squared error over 5 fixed folds, in the target's own units."""
    X, _, y, _ = _diabetes()
    from sklearn.model_selection import KFold, cross_val_predict

    with _giving_up_is_no_news():
        predicted = cross_val_predict(_svr(parameters), X, y, cv=KFold(5, shuffle=True, random_state=0))
    return {"cv_rmse": float(np.sqrt(np.mean((y - predicted) ** 2)))}


def diabetes_svr_held_out(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Error and explained variance on the rows that tuning never saw."""
    X, X_out, y, y_out = _diabetes()
    with _giving_up_is_no_news():
        predicted = _svr(parameters).fit(X, y).predict(X_out)
    residual, total = np.sum((y_out - predicted) ** 2), np.sum((y_out - y_out.mean()) ** 2)
    return {"rmse": float(np.sqrt(residual / len(y_out))), "r2": float(1 - residual / total)}


# ----------------------------------------------------------------------------------------------- digits (mixed)

DIGITS_ROWS = 600
"""Images used for tuning, of 1,797: enough to tell settings apart, few enough for a trial of a fraction of a second."""


@cache
def _digits() -> tuple[Any, Any, Any, Any]:
    _sklearn()
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    return tuple(train_test_split(X / 16.0, y, train_size=DIGITS_ROWS, random_state=0, stratify=y))


def _svc(parameters: Mapping[str, Any]) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    reduction = PCA(n_components=parameters["components"], whiten=parameters["whiten"], random_state=0)
    classifier = SVC(
        C=parameters["C"],
        gamma=parameters["gamma"],
        kernel=parameters["kernel"],
        degree=parameters["degree"],
        coef0=parameters["coef0"],
    )
    return make_pipeline(reduction, classifier)


def digits(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Tunes principal components and a support-vector classifier: error rate over 5 fixed folds."""
    X, _, y, _ = _digits()
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return {"cv_error": float(np.mean(cross_val_predict(_svc(parameters), X, y, cv=folds) != y))}


def digits_held_out(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Error rate on the images that tuning never saw."""
    X, X_out, y, y_out = _digits()
    return {"error": float(np.mean(_svc(parameters).fit(X, y).predict(X_out) != y_out))}


# ------------------------------------------------------------------------------------ breast cancer (two goals)


@cache
def _breast_cancer() -> tuple[Any, Any, Any, Any]:
    _sklearn()
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    X, y = load_breast_cancer(return_X_y=True)
    return tuple(train_test_split(X, y, test_size=HELD_OUT, random_state=0, stratify=y))


def _forest(parameters: Mapping[str, Any]) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=parameters["trees"],
        max_depth=parameters["max_depth"],
        min_samples_leaf=parameters["min_leaf"],
        max_features=parameters["features"],
        criterion=parameters["criterion"],
        random_state=0,
        n_jobs=1,
    )


def _nodes(forest: Any) -> int:
    return sum(tree.tree_.node_count for tree in forest.estimators_)


def breast_cancer(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Tunes a random forest for two goals: log loss over 5 fixed folds, and the size of the forest.

    ``log10_nodes`` is the decimal logarithm of the mean number of tree nodes in a fold's forest.
    """
    X, _, y, _ = _breast_cancer()
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    wrong, nodes = 0.0, 0.0
    for train, test in folds:
        forest = _forest(parameters).fit(X[train], y[train])
        wrong += float(np.sum(_log_losses(forest, X[test], y[test])))
        nodes += _nodes(forest) / len(folds)
    return {"cv_log_loss": wrong / len(y), "log10_nodes": math.log10(nodes)}


def breast_cancer_held_out(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Log loss and error rate on the rows that tuning never saw, and the size of the forest fitted on all others."""
    X, X_out, y, y_out = _breast_cancer()
    forest = _forest(parameters).fit(X, y)
    return {
        "log_loss": float(np.mean(_log_losses(forest, X_out, y_out))),
        "error": float(np.mean(forest.predict(X_out) != y_out)),
        "nodes": float(_nodes(forest)),
    }


def _log_losses(forest: Any, X: Any, y: Any) -> Any:
    """The log loss of each row; a share of trees is kept off 0 and 1 by half a vote."""
    share = forest.predict_proba(X)[:, 1]
    half = 0.5 / (len(forest.estimators_) + 1)
    share = np.clip(share, half, 1 - half)
    return -np.where(y == 1, np.log(share), np.log1p(-share))
