"""What a worker costs, written by benchmarks/capacity.py."""

from stream.core.capacity import Costs

COSTS = Costs(
    hidden=128,
    worker_rate=19814,
    worker_us_per_event=46.14,
    broker_us_per_event=10.27,
    recommend_factor=4.07,
    round_events=3339,
    round_seconds=0.0118,
    event_bytes=125,
    score_bytes=252,
    change_bytes=1022,
    base_bytes=380312329,
    user_bytes=2554,
    recovery_seconds=0.448,
    recovery_rate=92857,
)
