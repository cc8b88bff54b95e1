"""The trunk (encoder, decoder, head) and the contract of its branches. Networks return named tensors only."""

from frugalseg.networks.branch import Branch, BranchInput
from frugalseg.networks.decoder import Decoder
from frugalseg.networks.encoder import Encoder
from frugalseg.networks.multitask import MultiTaskNetwork, NetworkSettings, build_network

__all__ = ["Branch", "BranchInput", "Decoder", "Encoder", "MultiTaskNetwork", "NetworkSettings", "build_network"]
