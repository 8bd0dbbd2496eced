"""Codecs: float32 vectors to bytes and back."""

from netfl.codecs.affine import Affine
from netfl.codecs.dgc import Dgc
from netfl.codecs.entropy import Entropy
from netfl.codecs.feedback import Encoded, encode_with_feedback
from netfl.codecs.floats import Bfloat16, Float16
from netfl.codecs.gumbel import GumbelTopK
from netfl.codecs.indices import IndexCoding
from netfl.codecs.lowrank import LowRank
from netfl.codecs.pipeline import CODECS, Compressor, Pipeline, Quantizer, Shapes, Sparsifier, Stage, Vector, dense_bytes
from netfl.codecs.qsgd import Qsgd
from netfl.codecs.quantize import Quantize
from netfl.codecs.randomk import RandomK
from netfl.codecs.release import LaplaceRelease, OneBitRelease
from netfl.codecs.sign import OneBit, Sign
from netfl.codecs.sketch import CountSketch
from netfl.codecs.svt import Svt
from netfl.codecs.terngrad import TernGrad
from netfl.codecs.threshold import Threshold
from netfl.codecs.topk import TopK
from netfl.codecs.zstd import Zstd

__all__ = [
    "CODECS",
    "Affine",
    "Bfloat16",
    "Compressor",
    "CountSketch",
    "Dgc",
    "Encoded",
    "Entropy",
    "Float16",
    "GumbelTopK",
    "IndexCoding",
    "LaplaceRelease",
    "LowRank",
    "OneBit",
    "OneBitRelease",
    "Pipeline",
    "Qsgd",
    "Quantize",
    "Quantizer",
    "RandomK",
    "Shapes",
    "Sign",
    "Sparsifier",
    "Stage",
    "Svt",
    "TernGrad",
    "Threshold",
    "TopK",
    "Vector",
    "Zstd",
    "dense_bytes",
    "encode_with_feedback",
]
