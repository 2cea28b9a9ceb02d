"""What the commands share: a default has one place."""

import pytest

from models import options
from stream.core.errors import SettingError
from stream.core.manifest import Meaning


def test_what_is_not_given_is_as_the_manifest_has_it():
    assert options.meaning(None, None) == options.meaning([], "") == Meaning()
    assert options.meaning(["session"], "1h") == Meaning(horizons=("session",), gap=3_600_000)
    with pytest.raises(SettingError, match="span of time"):
        options.meaning(None, "soon")
