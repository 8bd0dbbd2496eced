"""What crosses a cut, as it is sent: the codecs of activations, and what an input is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from netfl.codecs import Pipeline
from netfl.placement import Node, Profile

__all__ = ["Crossing", "profile_as_sent", "reckoned_bytes"]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """How the outputs of nodes become bytes.

    A stage that treats channels or matrices sees each tensor in its own shape, so that a channel is an index of the first axis behind the
    samples.

    Args:
        activations: of everything but the input.
        inputs: of the input; as activations where there is none.
        input_bytes: what an input is on a wire where it comes in an encoding of its own, such as JPEG; it arrives as the data has it.
    """

    activations: Pipeline
    inputs: Pipeline | None = None
    input_bytes: int | None = None

    def pipeline(self, node: Node) -> Pipeline:
        """The codecs of a node's output."""
        of_input = node.op == "input" and self.inputs is not None
        stages = self.inputs.stages if of_input and self.inputs is not None else self.activations.stages
        return Pipeline(stages, shapes=(node.output_shape,))

    def stated_bytes(self, node: Node) -> int | None:
        """Wire bytes of a node's output; None if they depend on the values."""
        if node.op == "input" and self.input_bytes is not None:
            return self.input_bytes
        return self.pipeline(node).encoded_bytes(node.output_values)

    def reckoned_bytes(self, node: Node) -> int:
        """Wire bytes of a node's output as planners reckon them: what a stage saves that depends on the values is left out."""
        stated = self.stated_bytes(node)
        return reckoned_bytes(self.pipeline(node)) if stated is None else stated


@lru_cache(maxsize=16)
def profile_as_sent(profile: Profile, crossing: Crossing, input_bytes: int | None, decode_flop: float) -> Profile:
    """A profile with what each node's output is as it is sent; kept, for every device that asks is planned for with the same one.

    Args:
        profile: of the model.
        crossing: codecs of what crosses a cut.
        input_bytes: of the input, where the codecs do not tell.
        decode_flop: as in `Profile.as_sent`.
    """

    def wire_bytes(node: Node) -> int:
        return input_bytes if node.op == "input" and input_bytes is not None else crossing.reckoned_bytes(node)

    return profile.as_sent(wire_bytes, decode_flop)


def reckoned_bytes(pipeline: Pipeline) -> int:
    """Length of a vector of the pipeline's shapes without what depends on its values."""
    count = sum(map(math.prod, pipeline.shapes))
    known = tuple(stage for stage in pipeline.stages if Pipeline((stage,), pipeline.shapes).encoded_bytes(count) is not None)
    length = Pipeline(known, pipeline.shapes).encoded_bytes(count)
    assert length is not None
    return length
