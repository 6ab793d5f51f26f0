"""Files of a data set on the Hugging Face Hub, or on any server that speaks like it.

    GET {endpoint}/api/datasets/{repo}/revision/{revision}?blobs=true    commit, licence, gate; names, sizes, digests
    GET {endpoint}/datasets/{repo}/resolve/{commit}/{name}               the bytes, from there or after a redirect

1. A file is written beside its place, under a name with its digest, and moved there when its size and digest are right
   (SHA-256 of large files, git's SHA-1 of others). What is there and right is not asked for again.
2. What broke off goes on where it stopped, in this run (a few tries) or in a later one.
3. Nothing is written beyond the size that was announced, and nothing outside the folder.
4. The token goes to the endpoint, not to where it redirects.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from s1pro.base.errors import InputError

if TYPE_CHECKING:
    import httpx

ENDPOINT = "https://huggingface.co"
CHUNK = 1 << 20
MAX_LISTING = 50_000_000
_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """`digest` is the SHA-256 of a large file (`is_large`), else git's SHA-1 of its blob."""

    name: str
    size: int
    digest: str
    is_large: bool


@dataclass(frozen=True, kw_only=True)
class HubListing:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    licence: str
    files: tuple[HubFile, ...]


class Hub:
    """See the module docstring.

    Args:
        token: for repositories behind a gate.
        sleep: replaced in tests.
    """

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        *,
        token: str | None = None,
        attempts: int = 5,
        timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not re.match(r"https?://", endpoint):
            raise InputError(f"{endpoint!r} is no address: it begins with https:// or http://")
        self.endpoint, self._token = endpoint.rstrip("/"), token
        self._attempts, self._timeout_s, self._sleep = attempts, timeout_s, sleep

    @functools.cached_property
    def _client(self) -> httpx.Client:
        import httpx

        timeout = httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, 15.0))
        return httpx.Client(timeout=timeout, follow_redirects=True)

    def look(self, repo: str, revision: str = "main") -> HubListing:
        """What is there.

        Raises:
            InputError: the server cannot be reached, there is no such repository, or it is behind a gate.
        """
        url = f"{self.endpoint}/api/datasets/{repo}/revision/{revision}"

        def ask(client: httpx.Client) -> Any:
            with client.stream("GET", url, params={"blobs": "true"}, headers=self._headers()) as answer:
                _check(answer, repo)
                body = b""
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_LISTING:
                        raise InputError(f"{url}: the list of files has more than {MAX_LISTING:,} bytes")
                return _json(body, url)

        found = self._tried(ask)
        try:
            card = found.get("cardData") or {}
            files = tuple(_file(entry) for entry in found["siblings"])
            return HubListing(repo=repo, commit=str(found["sha"]), licence=_licence(card.get("license")), files=files)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{url}: is no list of files of a Hub ({type(error).__name__}: {error})") from error

    def fetch(
        self, listing: HubListing, file: HubFile, target: Path, progress: Callable[[int], None] = lambda done: None
    ) -> bool:
        """Brings one file to `target`; False if it was there already.

        Args:
            progress: hears how many bytes of the file are there.

        Raises:
            InputError: the server cannot be reached, or sends something else than it announced.
        """
        if target.is_file() and target.stat().st_size == file.size and digest_of(target, file) == file.digest:
            progress(file.size)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{file.digest[:12]}.part")
        url = f"{self.endpoint}/datasets/{listing.repo}/resolve/{listing.commit}/{quote(file.name)}"
        self._tried(lambda client: self._rest(client, url, listing.repo, file, part, progress))
        if digest_of(part, file) != file.digest:
            part.unlink()
            raise InputError(f"{url}: the bytes are not those of the digest {file.digest[:12]}…; nothing was kept")
        os.replace(part, target)
        return True

    def _rest(
        self, client: httpx.Client, url: str, repo: str, file: HubFile, part: Path, progress: Callable[[int], None]
    ) -> None:
        """What is missing of a file. Raises what httpx raises where the connection breaks."""
        import httpx

        done = part.stat().st_size if part.is_file() else 0
        if done > file.size:
            part.unlink()
            done = 0
        if done == file.size and part.is_file():
            return
        more = {"Range": f"bytes={done}-"} if done else {}
        with client.stream("GET", url, headers={**self._headers(), **more}) as answer:
            _check(answer, repo)
            if answer.status_code != 206:
                done = 0
            with part.open("ab" if done else "wb") as out:
                for chunk in answer.iter_bytes():
                    done += len(chunk)
                    if done > file.size:
                        raise InputError(f"{url}: sends more than the {file.size:,} bytes it announced")
                    out.write(chunk)
                    progress(done)
        if done < file.size:
            raise httpx.ReadError(f"only {done:,} of {file.size:,} bytes came")

    def _headers(self) -> dict[str, str]:
        plain = {"Accept-Encoding": "identity", "User-Agent": "s1pro"}
        return plain if self._token is None else {**plain, "Authorization": f"Bearer {self._token}"}

    def _tried(self, ask: Callable[[httpx.Client], Any]) -> Any:
        """Tries a few times where that may help."""
        import httpx

        for attempt in range(self._attempts):
            try:
                return ask(self._client)
            except (httpx.RequestError, httpx.InvalidURL, _LaterError) as error:
                if attempt + 1 == self._attempts or not _may_pass(error):
                    what = str(error) or type(error).__name__
                    raise InputError(
                        f"{self.endpoint} cannot be reached ({what}); what came is kept: give the command again when "
                        "there is a network, or fetch the files by hand"
                    ) from error
                self._sleep(2.0**attempt)
        raise AssertionError


class _LaterError(Exception):
    """An answer that says: later."""


def _may_pass(error: Exception) -> bool:
    """Whether a further try may help: not where there is nobody, or the address leads nowhere."""
    import httpx

    transport = isinstance(error, httpx.TransportError | _LaterError)
    return transport and not isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol)


def digest_of(path: Path, file: HubFile) -> str:
    """Of what lies there, in the way of `file`."""
    found = (
        hashlib.sha256() if file.is_large else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    )
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def fitting(files: Sequence[HubFile], pattern: str) -> list[HubFile]:
    """Files whose whole name fits a pattern: `*` within a folder, `**` across folders."""
    parts = re.split(r"(\*\*|\*)", pattern)
    regex = "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return [file for file in files if re.fullmatch(regex, file.name)]


def _check(answer: httpx.Response, repo: str) -> None:
    status, where = answer.status_code, f"{answer.request.url.host}: {repo}"
    if status in (200, 206):
        return
    if status in _AGAIN:
        raise _LaterError(f"status {status}")
    if status in (401, 403):
        raise InputError(f"{where}: no access (status {status}); it is missing, or behind a gate: see --token-variable")
    raise InputError(f"{where}: status {status}{': there is no such data set' if status == 404 else ''}")


def _json(body: bytes, url: str) -> Any:
    import json

    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: the answer is not JSON ({error})") from error


def _licence(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _file(entry: Any) -> HubFile:
    name, large = str(entry["rfilename"]), entry.get("lfs")
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is no name of a file")
    digest = str(large["sha256"] if large else entry["blobId"])
    return HubFile(name=name, size=int(large["size"] if large else entry["size"]), digest=digest, is_large=bool(large))
