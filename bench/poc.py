"""The proof of concept reproduced, taken apart and mended: every figure that ``docs/poc.md`` quotes.

    python -m bench.poc                    # all of it; the Gaussian process in ten folds takes most of the time
    python -m bench.poc --quick            # without the ten folds of the Gaussian process
    python -m bench.poc data notebook      # some sections
    python -m bench.poc --json

The notebook, as its figures say: a Gaussian process classifier (1.0 * RBF(1.0)), a scaler fitted on all rows, one split
of 70 to 30 with seed 99, accuracy as the only figure; at inference the readings go in without the scaler.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.scoring import Scorer
from fieldwatch_trainer import metrics
from fieldwatch_trainer.models.folds import folds
from fieldwatch_trainer.models.table import TableClassifier
from fieldwatch_trainer.score import score_table
from fieldwatch_trainer.table import Table, read_table
from fieldwatch_trainer.train import train_table
from numpy.typing import NDArray

from bench.smd import data_folder

SEED = 99
"""The notebook's."""
FOLDS = 10
Floats = NDArray[np.float64]


class Poc:
    """The two files, and what more than one section needs of them."""

    def __init__(self) -> None:
        folder = data_folder() / "poc"
        self.history_file, self.latest_file = folder / "historical_sensor_data.csv", folder / "latest_sensor_data.csv"
        self.history: Table = read_table(self.history_file, "label")
        self.latest: Table = read_table(self.latest_file)
        assert self.history.label is not None
        self.x, self.y = self.history.values, self.history.label.astype(int)
        self.new = self.latest.values

    def split(self) -> tuple[Floats, Floats, Any, Any]:
        """Return the notebook's split."""
        from sklearn.model_selection import train_test_split

        return tuple(train_test_split(self.x, self.y, test_size=0.3, random_state=SEED))  # type: ignore[return-value]

    def notebook(self) -> tuple[Any, Any]:
        """Return the notebook's scaler, fitted on all rows, and its classifier, fitted on the training part."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(self.x)
        x, _, y, _ = self.split()
        return scaler, gaussian_process().fit(scaler.transform(x), y)


def gaussian_process() -> Any:
    """Return the notebook's classifier."""
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.gaussian_process.kernels import RBF

    return GaussianProcessClassifier(1.0 * RBF(1.0), random_state=SEED)


def figures(y: Any, p: Floats) -> dict[str, float]:
    """Return what a probability is worth; recall and precision at one half."""
    positive, raised = y == 1, p >= 0.5
    right = float((raised & positive).sum())
    return {
        "accuracy": float((raised == positive).mean()),
        "log_loss": metrics.log_loss(positive, p),
        "brier": metrics.brier(positive, p),
        "calibration_error": metrics.calibration_error(metrics.reliability(positive, p)),
        "average_precision": metrics.average_precision(positive, p) or 0.0,
        "recall": right / max(float(positive.sum()), 1.0),
        "precision": right / max(float(raised.sum()), 1.0),
    }


# ---- sections ------------------------------------------------------------------------------------------------------


def data(poc: Poc, quick: bool) -> dict[str, Any]:
    """What the two files hold, and how they differ."""
    from scipy.stats import ks_2samp
    from sklearn.neighbors import NearestNeighbors

    x, new = poc.x, poc.new
    low, high = x.min(axis=0), x.max(axis=0)
    near = NearestNeighbors(n_neighbors=5).fit(x)
    calm, strange = near.kneighbors()[0].mean(axis=1), near.kneighbors(new)[0].mean(axis=1)  # a row is not its own
    p = (1 + (calm[None, :] >= strange[:, None]).sum(axis=1)) / (1 + len(calm))
    return {
        "rows": len(x), "faulty": int(poc.y.sum()), "missing": int(np.isnan(x).sum()),
        "duplicates": len(x) - len(np.unique(x, axis=0)),
        "mean": x.mean(axis=0).tolist(), "sd": x.std(axis=0).tolist(),
        "latest_rows": len(new), "latest_mean": new.mean(axis=0).tolist(), "latest_sd": new.std(axis=0).tolist(),
        "ks_p_value": [float(ks_2samp(x[:, i], new[:, i]).pvalue) for i in range(x.shape[1])],
        "latest_outside_the_box": int(((new < low) | (new > high)).any(axis=1).sum()),
        "latest_conformal_p_below_.01": int((p < 0.01).sum()),
        "latest_conformal_p_below_.05": int((p < 0.05).sum()),
        "expected_below_.01": round(0.01 * len(new), 2),
    }  # fmt: skip


