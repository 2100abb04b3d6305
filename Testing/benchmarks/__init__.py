"""Benchmarks, run as the programs run: their threads wait as those of `mambasegment` and `mambatrain` do."""

from MambaSegmentLib.openmp import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before anything imports torch
