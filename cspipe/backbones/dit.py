"""DiT with adaLN-Zero (Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from cspipe.nets.attention import TokenAttention
from cspipe.nets.backbone import BackboneSettings
from cspipe.nets.blocks import TimeEmbedding, frequencies, grid_waves, modulate, xavier_linears, zeroed
from cspipe.runtime.settings import Count, Number

TIME_WAVES = 256
"""Width of the sinusoidal embedding of t, before its MLP; the same for nets of every width."""
EPS = 1e-6
"""Epsilon of the layer norms."""


class GatedBlock(nn.Module):
    """Attention, then an MLP; time scales and shifts the norm before each and gates its output; gates start at 0."""

    def __init__(self, width: int, head_channels: int, dropout: float) -> None:
        """width: channels of a token and of the embedding; dropout: probability, in the MLP (the source has none)."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, EPS, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(width, 6 * width)
        self.attention = TokenAttention(width, head_channels)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Map tokens (N, L, width), embedding (N, width) after SiLU to tokens of the same shape."""
        attending, mixing = self.modulation(embedding)[:, None].chunk(2, dim=2)
        for norm, branch, parameters in zip(self.norms, (self.attention, self.mlp), (attending, mixing), strict=True):
            width = tokens.shape[2]
            scale_shift, gate = parameters.split([2 * width, width], dim=2)
            tokens = tokens + gate * branch(modulate(norm(tokens), scale_shift, dim=2))
        return tokens


class DiT(nn.Module):
    """Transformer on patches of the image with fixed position embeddings; the last layer and the output start at 0."""

    positions: Tensor

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        size: int,
        channels: int,
        depth: int,
        head_channels: int,
        patch: int,
        dropout: float,
    ) -> None:
        """size: pixels, a multiple of patch; channels: width of a token, a multiple of 4 and of head_channels."""
        super().__init__()
        self.patch = patch
        self.time = TimeEmbedding(frequencies(TIME_WAVES), channels)
        self.patches = nn.Conv2d(in_channels, channels, patch, stride=patch)
        self.register_buffer("positions", grid_waves(size // patch, channels), persistent=False)
        self.blocks = nn.ModuleList(GatedBlock(channels, head_channels, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(channels, EPS, elementwise_affine=False)
        self.modulation = nn.Linear(channels, 2 * channels)
        self.head = nn.Linear(channels, out_channels * patch**2)
        self._start()

    def _start(self) -> None:
        """Initialise weights as in the source: Xavier uniform; normal for the time MLP; 0 for modulations and head."""
        xavier_linears(self)
        nn.init.xavier_uniform_(self.patches.weight.view(len(self.patches.weight), -1))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]  # a convolution has a bias by default
        for layer in self.time.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        for name, layer in self.named_modules():
            if name.endswith("modulation") or layer is self.head:
                zeroed(layer)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x (N, in_channels, size, size), t (N,) in 0..1000 to (N, out_channels, size, size) in x's type."""
        embedding = silu(self.time(t))
        patches = self.patches(x)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding)
        tokens = self.head(modulate(self.norm(tokens), self.modulation(embedding)[:, None], dim=2))
        pixels = tokens.transpose(1, 2).unflatten(2, patches.shape[2:])
        return pixel_shuffle(pixels, self.patch).to(x.dtype)


class Settings(BackboneSettings):
    """Settings of DiT; the source's DiT-S/2 has channels 384, depth 12, head_channels 64, patch 2, dropout 0."""

    channels: Count = Field(description="width: channels of a token")
    depth: Count = Field(description="blocks of attention and MLP")
    head_channels: Count = Field(description="channels per attention head")
    patch: Count = Field(description="pixels, height and width of what becomes a token")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(description="probability, in the MLPs; the source has 0")

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.channels % 4:
            raise ValueError(f"model.channels {self.channels} must be divisible by 4 (waves of row and column)")
        if self.channels % self.head_channels:
            raise ValueError(f"model.channels {self.channels} must be divisible by head_channels {self.head_channels}")
        return self

    def check_size(self, size: int) -> None:
        """Check that whole patches fill the image. Raises ValueError."""
        if size % self.patch:
            raise ValueError(f"data.size {size} must be a multiple of model.patch {self.patch}")

    def build(self, in_channels: int, out_channels: int, size: int) -> DiT:
        """Build DiT with (size / patch)^2 tokens: the cost of attention grows with the fourth power of the size."""
        return DiT(**self.arguments(in_channels, out_channels, size))
