"""Renewed certificates, keys and passwords, taken up while the worker runs: long before the old ones end."""

import hashlib
import logging

from stream.core.errors import SettingError
from stream.kafka.client.connection import aiokafka_options, files
from stream.settings import Settings

log = logging.getLogger(__name__)


class Renewal:
    """Look at the files that a login is made of, by what is in them: Kubernetes replaces links, not files."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._told = settings, ""
        self._seen = self._digest()

    def changed(self) -> bool:
        """Tell whether another login is there since the last call that said so, and can be used as it is now.

        Half of a renewal, such as a certificate whose key is to follow, is waited for.
        """
        try:
            now = self._digest()
            if now == self._seen:
                return False
            aiokafka_options(self._settings)  # reads all of them, and holds the key to its certificate
            if now != self._digest():
                return False
        except (SettingError, OSError) as error:
            self._tell(f"renewed files of the Kafka login cannot be used, the old ones stay: {error}")
            return False
        self._seen = now
        self._tell("the files of the Kafka login were renewed: taken up")
        return True

    def _digest(self) -> bytes:
        """Return what stands for the contents of all files."""
        found = hashlib.sha256()
        for path in files(self._settings):
            found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.digest()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            log.warning(text)
