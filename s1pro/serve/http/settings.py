"""What a server allows: who may ask, how much, and from where media may come.

Defaults are those of a laptop: loopback only, no remote media, no files, no control of the weights. Whoever opens the
server to a network says so, field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.inputs.media_parts import MediaLimits
from s1pro.inputs.open_video import VideoLimits

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """How much one request, and all of them together, may take.

    Attributes:
        max_body_bytes: of a request, media in data URLs included.
        max_weights_bytes: of weights that are sent, where that is allowed at all.
        max_waiting: sequences that may wait for a place in the batch; as many requests more may wait at the door.
        patience_seconds: how long they wait there before they are answered with 429.
        max_sequences: answers of one request (`n` times its prompts).
        max_media: images, videos and signals of one request.
        body_seconds: longest pause while a body arrives.
        routing_bytes: memory for routing traces that wait to be fetched; the oldest are forgotten first.
    """

    max_body_bytes: int = 32 * 2**20
    max_weights_bytes: int = 16 * 2**30
    max_waiting: int = 256
    patience_seconds: float = 1.0
    max_sequences: int = 128
    max_media: int = 16
    body_seconds: float = 30.0
    routing_bytes: int = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class MediaAccess:
    """Where media may come from besides the request itself, and how large they may be.

    Attributes:
        domains: hosts from which media are fetched; `*.example.org` allows every host below, `*` any public one.
        private_addresses: also addresses of the machine and the local network. For tests and closed networks.
        folder: `file://` URLs below it are read.
        limits: of bytes, pixels and frames; never with paths.
        fetch_seconds: longest time for one remote medium, redirects included.
        max_redirects: of one remote medium.
    """

    domains: tuple[str, ...] = ()
    private_addresses: bool = False
    folder: Path | None = None
    limits: MediaLimits = field(
        default_factory=lambda: MediaLimits(
            allow_paths=False,
            max_image_bytes=32 * 2**20,
            max_image_pixels=2**25,
            max_signal_bytes=64 * 2**20,
            videos=VideoLimits(
                max_bytes=128 * 2**20, max_frames=2**14, max_frame_pixels=2**23, max_decoded_pixels=2**32
            ),
        )
    )
    fetch_seconds: float = 20.0
    max_redirects: int = 3

    def __post_init__(self) -> None:
        if self.limits.allow_paths:
            raise InputError("a server reads media without paths: set allow_paths=False in its limits")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """See the module docstring.

    Attributes:
        model_name: under which clients ask for the model; other names are accepted and answered by the same model.
        api_keys: one of them must stand in `Authorization: Bearer KEY`; none needs none.
        allowed_hosts: names in the `Host` header; empty accepts all. A page of the web that points its own name at
            127.0.0.1 is refused by this.
        enable_thinking: whether answers begin by reasoning where a request does not say; None leaves it to the
            template of the model, and the released one thinks.
        control: whether weights may be replaced and the engine put to sleep.
        weights_root: folder below which `/update_weights` may name model folders; None takes bodies only.
        default_max_tokens: longest answer of `/v1/completions` where the request does not say.
    """

    model_name: str
    api_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    enable_thinking: bool | None = False
    control: bool = False
    weights_root: Path | None = None
    default_max_tokens: int = 16
    requests: RequestLimits = field(default_factory=RequestLimits)
    media: MediaAccess = field(default_factory=MediaAccess)
