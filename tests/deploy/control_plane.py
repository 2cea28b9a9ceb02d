"""Kubernetes' own API server and controllers, without a node: what they take, and what they make of it.

The programs are those that envtest runs: `etcd`, `kube-apiserver`, `kube-controller-manager` in KUBEBUILDER_ASSETS.
"""

import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stream.kafka.embedded_broker import free_port

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
_TOKEN, _START_SECONDS = "token", 120.0
_KINDS = {
    "StatefulSet": "apis/apps/v1/namespaces/{}/statefulsets",
    "Service": "api/v1/namespaces/{}/services",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Pod": "api/v1/namespaces/{}/pods",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}
Document = dict[str, Any]


def assets() -> Path | None:
    """Return the folder of the programs, None where one is missing."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", "/usr/local/kubebuilder/bin"))
    return folder if all((folder / name).exists() for name in PROGRAMS) else None


class ControlPlane:
    """Run etcd, the API server and the controllers under a folder; a context manager."""

    def __init__(self, programs: Path, folder: Path, namespace: str = "default") -> None:
        self._programs, self._folder, self._namespace = programs, folder, namespace
        self._port = free_port()
        self._stack = ExitStack()
        self._context = ssl._create_unverified_context()

    def __enter__(self) -> "ControlPlane":
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, method: str, path: str, body: Document | None = None, kind: str = "json") -> Document:
        """Ask the API; a refusal is its Status document."""
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": f"application/{kind}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://127.0.0.1:{self._port}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            return json.load(refused)

    def apply(self, document: Document, more: str = "") -> Document:
        """Apply a document as helm does, where an unknown field is an error."""
        path = f"{_KINDS[document['kind']].format(self._namespace)}/{document['metadata']['name']}"
        more = f"?fieldManager=helm&force=true&fieldValidation=Strict{more}"
        return self.ask("PATCH", path + more, document, "apply-patch+yaml")

    def pods(self, statefulset: str) -> list[Document]:
        """Return the pods of a StatefulSet that are not being deleted."""
        found = self.ask("GET", _KINDS["Pod"].format(self._namespace))["items"]
        own = [pod for pod in found if pod["metadata"]["name"].rpartition("-")[0] == statefulset]
        return [pod for pod in own if "deletionTimestamp" not in pod["metadata"]]

    def tell_ready(self, pod: Document, ready: bool) -> None:
        """Say what a kubelet would of a pod whose container runs."""
        path = f"{_KINDS['Pod'].format(self._namespace)}/{pod['metadata']['name']}/status"
        met = [
            {
                "type": kind,
                "status": str(ready),
                "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            for kind in ("ContainersReady", "Ready")
        ]
        self.ask("PATCH", path, {"status": {"phase": "Running", "conditions": met}}, "strategic-merge-patch+json")

    def _start(self) -> None:
        store, own = free_port(), self._folder
        key, public = own / "sa.key", own / "sa.pub"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        (own / "tokens.csv").write_text(f"{_TOKEN},admin,1,system:masters\n")
        (own / "kubeconfig").write_text(self._kubeconfig())
        url, peers = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{free_port()}"
        self._run("etcd", f"--data-dir={own / 'etcd'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                  f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
                  f"--initial-cluster=default={peers}")  # fmt: skip
        self._run("kube-apiserver", f"--etcd-servers={url}", f"--cert-dir={own / 'certificates'}",
                  "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
                  f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
                  "--authorization-mode=RBAC", f"--token-auth-file={own / 'tokens.csv'}", "--bind-address=127.0.0.1",
                  "--advertise-address=127.0.0.1", f"--secure-port={self._port}",
                  "--endpoint-reconciler-type=none")  # fmt: skip
        self._await_ready()
        self._run("kube-controller-manager", f"--kubeconfig={own / 'kubeconfig'}", "--leader-elect=false",
                  f"--service-account-private-key-file={key}", "--bind-address=127.0.0.1",
                  f"--secure-port={free_port()}", f"--cert-dir={own / 'controllers'}")  # fmt: skip

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                if self.ask("GET", f"api/v1/namespaces/{self._namespace}").get("kind") == "Namespace":
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.5)
        raise TimeoutError((self._folder / "kube-apiserver.log").read_text()[-2000:])

    def _run(self, name: str, *options: str) -> None:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        running = subprocess.Popen([self._programs / name, *options], stdout=log, stderr=log, cwd=self._folder)
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)

    def _kubeconfig(self) -> str:
        cluster = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "own",
                "clusters": [{"name": "own", "cluster": cluster}],
                "users": [{"name": "own", "user": {"token": _TOKEN}}],
                "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
            }
        )
