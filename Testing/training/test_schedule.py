"""Learning rates worked out by hand."""

import pytest
from mambasegment_training.config import ScheduleConfig
from mambasegment_training.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "fraction", "expected"),
    [
        (ScheduleConfig("constant"), 0.7, 2.0),
        (ScheduleConfig("poly", power=0.9), 0.0, 2.0),
        (ScheduleConfig("poly", power=0.9), 0.5, 2.0 * 0.5**0.9),
        (ScheduleConfig("poly", power=0.9), 1.0, 0.0),
        (ScheduleConfig("poly", power=2.0, final_fraction=0.1), 0.5, 2.0 * (0.1 + 0.9 * 0.25)),
        (ScheduleConfig("cosine"), 0.5, 1.0),
        (ScheduleConfig("cosine"), 1 / 3, 1.5),  # cos 60° is 1/2
        (ScheduleConfig("cosine", final_fraction=0.01), 1.0, 0.02),
        (ScheduleConfig("cosine"), 1.2, 0.0),  # a time budget is overdrawn by the last step
        (ScheduleConfig("poly"), -0.1, 2.0),
    ],
)
def test_after_the_warm_up(schedule, fraction, expected):
    assert learning_rate(schedule, 2.0, 1000, fraction) == pytest.approx(expected)


def test_warm_up_is_a_line_that_ends_on_the_schedule():
    schedule = ScheduleConfig("constant", warmup_steps=4)
    assert [learning_rate(schedule, 2.0, step, 0.0) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_warm_up_never_exceeds_the_schedule():
    schedule = ScheduleConfig("poly", power=1.0, warmup_steps=10)
    assert learning_rate(schedule, 1.0, 8, 0.8) == pytest.approx(0.2)  # the line alone would give 0.9
