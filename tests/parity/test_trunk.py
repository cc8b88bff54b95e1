"""Encoder, decoder and resizing give the published code's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugalseg.networks import Decoder, Encoder, NetworkSettings, build_network
from frugalseg.networks.blocks import convolution, resize
from frugalseg.networks.decoder import Skip
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from tests.parity.goldens import FEATURES, Goldens, count


def test_encoder_features() -> None:
    goldens = Goldens("encoder")
    encoder = Encoder(4, 8).eval()
    goldens.load(encoder, "encoder")
    with torch.no_grad():
        features = encoder(goldens["input"])
    assert len(features) == 4
    for level, feature in enumerate(features):
        torch.testing.assert_close(feature, goldens[f"feature{level}"], **FEATURES)


@pytest.mark.parametrize("skip", ["sum", "concat"])
def test_decoder_logits(skip: Skip) -> None:
    goldens = Goldens("decoder")
    decoder = Decoder((8, 16, 32, 64), skip).eval()
    head = convolution(decoder.channels, 6, (1, 1, 1))
    goldens.load(decoder, f"{skip}/decoder", head)
    with torch.no_grad():
        logits = head(decoder([goldens[f"feature{level}"] for level in range(4)]))
    torch.testing.assert_close(logits, goldens[f"{skip}/logits"], **FEATURES)


@pytest.mark.parametrize("case", ["double", "up", "down", "same", "ties", "mixed"])
def test_resize(case: str) -> None:
    goldens = Goldens("preprocess")
    wanted = goldens[f"resize/{case}_linear"]
    source: Tensor = goldens["resize/input"]
    lead = source.ndim - 3
    got = resize(source.reshape(1, -1, *source.shape[lead:]).float(), wanted.shape[-3:])
    torch.testing.assert_close(got.reshape(wanted.shape), wanted.float(), **FEATURES)


def test_parameter_counts_of_the_paper_at_width_32() -> None:
    kernels = [(3, 3, 3)] * 4
    with torch.device("meta"):
        network = build_network(NetworkSettings(), 4, 6, PUBLISHED_STRIDES, kernels, {}, 32)
        concat = build_network(NetworkSettings(skip="concat"), 4, 6, PUBLISHED_STRIDES, kernels, {}, 32)
    assert count(network.encoder) == 17_624_384
    assert count(network.decoder) + count(network.head) == 1_205_990
    assert count(concat.decoder) + count(concat.head) == 4_701_414
