"""A worker's name: given, or a slot of this host that stays locked as long as the process lives."""

import fcntl
import re
import socket
from typing import IO

from stream.core.errors import SettingError
from stream.settings import Settings

_SLOTS = 256
_NAME = r"[A-Za-z0-9._-]{1,200}"
_held: list[IO[str]] = []  # a lock lasts as long as its file is open


def name(settings: Settings) -> str:
    """Return the name that becomes the transactional id and the group's instance id.

    A restart takes the same name again, which aborts at once what its predecessor left open.
    """
    if settings.name:
        if not re.fullmatch(_NAME, settings.name):
            raise SettingError(f"the name {settings.name!r} is not valid", f"names are {_NAME}, as Kafka has them")
        return settings.name
    folder = settings.state_dir.expanduser() / settings.group
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for slot in range(_SLOTS):
            file = (folder / f"slot-{slot}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held.append(file)
            return f"{socket.gethostname()}-{slot}"
    except OSError as error:
        raise SettingError(
            f"no slot can be locked in {folder}: {error.strerror}", "give --name, or FORECART_STATE_DIR"
        ) from error
    raise SettingError(f"all {_SLOTS} slots in {folder} are taken", "give --name")
