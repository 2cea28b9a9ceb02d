"""The group's members, before a worker joins and while it works: another release or bundle ends it (rule 16).

Members that have ended stay in the group until their sessions time out, so a start waits for that before it refuses.
"""

import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import GroupError
from stream.kafka.client.admin import answered
from stream.kafka.client.errors import said
from stream.kafka.client.groups import describe
from stream.kafka.group.rollout import Member, Rollout, intruded_on, namesakes, outnumbering, strangers
from stream.settings import Settings

log = logging.getLogger(__name__)
EVERY, _AGAIN = 30.0, 1.0  # seconds between two looks, and while a start waits
_TIMED_OUT_SECONDS = 5.0  # beyond the session timeout
_REQUEST_SECONDS, _ANSWER_SECONDS = 5.0, 30.0
_OWN_GROUP = "a release has a group of its own (the setting group): give this one another"


def members_of(settings: Settings) -> list[Member]:
    """Return a group's members; raise KafkaException or TimeoutError where they are not known."""
    try:
        members = describe(settings, settings.group, _REQUEST_SECONDS).members
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return []
        raise
    return sorted(Member.of(instance or client_id, client_id) for instance, client_id in members)


class GroupWatch:
    """Refuse a group that is another release's, or another bundle's beyond a rollout."""

    def __init__(self, settings: Settings, me: Member, fail: Callable[[BaseException], None]) -> None:
        self._settings, self._me, self._fail = settings, me, fail
        self._rollout = Rollout(settings.rollout_seconds)
        self._stopped = threading.Event()

    def admit(self) -> None:
        """Raise GroupError where a worker must not join, once what may have ended has had its time to go."""
        settings = self._settings
        wait = settings.session_timeout_seconds + _TIMED_OUT_SECONDS
        deadline, told, replaces = time.monotonic() + wait, False, False
        what = f"the members of the group {settings.group}"
        while not self._stopped.is_set():
            members = answered(what, _ANSWER_SECONDS, lambda: members_of(settings))
            replaces |= any(one.name == self._me.name for one in members)
            if not (why := self._why_not(members, replaces)):
                return
            if time.monotonic() > deadline:
                raise why
            if not told:
                log.warning("waiting for up to %.0f s, since who has ended stays a member: %s", wait, why.message)
            told = True
            self._stopped.wait(_AGAIN)

    def start(self) -> None:
        """Begin to look, on a thread; what is wrong is handed to `fail`."""
        threading.Thread(target=self._run, name="group", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def check(self, members: list[Member], now: float) -> None:
        """Raise GroupError where this worker is the one that gives way.

        Two that joined at the same moment did not see each other: the release that comes first in order stays.
        """
        if theirs := [one for one in strangers(self._me, members) if one.release < self._me.release]:
            raise self._another_release(theirs)
        if self._rollout.over(self._me, members, now) and (theirs := outnumbering(self._me, members)):
            raise self._another_bundle(theirs, f", and no worker has changed for {self._settings.rollout_seconds:g} s")

    def _why_not(self, members: list[Member], replaces: bool) -> GroupError | None:
        """Say why not; who `replaces` a member of its name, which has gone meanwhile, comes by a rollout."""
        if theirs := strangers(self._me, members):
            return self._another_release(theirs)
        if theirs := namesakes(self._me, members):
            return self._another_bundle(theirs, " and this worker's name")
        if not replaces and (theirs := intruded_on(self._me, members)):
            return self._another_bundle(theirs, "")
        return None

    def _another_release(self, theirs: list[Member]) -> GroupError:
        return GroupError(
            f"the group {self._settings.group} is that of {_told(theirs)}; this is {_told([self._me])}",
            f"{_OWN_GROUP}, or end the other one; who has ended for good leaves at once by `forecart leave`",
        )

    def _another_bundle(self, theirs: list[Member], since: str) -> GroupError:
        return GroupError(
            f"the group {self._settings.group} has workers with another bundle or mapping{since}: {_told(theirs)}; "
            f"this is {_told([self._me])}",
            "to roll a bundle out, start the workers anew with it one after another, each under its own name, that no "
            "other host has, and within the session timeout, or all with one setting release, which waits for nobody; "
            "else give each bundle a group of its own",
        )

    def _run(self) -> None:
        try:
            while not self._stopped.wait(EVERY):
                try:
                    self.check(members_of(self._settings), time.monotonic())
                except (KafkaException, TimeoutError) as error:  # no answer says nothing
                    log.debug("the members of the group cannot be seen: %s", said(error))
        except Exception as error:
            self._fail(error)


def _told(members: list[Member]) -> str:
    """Say who members are: names by release and bundle."""
    by_place: dict[tuple[str, str], list[str]] = {}
    for one in members:
        by_place.setdefault((one.release, one.model), []).append(one.name)
    return " and of ".join(
        f"{', '.join(names)} ({f'release {release}, ' if release else ''}bundle {model.replace('-', ', mapping ')})"
        for (release, model), names in by_place.items()
    )
