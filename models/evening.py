"""How well contents fit an evening: when somebody watches, on what, and how long they have. i contents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from configs.registry import SettingError


@dataclass(frozen=True)
class Evening:
    """When and on what somebody watches; None is not known."""

    available_minutes: float | None = None
    """Above 0."""
    hour: int | None = None
    """Local, 0 to 23."""
    device: str | None = None


@dataclass(frozen=True)
class EveningConfig:
    """How an evening limits minutes. The values are our assumptions: no data of ours tells them."""

    bed_hour: int = 1
    """Local hour at which an evening ends, 0 to 23; it counts from ``late_hour`` on."""
    late_hour: int = 20
    device_minutes: Mapping[str, float] = field(default_factory=lambda: {"phone": 60.0, "tablet": 120.0})
    """Minutes that people like to watch on a device; a device that is not named sets no limit."""
    overrun: float = 0.5
    """Share of the minutes at hand by which a content may exceed them before it fits not at all, above 0."""

    def __post_init__(self) -> None:
        if not self.overrun > 0 or not (0 <= self.bed_hour < 24 and 0 <= self.late_hour < 24):
            raise SettingError(
                "an evening needs overrun above 0 and hours in 0..23, got "
                f"{self.overrun}, {self.bed_hour} and {self.late_hour}"
            )


def minutes_at_hand(evening: Evening, config: EveningConfig | None = None) -> float | None:
    """The least of what the person, the hour and the device allow; None where nothing limits it.

    Example:
        >>> minutes_at_hand(Evening(hour=23, device="tv"))
        120.0
    """
    config = config or EveningConfig()
    if evening.available_minutes is not None and not evening.available_minutes > 0:
        raise ValueError(
            f"available minutes must be above 0, or None where not known, got {evening.available_minutes}"
        )
    limits = [evening.available_minutes, config.device_minutes.get(evening.device or "")]
    if evening.hour is not None:
        left = (config.bed_hour - evening.hour) % 24
        if left and left <= (config.bed_hour - config.late_hour) % 24:
            limits.append(60.0 * left)
    return min((float(limit) for limit in limits if limit is not None), default=None)


def runtime_fit(
    runtime_minutes: np.ndarray, evening: Evening, config: EveningConfig | None = None
) -> np.ndarray:
    """(i,) how well each content fits an evening: 1 within the minutes at hand, then falling to 0 in a line.

    Args:
        runtime_minutes: (i,) of all contents, NaN where not known.
        evening: when and on what.
        config: how it limits minutes.

    Returns:
        (i,) float64 in [0, 1], NaN for unknown runtime; all NaN where nothing limits the evening.
    """
    config = config or EveningConfig()
    minutes = minutes_at_hand(evening, config)
    if minutes is None:
        return np.full(len(runtime_minutes), np.nan)
    return np.clip(1 - (runtime_minutes - minutes) / (config.overrun * minutes), 0, 1)
