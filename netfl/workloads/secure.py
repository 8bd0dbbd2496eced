"""Secure aggregation: the server learns the sum of the updates and nothing else. netfl counts its bytes.

K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017. What a client sends and receives
beside the masked vector is 2 n a_K + (5 n - 4) a_S + n bits among n clients, with public keys and secret shares of
a_K = a_S = 256 bits (section 7.1), and a masked value takes ceil(log2(n (R - 1) + 1)) bits where an unmasked one takes R values.
The masks cancel, so the model is the one that the plain sum makes; masks, recovery after dropouts and the time of the cryptography are not
simulated, and all of these bytes are charged to the upload (choices).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

__all__ = ["SecureAggregation"]

_KEY_BITS = _SHARE_BITS = 256


@dataclass(frozen=True, kw_only=True)
class SecureAggregation:
    """Updates travel masked, so that the server sees their sum alone.

    Args:
        value_bits: of one value before masking.
    """

    value_bits: Annotated[int, Ge(1), Le(32)] = 32

    def payload_bytes(self, num_values: int, num_clients: int) -> int:
        """Length of a client's messages in a round.

        >>> SecureAggregation(value_bits=16).payload_bytes(1000, 100)
        25160

        Args:
            num_values: of the update.
            num_clients: who take part, at least 1.
        """
        # (n (2^b - 1)).bit_length() is ceil(log2(n (2^b - 1) + 1)), exactly.
        masked_bits: int = (num_clients * (2**self.value_bits - 1)).bit_length()
        exchange_bits = 2 * num_clients * _KEY_BITS + (5 * num_clients - 4) * _SHARE_BITS + num_clients
        total_bits: int = num_values * masked_bits + exchange_bits
        return -(-total_bits // 8)
