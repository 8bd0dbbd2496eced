"""Computing on devices: profiles with sources, the roofline cost of work, and the processor that work queues for."""

from netfl.compute.processor import Job, Past, Processor
from netfl.compute.profiles import PROFILES, DeviceProfile
from netfl.compute.work import Work

__all__ = ["PROFILES", "DeviceProfile", "Job", "Past", "Processor", "Work"]
