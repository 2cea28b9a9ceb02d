"""What a worker costs, written by benchmarks/capacity.py."""

from stream.core.capacity import Costs

COSTS = Costs(
    hidden=128,
    worker_rate=20435,
    worker_us_per_event=30.0,
    broker_us_per_event=10.0,
    recommend_factor=5.0,
    round_events=4096,
    round_seconds=0.05,
    event_bytes=120,
    score_bytes=290,
    change_bytes=1000,
    base_bytes=150000000,
    user_bytes=1500,
    recovery_seconds=0.1,
    recovery_rate=100000,
)
