"""How many cores, bytes, partitions and brokers a load needs, and what runs out first. Its constants are measured."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured of one worker, intent only, and of the broker beside it.

    `worker_rate` in events/s of one process with two cores to itself and the broker; the `_us` in microseconds of
    processor time; `round_events` is how many events of a partition are scored at once when it is behind.
    """

    hidden: int
    worker_rate: float
    worker_us_per_event: float
    broker_us_per_event: float
    recommend_factor: float  # of the worker's time, with lists of items
    round_events: int
    round_seconds: float  # between two commits when the load is light
    event_bytes: float
    score_bytes: float
    change_bytes: float  # a changelog record
    base_bytes: float  # a worker without users
    user_bytes: float  # memory a user
    recovery_seconds: float  # of an empty partition
    recovery_rate: float  # changelog records/s


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator decides; bytes, seconds, shares."""

    recommend: bool = False
    active: float = 0.05  # share of the users that come within `burst` of each other
    utilisation: float = 0.6  # of a worker: the rest is for peaks, and for catching up
    replication: int = 3
    readers: int = 1  # of the scores
    worker_bytes: float = 8 * 2**30
    recovery_limit: float = 60.0
    session_timeout: float = 30.0  # until a lost worker's partitions are given to others
    slack: float = 1.5  # changelog records to read for each live one: compaction lags
    growth: float = 2.0  # partitions cannot be added later without moving states
    broker_bytes: float = 200e6  # that one broker writes a second, with room to spare
    broker_partitions: int = 4000  # replicas on one broker


_DEFAULT = Choices()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs: workers with two cores each, partitions, memory, bytes a second, brokers, seconds."""

    events: float
    users: float
    workers: int
    by: dict[str, int]  # the workers that each limit asks for
    partitions: int
    cores: float
    worker_bytes: float
    state_bytes: float
    changes: float  # changelog records an event
    read_bytes: float  # from brokers, a second
    write_bytes: float  # to brokers' disks, a second, copies included
    broker_cores: float
    brokers: int
    recovery: float  # of a worker that is started again
    failover: float  # of a worker that is lost
    first: str  # what runs out first
    remedy: str


_REMEDIES = {
    "throughput": "more workers, up to the partitions; beyond them a topic with more partitions, from the start",
    "memory": "more workers or larger ones; a shorter ttl; a smaller hidden size",
    "recovery": "more workers, so that each reads less; compaction that lags less; a shorter ttl",
    "one worker": "nothing runs out: a second worker is for availability",
    "brokers": "more brokers; compression; fewer readers; several clusters, split by user",
    "partitions": "more brokers, or several clusters, split by user",
}


def distinct(n: float, users: float) -> float:
    """Return how many of `users` are met by `n` events that fall on them evenly.

    >>> round(distinct(1000, 1e9), 1), round(distinct(1e9, 1000), 1)
    (1000.0, 1000.0)
    """
    return users * -math.expm1(-n / users)


def changes(round_events: float, users: float) -> float:
    """Return the changelog records an event: one for each user whom a chunk of a partition touches."""
    return distinct(round_events, users) / round_events


def restart(partitions: float, records: float, costs: Costs) -> float:
    """Return the seconds in which a worker reads its partitions' changelogs."""
    return partitions * costs.recovery_seconds + records / costs.recovery_rate


def plan(events: float, users: float, costs: Costs, choices: Choices = _DEFAULT) -> Plan:
    """Return what `events` a second of `users` need; raise ValueError where either is not positive."""
    if not (events > 0 and users >= 1):
        raise ValueError("events a second and users must be positive")
    slower = costs.recommend_factor if choices.recommend else 1.0
    by = _workers(events, users, slower, costs, choices)
    workers = max(by.values())
    partitions = _round(max(math.ceil(workers * choices.growth), 12))
    each = changes(_chunk(events, partitions, costs), max(users * choices.active / partitions, 1))
    written = events * (costs.event_bytes + costs.score_bytes + each * costs.change_bytes)
    brokers = _brokers(written, partitions, choices)
    read = events * (costs.event_bytes + choices.readers * costs.score_bytes)
    recovery = restart(partitions / workers, users / workers * choices.slack, costs)
    return Plan(
        events=events,
        users=users,
        workers=workers,
        by=by,
        partitions=partitions,
        cores=events * costs.worker_us_per_event * slower / 1e6 / choices.utilisation,
        worker_bytes=costs.base_bytes + users / workers * costs.user_bytes,
        state_bytes=users * costs.change_bytes,
        changes=each,
        read_bytes=read + written * (choices.replication - 1),
        write_bytes=written * choices.replication,
        broker_cores=events * costs.broker_us_per_event * choices.replication / 1e6 / choices.utilisation,
        brokers=brokers,
        recovery=recovery,
        failover=choices.session_timeout + recovery,
        **_first(by, brokers, written, partitions, choices),
    )


def _workers(events: float, users: float, slower: float, costs: Costs, choices: Choices) -> dict[str, int]:
    room = max(choices.worker_bytes - costs.base_bytes, costs.user_bytes)
    patience = max(choices.recovery_limit - choices.growth * costs.recovery_seconds, 1.0)
    needs = {
        "throughput": events * slower / (costs.worker_rate * choices.utilisation),
        "memory": users * costs.user_bytes / room,
        "recovery": users * choices.slack / costs.recovery_rate / patience,
    }
    return {name: max(math.ceil(need), 1) for name, need in needs.items()}


def _chunk(events: float, partitions: int, costs: Costs) -> float:
    """Return the events of a partition that one round holds: those that came meanwhile, up to a chunk."""
    return min(max(events / partitions * costs.round_seconds, 1.0), costs.round_events)


def _brokers(written: float, partitions: int, choices: Choices) -> int:
    replicas = 3 * partitions * choices.replication  # events, scores, changelog
    by_bytes = math.ceil(written * choices.replication / choices.broker_bytes)
    return max(choices.replication, by_bytes, math.ceil(replicas / choices.broker_partitions))


def _first(by: dict[str, int], brokers: int, written: float, partitions: int, choices: Choices) -> dict[str, str]:
    """Name what asks for the most: of the workers, or of the brokers where it is more than the copies need."""
    name = max(by, key=lambda limit: by[limit]) if max(by.values()) > 1 else "one worker"
    if brokers > max(choices.replication, by["throughput"] / 2):
        bytes_ask = written * choices.replication / choices.broker_bytes
        replicas_ask = 3 * partitions * choices.replication / choices.broker_partitions
        name = "brokers" if bytes_ask >= replicas_ask else "partitions"
    return {"first": name, "remedy": _REMEDIES[name]}


def _round(partitions: int) -> int:
    """Round up to 12 times a power of two, which divides among groups of many sizes."""
    return 12 << max(math.ceil(math.log2(partitions / 12)), 0)


def grid(costs: Costs, choices: Choices, pick: Callable[[Plan], float]) -> list[list[float]]:
    """Return a figure of the plan for 1,000 to 1,000,000 events a second (rows) and 1 to 500 million users."""
    return [[pick(plan(events, users, costs, choices)) for users in USERS] for events in EVENTS]


EVENTS = (1e3, 1e4, 1e5, 1e6)
USERS = (1e6, 1e7, 1e8, 5e8)
