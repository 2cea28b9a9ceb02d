"""The errors that Forecart stops with; each message ends with what to do.

ForecartError
├── DataError            a file or stream is not in the stated format
├── SettingError         a setting is unknown, missing or impossible
├── BundleError          a bundle is missing, corrupt or of another schema
├── CheckpointError      a training run cannot be read or resumed
├── ParityError          the exported step does not agree with the trained one
├── BrokerError          Kafka refuses what is asked
│   ├── RightsError      rights are missing, which the message names
│   └── UnreachableError Kafka does not answer: a worker waits for it, a command ends
├── TopicError           a topic is missing or has the wrong shape
├── PositionError        the stored position does not fit the input topic
├── GroupError           the group is another release's, or another bundle's
├── FencedError          another process has this worker's name
├── AbortedError         transactions keep failing
├── StuckError           no progress within a deadline
└── FaultError           something happened that must not: a bug
"""

from stream.core.printable import printable_lines


class ForecartError(Exception):
    """Carry a message, its remedy and the exit code of the process."""

    exit_code = 70

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return printable_lines(f"{self.message}\n  {self.remedy}" if self.remedy else self.message)


class DataError(ForecartError):
    """Operator action: name the file's real format, or mend the file."""

    exit_code = 65


class SettingError(ForecartError):
    """Operator action: correct the setting that the message names."""

    exit_code = 78


class BundleError(ForecartError):
    """Operator action: export the bundle again, or point to the right one."""

    exit_code = 78


class CheckpointError(ForecartError):
    """Operator action: name a finished run, or train again."""

    exit_code = 66


class ParityError(ForecartError):
    """Operator action: none at the site; report it with the checkpoint."""

    exit_code = 70


class BrokerError(ForecartError):
    """Operator action: check address, network and credentials."""

    exit_code = 69


class RightsError(BrokerError):
    """Operator action: grant the rights that the message names, by `forecart topics apply --acls`."""


class UnreachableError(BrokerError):
    """Operator action: check address and network, or look at the brokers; a worker goes on by itself."""


class TopicError(ForecartError):
    """Operator action: run `forecart topics plan`, then `apply`, or the fix it prints."""

    exit_code = 78


class PositionError(ForecartError):
    """Operator action: decide by hand; the message lists the choices."""

    exit_code = 78


class GroupError(ForecartError):
    """Operator action: give each release and each bundle a group of its own."""

    exit_code = 78


class FencedError(ForecartError):
    """Operator action: stop the other process, or give this one another name."""

    exit_code = 76


class AbortedError(ForecartError):
    """Operator action: look at the brokers' health; a restart resumes from the last commit."""

    exit_code = 75


class StuckError(ForecartError):
    """Operator action: see the partition in the message; a restart is safe."""

    exit_code = 77


class FaultError(ForecartError):
    """Operator action: report it; a restart resumes from the last commit."""

    exit_code = 70