def notebook(poc: Poc, quick: bool) -> dict[str, Any]:
    """The notebook's own figures, and what its two mistakes with the scaler do."""
    from sklearn.preprocessing import StandardScaler

    begin = time.perf_counter()
    scaler, model = poc.notebook()
    fit = time.perf_counter() - begin
    _, test, _, truth = poc.split()
    told = figures(truth, model.predict_proba(scaler.transform(test))[:, 1])
    begin = time.perf_counter()
    for row in scaler.transform(test)[:20]:
        model.predict_proba(row[None, :])
    each = (time.perf_counter() - begin) / 20
    train, *_ = poc.split()
    honest = StandardScaler().fit(train)
    scaled, unscaled = (model.predict(rows) for rows in (scaler.transform(poc.new), poc.new))
    units = np.array([25.0, 400.0]), np.array([8.0, 90.0])
    unit = StandardScaler().fit(poc.x * units[1] + units[0])
    in_units = poc.new * units[1] + units[0]
    return told | {
        "fit_s": fit,
        "ms_a_row": 1000 * each,
        "scaler_shift_by_test_rows_sd": float(np.abs((scaler.mean_ - honest.mean_) / honest.scale_).max()),
        "latest_decisions_that_the_missing_scaler_changes": int((scaled != unscaled).sum()),
        "the_same_in_other_units": int((model.predict(unit.transform(in_units)) != model.predict(in_units)).sum()),
        "latest_called_faulty": int((unscaled == 1).sum()),
        "latest_highest_probability": float(model.predict_proba(poc.new)[:, 1].max()),
    }


def splits(poc: Poc, quick: bool) -> dict[str, Any]:
    """How far one split of 70 to 30 can be from the next: 200 seeds with a kernel model that fits in milliseconds."""
    from sklearn.model_selection import train_test_split

    found = []
    for seed in range(20 if quick else 200):
        train, test, y, truth = train_test_split(poc.x, poc.y, test_size=0.3, random_state=seed)
        found.append(figures(truth, kernel_logistic().fit(train, y).predict_proba(test)[:, 1])["accuracy"])
    return {
        "accuracy_mean": float(np.mean(found)), "sd": float(np.std(found, ddof=1)),
        "least": float(min(found)), "most": float(max(found)), "seeds": len(found),
    }  # fmt: skip


def alternatives(poc: Poc, quick: bool) -> dict[str, Any]:
    """Ten folds, everything fitted inside them; the last line is what ``train --csv`` puts into a bundle."""
    found: dict[str, Any] = {}
    for name, make in models().items():
        if name == "Gaussian process" and quick:
            continue
        found[name] = _cross_validated(poc, make)
        print(f"  {name}: {_line(found[name])}", file=sys.stderr, flush=True)
    return found


