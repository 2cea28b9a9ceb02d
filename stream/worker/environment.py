"""Take other software's variables out of this process: Forecart listens to FORECART_* alone.

A pod has them of its base image, of sidecars and of what else is configured there. Libraries read these when they are
imported, so this module comes first; what Faust reads later it is told not to (`stream.app`).
"""

import os

_PREFIXES = ("FAUST_", "F_", "PROMETHEUS_")  # loop, folders, ports; files in the place of metrics
_NAMES = {
    "AIOKAFKA_NO_EXTENSIONS",
    "DEVLOG",  # mode's
    "DJANGO_SETTINGS_MODULE",  # Faust would import that project
    "NO_CYTHON",  # Faust's
    "TYPEXPR_DEBUG",  # Faust's
    "prometheus_multiproc_dir",
}

for name in list(os.environ):
    if name in _NAMES or name.startswith(_PREFIXES):
        del os.environ[name]
