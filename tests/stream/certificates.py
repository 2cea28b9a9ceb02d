"""Certificates of the tests' own: authorities, hosts and clients, also ones that have ended or soon will."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

_DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A CA in a folder of its own, by openssl."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        self._run("req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", f"/CN={name}", "-days", "2",
                  "-keyout", self.pair.key, "-out", self.pair.certificate)  # fmt: skip

    def sign(self, name: str, subject: str, host: str = "", begin: timedelta = -_DAY, end: timedelta = _DAY) -> Pair:
        """Sign a certificate for a subject, such as /O=Shop/CN=worker, that is valid from and until so long from now.

        With `host` it is a server's: DNS:localhost, or IP:127.0.0.1.
        """
        pair, request = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key"), self._folder / f"{name}.csr"
        self._run("req", "-new", "-newkey", "rsa:2048", "-noenc", "-subj", subject,
                  "-keyout", pair.key, "-out", request)  # fmt: skip
        now = datetime.now(UTC)
        dates = [f"{now + offset:%y%m%d%H%M%SZ}" for offset in (begin, end)]
        self._run("ca", "-batch", "-notext", "-config", self._config(host), "-in", request, "-out", pair.certificate,
                  "-startdate", dates[0], "-enddate", dates[1])  # fmt: skip
        return pair

    def _config(self, host: str) -> Path:
        (self._folder / "index.txt").touch()
        path = self._folder / "ca.conf"
        extensions = f"subjectAltName={host}" if host else "extendedKeyUsage=clientAuth"
        path.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={self._folder}/index.txt\nnew_certs_dir={self._folder}\n"
            f"rand_serial=yes\nunique_subject=no\ndefault_md=sha256\npolicy=any\nx509_extensions=more\n"
            f"preserve=yes\ncertificate={self.pair.certificate}\nprivate_key={self.pair.key}\n"
            f"[any]\ncountryName=optional\norganizationName=optional\ncommonName=supplied\n[more]\n{extensions}\n"
        )
        return path

    def _run(self, *command: object) -> None:
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
