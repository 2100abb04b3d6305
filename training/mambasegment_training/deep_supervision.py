"""Networks that are trained at several resolutions at once and used at the finest: the switch, and the weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from MambaSegmentLib.errors import ConfigError


def output_weights(network: nn.Module, given: Sequence[float] | None) -> tuple[float, ...]:
    """Weights of the losses at each output, largest first: those given, or nnU-Net's 1, 1/2, 1/4 ..., the last 0.

    Raises:
        ConfigError: a network without such outputs, or another number of weights.
    """
    count = _output_count(network)
    if given is None:
        halves = [0.5**level for level in range(count - 1)] + [0.0] if count > 1 else [1.0]
        return tuple(weight / sum(halves) for weight in halves)
    if len(given) != count:
        raise ConfigError(
            f"loss.deep_supervision_weights has {len(given)} numbers, but the network has {count} outputs"
        )
    return tuple(given)


def give_all_outputs(network: nn.Module) -> None:
    """From now on the network gives a list of logits, largest first."""
    _switch(network, True)


def give_finest_output(network: nn.Module) -> None:
    """From now on the network gives the finest logits alone."""
    if _gives_all(network):
        _switch(network, False)


@contextmanager
def finest_output(network: nn.Module) -> Iterator[None]:
    """Within, the network gives the finest logits alone, as the exported model will."""
    deep = _gives_all(network)
    if deep:
        _switch(network, False)
    try:
        yield
    finally:
        if deep:
            _switch(network, True)


def _output_count(network: Any) -> int:
    if hasattr(network, "deep_supervision"):  # the Swin-UMambas
        return len(network.heads)
    if hasattr(getattr(network, "config", None), "deep_supervision"):
        decoder = network.decoder
        return len(decoder.seg_layers) if hasattr(decoder, "seg_layers") else len(decoder)
    raise ConfigError(
        f"{getattr(network, 'architecture_name', type(network).__name__)} has one output; leave out deep supervision"
    )


def _switch(network: Any, on: bool) -> None:
    if hasattr(network, "deep_supervision"):
        network.deep_supervision = on
    elif hasattr(network.decoder, "seg_layers"):  # of the package dynamic-network-architectures
        network.decoder.deep_supervision = on
    else:
        network.config = replace(network.config, deep_supervision=on)


def _gives_all(network: Any) -> bool:
    if hasattr(network, "deep_supervision"):
        return bool(network.deep_supervision)
    decoder = getattr(network, "decoder", None)
    if decoder is not None and hasattr(decoder, "seg_layers"):
        return bool(decoder.deep_supervision)
    return bool(getattr(getattr(network, "config", None), "deep_supervision", False))
