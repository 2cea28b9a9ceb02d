"""Who may be in a group together: workers of one release with one bundle, and two bundles while a rollout lasts.

A worker's client id says its release and its bundle, so that the coordinator's list of members tells of all of them.
What says neither is a worker of before, or no worker: nothing follows from it.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

_CLIENT = re.compile(r"forecart/(.*)/([0-9a-f]+(?:-[0-9a-f]+)?)")


class Member(NamedTuple):
    """A worker in the group; an empty release or model is not known."""

    name: str
    release: str = ""
    model: str = ""  # the name of its bundle's meaning, see `stream.core.manifest`, and of its mapping's behind a dash

    @property
    def client_id(self) -> str:
        """Return what tells others the release and the model.

        >>> Member("shop-0", "eu/shop", "a0948b3c").client_id
        'forecart/eu/shop/a0948b3c'
        """
        return f"forecart/{self.release}/{self.model}"

    @classmethod
    def of(cls, name: str, client_id: str) -> "Member":
        """Read a member's client id.

        >>> Member.of("shop-0", "forecart/eu/shop/a0948b3c")
        Member(name='shop-0', release='eu/shop', model='a0948b3c')
        """
        match = _CLIENT.fullmatch(client_id)
        return cls(name, match[1], match[2]) if match else cls(name)


def strangers(me: Member, members: Iterable[Member]) -> list[Member]:
    """Return the members of other releases, those under this worker's own name included."""
    return [one for one in members if one.release and me.release and one.release != me.release]


def namesakes(me: Member, members: Iterable[Member]) -> list[Member]:
    """Return who has this worker's name and another bundle, and is not known to be of its release.

    Either it is what this worker replaces, which has ended, or another host's: the group's session timeout tells.
    """
    theirs = [one for one in members if one.name == me.name and one.model and one.model != me.model]
    return [one for one in theirs if not me.release or one.release != me.release]


def intruded_on(me: Member, members: Collection[Member]) -> list[Member]:
    """Return the members with another bundle, into whose group a worker that starts would intrude with its own.

    It does not intrude where it rolls a bundle out or back: its release, which has one bundle in the end, is theirs; or
    it takes a member's place under its name; or another member has its bundle already.
    """
    others = _others(me, members)
    if any(one.name == me.name or one.model == me.model for one in members):
        return []
    return [] if me.release and all(one.release == me.release for one in others) else others


def outnumbering(me: Member, members: Collection[Member]) -> list[Member]:
    """Return the members with another bundle where theirs has more members, or as many and comes first in order.

    So of two bundles one stays, whoever looks.
    """
    counts: dict[str, int] = {}
    for one in {me, *(one for one in members if one.name != me.name)}:
        counts[one.model] = counts.get(one.model, 0) + 1
    stays = min((model for model in counts if model), key=lambda model: (-counts[model], model))
    return [] if stays == me.model else [one for one in members if one.model == stays]


def _others(me: Member, members: Iterable[Member]) -> list[Member]:
    return [one for one in members if one.model and one.model != me.model and one.name != me.name]


class Rollout:
    """Know whether a rollout goes on: the group's bundles differ, and within so many seconds a member's has changed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: frozenset[tuple[str, str]] = frozenset()
        self._since = 0.0

    def over(self, me: Member, members: Iterable[Member], now: float) -> bool:
        """Note the members, and tell whether they have differed for too long; `now` in seconds."""
        seen = frozenset((one.name, one.model) for one in (me, *members) if one.model)
        if seen != self._seen:
            self._seen, self._since = seen, now
        return len({model for _, model in seen}) > 1 and now - self._since >= self._seconds
