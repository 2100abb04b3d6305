"""How PyTorch's threads wait for each other."""

import os


def let_waiting_threads_sleep() -> None:
    """Ask OpenMP to put threads without work to sleep instead of letting them spin.

    After each operator PyTorch's threads spin for some milliseconds, on cores that the compiled kernels want for their
    own threads: a training step on 2 cores took 1.15 s with spinning and 0.96 s without. Read once, when torch is
    imported, so programs call this first; what the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
