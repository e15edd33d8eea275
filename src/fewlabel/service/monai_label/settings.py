"""Settings of ``fewlabel serve``; apart from the server, which needs the extra ``serve``."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import field_validator

from fewlabel.core.settings.base import Names, PathSetting, Settings, setting
from fewlabel.core.settings.durations import parse_duration
from fewlabel.engine.runtime import Device


class ServeSettings(Settings):
    """Settings of ``fewlabel serve``."""

    run: PathSetting = setting(..., "run folder made by train or demo")
    port: int = setting(8000, "port of this machine; 8000 is what 3D Slicer tries first", ge=1, le=65535)
    token: bool = setting(True, "whether callers need the token; without, every program of this machine may call")
    origins: Names = setting((), "pages that may call, as [http://localhost:3000] for OHIF; none by default (CORS)")
    largest: int = setting(1024, "largest body of a request", unit="MiB", ge=1)
    budget: str = setting("4m", "time of a round of learning, unless the viewer asks for another")
    empty_masks: bool = setting(False, "take masks without any structure, and learn from them, as for relabel")
    device: Device = setting("auto", "where to compute")

    @field_validator("budget")
    @classmethod
    def _time(cls, value: str) -> str:
        parse_duration(value)
        return value.strip()

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if f"{parts.scheme}://{parts.netloc}" != origin or parts.scheme not in {"http", "https"} or "*" in origin:
                raise ValueError(f"an origin is like http://localhost:3000, not {origin}")
        return value
