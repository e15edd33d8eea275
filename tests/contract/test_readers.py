"""What every reader keeps to."""

import pytest

from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.readers.base import Reader

FAMILY = "fewlabel.readers"


@pytest.mark.parametrize("name", plugin_names(FAMILY))
def test_a_reader_holds_its_settings_once(name):
    kind, settings = load_plugin(FAMILY, name), resolve_plugin(FAMILY, name)
    reader = kind(settings)
    assert isinstance(reader, Reader)
    assert [key for key, value in vars(reader).items() if value is settings] == ["config"]
