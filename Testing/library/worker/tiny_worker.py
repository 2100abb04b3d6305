"""`python tiny_worker.py --folder …`: a worker that also knows networks made for tests.

"tiny" is the network of conftest.py. "acting" gives the same answers, but first does something in each of its layers:
sleeps, raises, crashes, or asks for more memory than there is.
"""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from typing import Any


def build_test_net(name: str, options: Mapping[str, Any]) -> Any:
    from torch import nn

    from Testing.library.conftest import TinyNet, build_tiny_net

    class Layer(nn.Module):
        def forward(self, x: Any) -> Any:
            time.sleep(options.get("sleep_s", 0))
            if options.get("raises"):
                raise ZeroDivisionError("a bug")
            if options.get("crashes"):
                ctypes.string_at(0)  # as a mistake in a C library: the system ends the process
            if options.get("greedy"):
                x.new_empty(1 << 50)
            return x

    class ActingNet(TinyNet):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*(Layer() for _ in range(options.get("layers", 1))))

        def forward(self, x: Any) -> Any:
            return super().forward(self.layers(x))

    return ActingNet() if name == "acting" else build_tiny_net(name, options)


def main() -> None:
    from MambaSegmentLib.cli import main as mambasegment
    from MambaSegmentLib.worker.server import Server

    prepare = Server.prepare

    def prepare_for_tests(self: Server) -> Any:
        ready = prepare(self)
        import MambaSegmentLib.models

        MambaSegmentLib.models.build_model = build_test_net
        print("a library that prints does not break the protocol")
        os.write(1, b"nor does one that writes to descriptor 1\n")
        return ready

    Server.prepare = prepare_for_tests  # type: ignore[method-assign]
    sys.exit(mambasegment(["worker", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
