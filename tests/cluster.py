"""A Kubernetes API that knows one StatefulSet, over TLS, and a pod's service account for it."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Cluster:
    """What the API answers for the scale of a StatefulSet, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.account, self.asked = folder / "account", []
        self.status, self.answer = 200, {"kind": "Scale", "spec": {"replicas": 2}}
        self.account.mkdir()
        subject = ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        key, cert = folder / "api.key", self.account / "ca.crt"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, *subject]
        subprocess.run(command, check=True, capture_output=True)
        (self.account / "token").write_text("secret")
        (self.account / "namespace").write_text("shops")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)

    @contextmanager
    def serve(self) -> Iterator[dict[str, str]]:
        """Answer; yield what Kubernetes puts into a pod's environment."""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append((self.path, self.headers["Authorization"]))
                body: Any = cluster.answer
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(cluster.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = self._context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        host, port = server.server_address[:2]
        yield {"KUBERNETES_SERVICE_HOST": str(host), "KUBERNETES_SERVICE_PORT": str(port)}
        server.shutdown()
        server.server_close()
        thread.join()
