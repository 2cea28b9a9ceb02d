"""What a worker costs, written by benchmarks/capacity.py."""

from stream.capacity.model import Costs

COSTS = Costs(
    hidden=128,
    worker_rate=83372,
    worker_us_per_event=11.85,
    broker_us_per_event=3.43,
    recommend_factor=7.29,
    round_events=3724,
    round_seconds=0.0072,
    event_bytes=125,
    score_bytes=252,
    change_bytes=966,
    base_bytes=331853632,
    user_bytes=1031,
    recovery_seconds=0.055,
    recovery_rate=357143,
)
