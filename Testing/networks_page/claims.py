"""The papers' figures, and ours by the papers' own counting rules."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from MambaSegmentLib.models import build_model
from MambaSegmentLib.models.canonical import CANONICAL, Canonical
from MambaSegmentLib.models.counts import (
    Operations,
    count,
    count_operations,
    count_parameters,
    without_data,
)

from .first_lightm_unet import first_lightm_unet, hide_from_a_profiler


@dataclass(frozen=True)
class Claim:
    """A figure of a paper.

    Attributes:
        network, source: which, and where it stands.
        claimed: as printed there.
        rule: how to count to get it.
        by_the_rule: what we get so.
        true: what the network has by our rule.
    """

    network: str
    source: str
    claimed: str
    rule: str
    by_the_rule: str
    true: str


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Count everything, once."""
    return (*_lightm(), *_swin_umambas(), *_clinix())


def claims_table(rows: Sequence[Claim]) -> str:
    lines = [
        "| network | claimed in | claim | the rule behind it | ours by that rule | in truth |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {r.network} | {r.source} | {r.claimed} | {r.rule} | {r.by_the_rule} | {r.true} |" for r in rows]
    return "\n".join(lines)


def counts_table() -> str:
    """Every canonical network by our rule."""
    lines = [
        "| network | input | parameters | multiply-adds | convolution | linear | norms | scan | memory | in training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for network in CANONICAL:
        counts = count(_without_weights(network), network.input_shape)
        work = counts.operations
        cells = [
            network.title,
            " × ".join(map(str, network.input_shape[1:])),
            _millions(counts.parameters),
            *(_giga(n) for n in (work.multiply_adds, work.convolution, work.linear, work.normalisation, work.scan)),
            f"{counts.inference_memory_bytes / 1e9:.2f} GB",
            f"{counts.training_memory_bytes / 1e9:.2f} GB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def vmamba_rule(work: Operations) -> int:
    """As the Swin-UMamba authors count: fvcore's multiply-adds, and for the scan 9 L D N + L D (with the skip D).

    fvcore counts convolutions and products once a multiply-add, and 5 for each normalised element, 4 without weights.
    """
    norms = 5 * work.norm_elements + 4 * work.plain_norm_elements
    return work.convolution + work.linear + norms + 9 * work.scan_states + work.skipped_scan_tokens


def thop_rule(net: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Parameters and multiply-adds of a LightM-UNet as the thop profiler gives them where Mamba is a fused kernel.

    Products and convolutions, 4 for each element that a LayerNorm normalises, 11 for each that is enlarged bilinearly
    and none for trilinearly; the whole batch.
    """
    shadow = without_data(net)
    parameters = hide_from_a_profiler(shadow)
    work = count_operations(shadow, shape)
    enlarged = 0
    batch, _, *spatial = shape
    if len(spatial) == 2:
        levels = list(reversed(shadow.decoder))
        enlarged = sum(
            batch * level.reduce.out_channels * math.prod(size // 2**row for size in spatial)
            for row, level in enumerate(levels)
        )
    return parameters, work.convolution + work.linear + 4 * work.norm_elements + 11 * enlarged


def _lightm() -> list[Claim]:
    rows = []
    for dims, shape, classes, claimed in (
        (3, (2, 1, 128, 128, 128), 3, "1.87 M, 457.62 G"),
        (2, (12, 3, 512, 512), 2, "1.09 M, 267.19 G"),
    ):
        first = first_lightm_unet(dims, shape[1], classes)
        options = {"spatial_dims": dims, "in_channels": shape[1], "num_classes": classes}
        with torch.device("meta"):
            second = build_model("lightm_unet", options)
        for version, net in (("first code", first), ("this code", second)):
            parameters, work = thop_rule(net, shape)
            one = count_operations(net.eval(), (1, *shape[1:]))
            rows.append(
                Claim(
                    f"LightM-UNet {dims}D, {version}",
                    "its paper" if net is first else "nowhere",
                    claimed if net is first else "–",
                    f"thop, blind to what is inside Mamba; batch of {shape[0]}, {shape[1]} channel"
                    + ("s" if shape[1] > 1 else ""),
                    f"{_millions(parameters)}, {work / 1e9:.2f} G",
                    f"{_millions(count_parameters(net))}, {_giga(one.multiply_adds)}",
                )
            )
    counted = _millions(count_parameters(_without_weights(CANONICAL[0])))
    truth = _truth(CANONICAL[0])
    return [*rows, Claim("LightM-UNet 3D, this code", "MambaClinix' paper", "5 M", "parameters", counted, truth)]


def _swin_umambas() -> list[Claim]:
    rows = []
    for title, claimed in (("Swin-UMamba", "60 M, 68.0 G"), ("Swin-UMamba†", "27 M, 18.9 G")):
        network = _titled(title)
        net = _without_weights(network, deep_supervision=True)
        work = count_operations(net.eval(), network.input_shape)
        rows.append(
            Claim(
                title,
                "its paper",
                claimed,
                "fvcore, scan at 9 L D N + L D; all heads",
                f"{_millions(count_parameters(net))}, {vmamba_rule(work) / 1e9:.2f} G",
                f"{_millions(count_parameters(net))}, {_giga(work.multiply_adds)}",
            )
        )
    return rows


def _clinix() -> list[Claim]:
    network, bot = _titled("MambaClinix"), _titled("U-Mamba_Bot 3D")
    net = _without_weights(network)
    encoder = count_parameters(nn.ModuleList([net.stem, net.stages, net.mixers, net.last_hgcn_norm]))
    whole, of_bot = (_millions(count_parameters(_without_weights(one))) for one in (network, bot))
    not_reproduced = "near the encoder's parameters; not reproduced"
    truth = _truth(network)
    return [
        Claim("MambaClinix", "its table 3", "49 M", "parameters", whole, truth),
        Claim("MambaClinix", "its table 4", "17.41 M, 2085.79 G", not_reproduced, _millions(encoder), truth),
        Claim("U-Mamba_Bot 3D", "MambaClinix' paper", "43 M", "parameters", of_bot, _truth(bot)),
    ]


def _truth(network: Canonical) -> str:
    net = _without_weights(network)
    return (
        f"{_millions(count_parameters(net))}, {_giga(count_operations(net.eval(), network.input_shape).multiply_adds)}"
    )


def _titled(title: str) -> Canonical:
    return next(network for network in CANONICAL if network.title == title)


def _without_weights(network: Canonical, **more: bool) -> nn.Module:
    with torch.device("meta"):
        return build_model(network.architecture, {**network.options, **more})


def _millions(number: int) -> str:
    return f"{number / 1e6:.3f} M"


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f} G"
