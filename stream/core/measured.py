"""What a worker costs, written by benchmarks/capacity.py."""

from stream.core.capacity import Costs

COSTS = Costs(
    hidden=128,
    worker_rate=77905,
    worker_us_per_event=11.5,
    broker_us_per_event=5.5,
    recommend_factor=8.29,
    round_events=3742,
    round_seconds=0.0076,
    event_bytes=125,
    score_bytes=253,
    change_bytes=966,
    base_bytes=340780614,
    user_bytes=1033,
    recovery_seconds=0.024,
    recovery_rate=110278,
)
