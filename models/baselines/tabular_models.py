"""What a table of hand-made features can say: logistic regression and gradient-boosted trees."""

from collections.abc import Callable

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from models.data.log import Bools, Ints

Floats = NDArray[np.float64]
Table = NDArray[np.float32]
Predict = Callable[[Table], Floats]
_PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
}
_MOST, _PATIENCE = 1500, 60  # trees; rounds without a better log loss


def logistic(x: Table, label: Bools, user: Ints, seed: int) -> Predict:
    """Fit a logistic regression on the features' ranks, which no outlier moves."""
    model = make_pipeline(
        QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=seed),
        LogisticRegression(C=0.1, max_iter=300),
    )
    model.fit(x, label)
    return lambda rows: np.asarray(model.predict_proba(rows)[:, 1])


def boosted(x: Table, label: Bools, user: Ints, seed: int) -> Predict:
    """Fit LightGBM (Ke et al., 2017), as many trees as suit a fifth of the users, left out at first."""
    parameters = _PARAMETERS | {"seed": seed}
    shoppers = np.random.default_rng(seed).permutation(np.unique(user))
    aside = np.isin(user, shoppers[: max(len(shoppers) // 5, 1)])
    kept = lightgbm.Dataset(x[~aside], label[~aside])
    trial = lightgbm.train(
        parameters,
        kept,
        _MOST,
        valid_sets=[lightgbm.Dataset(x[aside], label[aside], reference=kept)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    model = lightgbm.train(parameters, lightgbm.Dataset(x, label), max(trial.best_iteration, 1))
    return lambda rows: np.asarray(model.predict(rows, num_threads=1))


TABULAR = {"lightgbm": boosted, "logistic": logistic}
