"""The whole state goes into one file and comes back; another network's or a damaged file is refused."""

from pathlib import Path

import pytest
import torch
from mambasegment_training.average import WeightAverage
from mambasegment_training.checkpoint import TrainingState, load_state, load_weights, save_state, save_weights
from torch import nn

from MambaSegmentLib.errors import ConfigError


def a_state(optimizer: str = "adamw", width: int = 3, average: bool = True) -> TrainingState:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    if optimizer == "sgd":
        chosen: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    else:
        chosen = torch.optim.AdamW(network.parameters(), lr=0.1)
    return TrainingState(network, chosen, WeightAverage(network, 0.9) if average else None)


def train(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        state.optimizer.zero_grad(set_to_none=True)
        x = torch.arange(8.0).reshape(4, 2) + state.step
        state.network(x).square().mean().backward()
        state.optimizer.step()
        state.step += 1
        if state.average is not None:
            state.average.update(state.network)


def same_weights(one: TrainingState, other: TrainingState) -> bool:
    pairs = [(one.network.state_dict(), other.network.state_dict())]
    if one.average is not None and other.average is not None:
        pairs.append((one.average.tensors, other.average.tensors))
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_goes_on_as_if_never_interrupted(tmp_path: Path, optimizer):
    state = a_state(optimizer)
    train(state, 3)
    state.loss_sum, state.loss_steps, state.elapsed_s, state.best_dice, state.best_epoch = 1.5, 3, 7.25, 0.1 + 0.2, 2
    save_state(tmp_path / "last.safetensors", state)
    resumed = a_state(optimizer)
    load_state(tmp_path / "last.safetensors", resumed)
    assert resumed.numbers() == state.numbers()
    assert resumed.average.updates == 3
    train(state, 4)
    train(resumed, 4)
    assert same_weights(state, resumed)


def test_before_the_first_step(tmp_path):
    state = a_state()
    save_state(tmp_path / "s.safetensors", state)
    resumed = a_state()
    load_state(tmp_path / "s.safetensors", resumed)
    train(state, 2), train(resumed, 2)
    assert same_weights(state, resumed)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    state = a_state()
    save_state(path, state)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mambasegment_training.tensor_file.save_file", fail)
    train(state, 1)
    with pytest.raises(Exception, match="disk is full"):
        save_state(path, state)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 4}, "holds another network than the configuration names"),
        ({"optimizer": "sgd"}, "belongs to another optimiser"),
    ],
)
def test_a_state_of_something_else(tmp_path, changes, message):
    state = a_state()
    train(state, 2)
    save_state(tmp_path / "s.safetensors", state)
    with pytest.raises(ConfigError, match=message):
        load_state(tmp_path / "s.safetensors", a_state(**changes))


def test_an_average_that_was_not_stored(tmp_path):
    save_state(tmp_path / "s.safetensors", a_state(average=False))
    with pytest.raises(ConfigError, match="no average of this network's weights"):
        load_state(tmp_path / "s.safetensors", a_state())


def test_weights_alone_with_facts(tmp_path):
    network = nn.Linear(2, 2)
    save_weights(tmp_path / "best.safetensors", network.state_dict(), {"epoch": 3, "mean_dice": 0.5})
    weights, facts = load_weights(tmp_path / "best.safetensors")
    assert facts == {"epoch": 3, "mean_dice": 0.5}
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_weights_that_share_memory(tmp_path):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    save_weights(tmp_path / "w.safetensors", network.state_dict(), {})
    assert load_weights(tmp_path / "w.safetensors")[0].keys() == network.state_dict().keys()


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; there is nothing to go on from"):
        load_weights(tmp_path / "absent.safetensors")
    save_weights(tmp_path / "cut.safetensors", nn.Linear(2, 2).state_dict(), {})
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-5])
    with pytest.raises(ConfigError, match="is damaged or no checkpoint"):
        load_weights(tmp_path / "cut.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="is damaged or no checkpoint"):
        load_weights(tmp_path / "other.safetensors")
