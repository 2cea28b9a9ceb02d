"""Run a command for as long as somebody holds our stdin open: nothing stays behind a parent that was killed."""

import os
import signal
import subprocess
import sys
import threading

_GRACE = 20.0


def main(command: list[str]) -> int:
    """Run the command; end it on SIGTERM and when stdin closes. Return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def end(*_: object) -> None:
        child.terminate()

    def wait_for_parent() -> None:
        while os.read(0, 4096):
            pass
        end()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=wait_for_parent, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
