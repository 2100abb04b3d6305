"""Tiles on their way to a GPU, and finished rows on their way back, while it computes something else.

On the CPU, where networks and images share a memory, both are no more than the tensors themselves.
"""

from collections.abc import Callable, Sequence

import torch


class TileFeeder:
    """Sends tiles to a device; to a GPU from pinned memory and on a stream of its own, so that nobody waits."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, tiles: Sequence[torch.Tensor]) -> torch.Tensor:
        """(C, K, J, I) each -> (B, C, K, J, I) on the device."""
        together = torch.stack(list(tiles))
        if self._stream is None:
            return together.to(self._device)
        with torch.cuda.stream(self._stream):
            sent = together.pin_memory().to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        sent.record_stream(computing)  # its memory may not be given to anybody before the network has read it
        return sent


class FetchedRows:
    """Rows on their way to the computer's memory.

    Args:
        rows: on any device; they may be overwritten at once.
        finish: done to the rows when they have come.
    """

    def __init__(self, rows: torch.Tensor, finish: Callable[[torch.Tensor], None]) -> None:
        self._finish = finish
        self._arrived: torch.cuda.Event | None = None
        if rows.is_cuda:
            self._rows = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            self._rows.copy_(rows, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._rows = rows.cpu().clone() if rows.device.type == "cpu" else rows.cpu()

    def wait(self) -> torch.Tensor:
        """The rows, finished."""
        if self._arrived is not None:
            self._arrived.synchronize()
        self._finish(self._rows)
        return self._rows
