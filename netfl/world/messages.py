"""Messages: encoded bytes with a kind."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

__all__ = ["MESSAGE_KINDS", "Message", "MessageKind"]

MessageKind = Literal["model", "update", "activation", "request", "reply", "metadata", "background"]
MESSAGE_KINDS: tuple[str, ...] = get_args(MessageKind)


class Message(NamedTuple):
    """What a `send` carries, as the network sees it.

    Args:
        kind: what it is for.
        payload_bytes: length of the bytes that were encoded.
        workload: who sends it.
        label: what it carries, as "round 3".
    """

    kind: MessageKind
    payload_bytes: int
    workload: str
    label: str = ""
