"""The learning rate at each step."""

import math

from .config import ScheduleConfig


def learning_rate(config: ScheduleConfig, peak: float, step: int, fraction: float) -> float:
    """Rise in a line over the warm-up steps, then fall with the fraction of the training that is done.

    Args:
        peak: the rate after the warm-up.
        step: optimiser steps taken so far; the first of `warmup_steps` already moves the weights.
        fraction: 0 at the start, 1 at the end: of all steps, or of the time budget.
    """
    done = min(max(fraction, 0.0), 1.0)
    shapes = {
        "constant": 1.0,
        "poly": (1.0 - done) ** config.power,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }
    floor = config.final_fraction
    rate = peak * (floor + (1.0 - floor) * shapes[config.name])
    if step < config.warmup_steps:
        rate = min(rate, peak * (step + 1) / config.warmup_steps)
    return rate
