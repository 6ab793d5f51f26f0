"""The time-series module: signals of any length, rate and number of channels to embeddings (spec 1.8).

    Signals --SignalFrontend--> frames [W, 256] --adapt_in, two convolutions--> tokens [N, 768]
        --+ learned positions, causal layers, norm, adapt_out--> [N, 1024] --projector--> [N, out_hidden_size]

Signals are packed: their frames lie one after another, and neither a convolution nor attention crosses from one to
the next. The convolutions are matrix products of gathered neighbours, in which what lies outside a signal is a row of
zeros. The causal mask is the released one, and so are the epsilons: 1e-6 inside the layers, 1e-5 elsewhere.

The encoder has positions for `max_source_positions` tokens; upstream gives none to later tokens. Here a longer signal
is read in windows of that many tokens, each counting positions from 0. A later window begins a third of its length
before the first token it contributes; these tokens are context, and their outputs are dropped. So there are exactly
as many embeddings as `signal_layout` says, time grows linearly, and a signal that fits into one window gives the
released numbers. The convolutions know no windows: they see the whole signal.

Left out: dropout (a training option upstream), the unused `embed_scale`, and a bias of the keys, on which no softmax
depends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad
from torch.utils.checkpoint import checkpoint

from s1pro.base.media import Signals
from s1pro.base.signal_tokens import signal_layout
from s1pro.kernels.attention import PackedContext, attention
from s1pro.model.config import TimeSeriesConfig
from s1pro.model.layers import Conv1d, Embedding, Linear
from s1pro.model.signal_frontend import SignalFrontend

BATCH_TOKENS = 4096
"""Windows are put through the encoder together up to this number of tokens."""


class SignalAttention(nn.Module):
    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.num_heads = config.encoder_attention_heads
        self.q_proj = Linear(config.d_model, config.d_model)
        self.k_proj = Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = Linear(config.d_model, config.d_model)
        self.out_proj = Linear(config.d_model, config.d_model)

    def forward(self, x_ND: Tensor, context: PackedContext) -> Tensor:
        q, k, v = (proj(x_ND).unflatten(1, (self.num_heads, -1)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        out_NHC = attention(q, k, v, context, layer=0, scale=q.shape[-1] ** -0.5)
        return self.out_proj(out_NHC.flatten(1))


class SignalEncoderLayer(nn.Module):
    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.self_attn = SignalAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=1e-6)
        self.fc1 = Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=1e-6)

    def forward(self, x_ND: Tensor, context: PackedContext) -> Tensor:
        x_ND = x_ND + self.self_attn(self.self_attn_layer_norm(x_ND), context)
        return x_ND + self.fc2(gelu(self.fc1(self.final_layer_norm(x_ND))))


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` of one signal that pass the encoder together; those before `keep` are context.

    Attributes:
        offset, frames: first row and number of the frames of the signal.
    """

    offset: int
    frames: int
    start: int
    keep: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def conv_rows(self) -> range:
        """Outputs of the first convolution that the tokens need; token t reads 2 t - 1 to 2 t + 1."""
        return range(max(2 * self.start - 1, 0), min(2 * self.stop, self.frames))


def windows_of(frames: int, offset: int, positions: int) -> Iterator[Window]:
    """How the tokens of a signal of `frames` frames are divided for an encoder with so many `positions`."""
    tokens, overlap = (frames + 1) // 2, positions // 3
    keep = 0
    while keep < tokens:
        start = max(keep - overlap, 0)
        stop = min(start + positions, tokens)
        yield Window(offset, frames, start, keep, stop)
        keep = stop