def mended(poc: Poc, quick: bool) -> dict[str, Any]:
    """``train --csv`` and ``score --csv`` on the same files, as a person runs them."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        begin = time.perf_counter()
        run = train_table(poc.history, "label", out)
        fit = time.perf_counter() - begin
        bundle = read_bundle(out / "bundle.zip")
        score_table(bundle, poc.latest, Path(scratch) / "scores.parquet")
        lines = pq.read_table(Path(scratch) / "scores.parquet").to_pylist()
        scorer = Scorer(bundle)
        scorer.score(poc.new[:1])
        begin = time.perf_counter()
        for row in poc.new:
            scorer.score(row[None, :])
        each = (time.perf_counter() - begin) / len(poc.new)
    verdicts: dict[str, dict[str, int]] = {}
    for line in lines:
        of_model = verdicts.setdefault(line["model"], {})
        of_model[line["verdict"]] = of_model.get(line["verdict"], 0) + 1
    return run["table"]["mean"] | {
        "train_with_all_checks_s": fit,
        "bundle_kB": run["bytes"] / 1024,
        "us_a_row_both_models": 1e6 * each,
        "latest": verdicts,
        "gates": {gate["id"]: gate["status"] for gate in run["gates"]},
    }


# ---- models --------------------------------------------------------------------------------------------------------


class Ours:
    """The classifier that ``train --csv`` fits."""

    def __init__(self, sensors: list[str]) -> None:
        self._sensors = sensors

    def fit(self, x: Floats, y: Any) -> Ours:
        """Fit on rows ``[N, S]`` and labels 0 or 1."""
        from fieldwatch_trainer.table import TableData

        self._fitted = TableClassifier().fit(TableData("poc", self._sensors, x, y.astype(np.int8)))
        return self

    def predict_proba(self, x: Floats) -> Floats:
        """Return the probabilities ``[N, 2]``, as scikit-learn does."""
        p = self._fitted.reference(x)
        return np.stack((1 - p, p), axis=1)


def kernel_logistic() -> Any:
    """Return a logistic regression on 100 random kernel columns."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = Nystroem(gamma=2.0, n_components=100, random_state=SEED)
    return make_pipeline(StandardScaler(), columns, LogisticRegression(C=10, max_iter=2000))


def models() -> dict[str, Callable[[], Any]]:
    """Return what is tried, each with its scaler inside the fold."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def scaled(model: Any) -> Any:
        return make_pipeline(StandardScaler(), model)

    return {
        "base rate": lambda: None,
        "logistic regression": lambda: scaled(LogisticRegression()),
        "Gaussian process": lambda: scaled(gaussian_process()),
        "k-nearest neighbours, 15": lambda: scaled(KNeighborsClassifier(15)),
        "support vectors, RBF": lambda: scaled(CalibratedClassifierCV(SVC(), ensemble=False)),
        "random forest, 300": lambda: RandomForestClassifier(300, random_state=SEED),
        "boosted trees": lambda: HistGradientBoostingClassifier(random_state=SEED),
        "neural network, 32-32": lambda: scaled(MLPClassifier((32, 32), max_iter=2000, random_state=SEED)),
        "kernel logistic, Nystroem 100": kernel_logistic,
        "train --csv": lambda: Ours(["sensor_1", "sensor_2"]),
    }


def _cross_validated(poc: Poc, make: Callable[[], Any]) -> dict[str, float]:
    p, fit, predict = np.zeros(len(poc.y)), 0.0, 0.0
    for test in folds(poc.y.astype(np.int8), FOLDS, SEED):
        train = np.setdiff1d(np.arange(len(poc.y)), test)
        begin = time.process_time()
        model = make()
        if model is None:
            p[test] = poc.y[train].mean()
            continue
        model.fit(poc.x[train], poc.y[train])
        fit += time.process_time() - begin
        begin = time.process_time()
        p[test] = model.predict_proba(poc.x[test])[:, 1]
        predict += time.process_time() - begin
    return figures(poc.y, p) | {"fit_cpu_s": fit / FOLDS, "us_a_row_in_a_batch": 1e6 * predict / len(p)}


SECTIONS: dict[str, Callable[[Poc, bool], dict[str, Any]]] = {
    "data": data, "notebook": notebook, "splits": splits, "alternatives": alternatives, "mended": mended,
}  # fmt: skip


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, int | float))


def main() -> int:
    """Print the sections that are asked for."""
    about = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=about, epilog="example: python -m bench.poc data")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="without the ten folds of the Gaussian process")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := sorted(set(args.sections) - set(SECTIONS)):
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    poc = Poc()
    results = {}
    for name in args.sections or SECTIONS:
        print(f"{name} …", file=sys.stderr, flush=True)
        results[name] = SECTIONS[name](poc, args.quick)
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    for name, values in results.items():
        print(f"\n{name}: {(SECTIONS[name].__doc__ or '').splitlines()[0]}")
        for key, value in values.items():
            print(f"  {key}: {_line(value) if name == 'alternatives' else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
