"""What a worker costs, written by benchmarks/capacity.py."""

from stream.core.capacity import Costs

COSTS = Costs(
    hidden=128,
    worker_rate=18579,
    worker_us_per_event=42.08,
    broker_us_per_event=10.94,
    recommend_factor=5.15,
    round_events=3410,
    round_seconds=0.0223,
    event_bytes=125,
    score_bytes=252,
    change_bytes=1022,
    base_bytes=376376269,
    user_bytes=2462,
    recovery_seconds=0.464,
    recovery_rate=77932,
)
