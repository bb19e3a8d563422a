"""A simulated shop with planted truth: what Headrace is tried on before it meets a real one."""

from stream.simulate.config import (
    DelayPart,
    Drift,
    FeedbackRates,
    Segment,
    SimulatedLF,
    WorldConfig,
)
from stream.simulate.corruption import Rejection, corrupt
from stream.simulate.files import WorldFiles, write_world
from stream.simulate.world import Sent, World, WorldSlice

__all__ = [
    "DelayPart",
    "Drift",
    "FeedbackRates",
    "Rejection",
    "Segment",
    "Sent",
    "SimulatedLF",
    "World",
    "WorldConfig",
    "WorldFiles",
    "WorldSlice",
    "corrupt",
    "write_world",
]