class SignalEncoder(nn.Module):
    """Frames of all signals to tokens of all signals, `[W, ts_adapt_in_dim]` to `[N, ts_adapt_out_dim]`."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.adapt_in = Linear(config.ts_adapt_in_dim, config.num_mel_bins)
        self.conv1 = Conv1d(config.num_mel_bins, config.d_model, kernel_size=3, padding=1)
        self.conv2 = Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = Embedding(config.max_source_positions, config.d_model)
        self.layers = nn.ModuleList(SignalEncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model, eps=1e-5)
        self.adapt_out = Linear(config.d_model, config.ts_adapt_out_dim)

    def forward(self, frames_WD: Tensor, lengths: Sequence[int]) -> Tensor:
        """Args:
        frames_WD: of all signals, one after another.
        lengths: frames of each signal.
        """
        adapted_WD = pad(self.adapt_in(frames_WD), (0, 0, 0, 1))  # the last row is what lies outside a signal
        positions = self.embed_positions.num_embeddings
        offsets = accumulate(lengths, initial=0)
        windows = [w for offset, m in zip(offsets, lengths, strict=False) for w in windows_of(m, offset, positions)]
        batches = list(_batched(windows, max(BATCH_TOKENS, positions)))
        if torch.is_grad_enabled() and len(batches) > 1:
            outs = [checkpoint(self._encode, adapted_WD, batch, use_reentrant=False) for batch in batches]
        else:
            outs = [self._encode(adapted_WD, batch) for batch in batches]
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _encode(self, adapted_WD: Tensor, windows: list[Window]) -> Tensor:
        device = adapted_WD.device
        first, second = _neighbours(windows, outside=adapted_WD.shape[0] - 1)
        x_RD = gelu(_convolve(self.conv1, adapted_WD, first.to(device)))
        x_ND = gelu(_convolve(self.conv2, pad(x_RD, (0, 0, 0, 1)), second.to(device)))
        x_ND = x_ND + torch.cat([self.embed_positions.weight[: window.size] for window in windows])
        context = PackedContext.from_lengths([window.size for window in windows])
        for layer in self.layers:
            x_ND = layer(x_ND, context)
        if any(window.keep > window.start for window in windows):
            parts = x_ND.split([window.size for window in windows])
            x_ND = torch.cat([part[window.keep - window.start :] for part, window in zip(parts, windows, strict=True)])
        return self.adapt_out(self.layer_norm(x_ND))


class SignalProjector(nn.Module):
    """To the width of the language model."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.ts_hidden_dim, eps=1e-5)
        self.linear_1 = Linear(config.ts_hidden_dim, config.out_hidden_size)
        self.linear_2 = Linear(config.out_hidden_size, config.out_hidden_size)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.linear_2(gelu(self.linear_1(self.layer_norm(x_ND))))


class TimeSeriesTower(nn.Module):
    """See the module docstring. `forward` maps signals to the embeddings of all of them, `[N, out_hidden_size]`."""

    def __init__(self, config: TimeSeriesConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_embed = SignalFrontend(config)
        self.encoder = SignalEncoder(config)
        self.projector = SignalProjector(config)

    def forward(self, signals: Signals[Tensor]) -> Tensor:
        layouts = [
            signal_layout(length, rate)
            for (length, _), rate in zip(signals.shapes, signals.sampling_rates, strict=True)
        ]
        frames_WD = self.encoder_embed(signals, layouts)
        return self.projector(self.encoder(frames_WD, [layout.frames for layout in layouts]))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Normal weights, biases 0. Before the encoder's layers the deviation is 1 / sqrt(fan-in): with a smaller one
        the points of a signal would drown beside sinusoids of size 1."""
        for name, param in self.named_parameters():
            if "norm" in name:
                continue
            if name.endswith("bias"):
                param.zero_()
                continue
            entry = name.startswith(("encoder_embed.", "encoder.adapt_in.", "encoder.conv"))
            std = param[0].numel() ** -0.5 if entry else self.config.initializer_range
            param.normal_(0.0, std, generator=generator)


def _batched(windows: list[Window], limit: int) -> Iterator[list[Window]]:
    batch: list[Window] = []
    free = limit
    for window in windows:
        if batch and window.size > free:
            yield batch
            batch, free = [], limit
        batch.append(window)
        free -= window.size
    if batch:
        yield batch


def _neighbours(windows: list[Window], outside: int) -> tuple[Tensor, Tensor]:
    """Rows that the two convolutions read, `[rows, 3]` each.

    The first reads frames; `outside` is its row of zeros. The second reads outputs of the first, which lie window after
    window, followed by its own row of zeros.
    """
    taps = torch.tensor([-1, 0, 1])
    total = sum(len(window.conv_rows) for window in windows)
    first, second, done = [], [], 0
    for window in windows:
        rows = window.conv_rows
        frame = torch.arange(rows.start, rows.stop)[:, None] + taps
        first.append(_inside(frame, window.frames, window.offset, outside))
        row = 2 * torch.arange(window.start, window.stop)[:, None] + taps
        second.append(_inside(row, window.frames, done - rows.start, total))
        done += len(rows)
    return torch.cat(first), torch.cat(second)


def _inside(index: Tensor, length: int, offset: int, outside: int) -> Tensor:
    return torch.where((index >= 0) & (index < length), index + offset, outside)


def _convolve(conv: nn.Conv1d, x_RD: Tensor, neighbours_N3: Tensor) -> Tensor:
    """The convolution at the positions whose three inputs are named."""
    weight = conv.weight.transpose(1, 2).flatten(1)
    return linear(x_RD[neighbours_N3].flatten(1), weight, conv.bias)
