"""The world of one run: the three verbs that move simulated time."""

from netfl.world.messages import MESSAGE_KINDS, Message
from netfl.world.world import Computing, Sending, World

__all__ = ["MESSAGE_KINDS", "Computing", "Message", "Sending", "World"]
