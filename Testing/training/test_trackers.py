"""What MLflow and Weights & Biases are told; the two libraries are replaced by fakes of the functions that we call."""

import sys
from types import SimpleNamespace

import pytest
from mambasegment_training.loop import fit
from mambasegment_training.trackers import trackers_of

from MambaSegmentLib.errors import ConfigError


class FakeMlflow:
    """Stands in for the package mlflow, and notes the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def set_experiment(self, name: str) -> None:
        self.calls.append(("experiment", name))

    def start_run(self, run_id: str | None, run_name: str) -> SimpleNamespace:
        self.calls.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def log_params(self, params: dict) -> None:
        self.params = params

    def log_metrics(self, metrics: dict, step: int) -> None:
        self.calls.append(("metrics", metrics, step))

    def end_run(self, status: str) -> None:
        self.calls.append(("end", status))


class FakeWandb:
    """Stands in for the package wandb, and for its run."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def init(self, **options) -> "FakeWandb":
        self.options = options
        return self

    def log(self, metrics: dict, step: int) -> None:
        self.calls.append(("metrics", metrics, step))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


def test_mlflow(tiny_config, tmp_path, monkeypatch):
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    config = tiny_config(watch={"mlflow": True, "project": "livers"})
    (tracker,) = trackers_of(config, tmp_path)
    tracker.log({"loss": 0.5, "dice/mean": 0.75}, 3)
    tracker.close(failed=False)
    (again,) = trackers_of(config, tmp_path)
    again.close(failed=True)
    assert fake.calls == [
        ("experiment", "livers"),
        ("start", None, tmp_path.name),
        ("metrics", {"loss": 0.5, "dice.mean": 0.75}, 3),
        ("end", "FINISHED"),
        ("experiment", "livers"),
        ("start", "abc", tmp_path.name),  # the same page
        ("end", "FAILED"),
    ]
    assert fake.params["optimizer.learning_rate"] == "0.005"


def test_weights_and_biases(tiny_config, tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    ids = []
    for _ in range(2):
        (tracker,) = trackers_of(tiny_config(watch={"wandb": True}), tmp_path)
        ids.append(fake.options["id"])
    tracker.log({"loss": 0.5}, 3)
    tracker.close(failed=False)
    assert fake.calls == [("metrics", {"loss": 0.5}, 3), ("finish", 0)]
    assert (fake.options["project"], fake.options["resume"], ids[0]) == ("mambasegment", "allow", ids[1])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_library_that_is_not_there(prepared, tiny_config, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # what Python keeps of a package that cannot be imported
    with pytest.raises(ConfigError, match=f"needs the package {name}: `pip install {name}`"):
        fit(prepared.folder, tmp_path / "run", tiny_config(watch={name: True}), device="cpu")
    assert not (tmp_path / "run").exists()
