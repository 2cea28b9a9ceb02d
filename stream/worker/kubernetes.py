"""The one question that is put to Kubernetes: has this pod's StatefulSet been scaled down below it?"""

import logging
import os
import re
import ssl
import urllib.request
from http.client import HTTPException
from pathlib import Path

import msgspec

from stream.core.errors import SettingError

log = logging.getLogger(__name__)
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 5.0  # without an answer


class _Spec(msgspec.Struct):
    replicas: int = 0  # Go leaves a number out that is 0


class _Scale(msgspec.Struct):
    spec: _Spec


class Replica:
    """A pod as one of its StatefulSet's replicas."""

    def __init__(self, pod: str, account: Path = ACCOUNT) -> None:
        """Raise SettingError where this is no such pod, or has no service account's token."""
        match = re.fullmatch(r"(.+)-(\d+)", pod)
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
        if not match or not host or not (account / "token").exists():
            raise SettingError(
                f"leave_on_scale_down is on, but {pod} is no pod of a StatefulSet with a service account's token",
                "turn it on by the chart's leaveOnScaleDown, which gives the pod its token and rights, or turn it off",
            )
        self.statefulset, self.number, self._account = match[1], int(match[2]), account
        self._api = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def scaled_down(self) -> bool:
        """Tell whether no replica of this number is wanted; where Kubernetes does not say so, it is wanted."""
        try:
            wanted = self._wanted()
        except (OSError, ValueError, HTTPException, msgspec.MsgspecError) as error:
            log.warning("Kubernetes does not say how many replicas %s is to have: %r", self.statefulset, error)
            return False
        log.info("%s is to have %d replicas, this is number %d", self.statefulset, wanted, self.number)
        return self.number >= wanted

    def _wanted(self) -> int:
        namespace, token = ((self._account / name).read_text().strip() for name in ("namespace", "token"))
        request = urllib.request.Request(
            f"{self._api}/apis/apps/v1/namespaces/{namespace}/statefulsets/{self.statefulset}/scale",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
        context = ssl.create_default_context(cafile=self._account / "ca.crt")
        direct = urllib.request.ProxyHandler({})  # a proxy of the environment is for what lies outside the cluster
        opener = urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=_Scale).spec.replicas
