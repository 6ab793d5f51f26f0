"""Fetching media that a client names, without becoming the client's arm inside the network.

A server that fetches whatever URL it is given can be used to reach what only it can reach: metadata services,
databases, the printer. Hence, for every hop of a redirect anew:

1. the host must be on the allow-list, which is empty by default;
2. its name is resolved here, and *all* addresses must be public: none of loopback, private, link-local, shared,
   multicast or reserved ranges, nor IPv6 forms that carry such an IPv4 address (mapped, 6to4, Teredo, NAT64);
3. the connection goes to the address that was checked. A name that changes its address between check and use (DNS
   rebinding) changes nothing; certificates are verified for the name;
4. proxies, cookies and credentials are not used, and compressed bodies are refused: their size could not be bounded.

Time and bytes are bounded for the whole fetch.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx

from s1pro.base.errors import InputError
from s1pro.serve.http.settings import MediaAccess

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RemoteMedia:
    """See the module docstring."""

    def __init__(self, access: MediaAccess) -> None:
        self.access = access
        self._verify = httpx.create_ssl_context(trust_env=False) if access.domains else False

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """The body behind `url`.

        Raises:
            InputError: a host that is not allowed or not public, an error of the other side, too many bytes, too slow.
        """
        try:
            async with asyncio.timeout(self.access.fetch_seconds):
                return await self._follow(url, max_bytes)
        except TimeoutError as error:
            raise InputError(f"{_short(url)}: no answer within {self.access.fetch_seconds:g} seconds") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise InputError(f"{_short(url)}: cannot be fetched ({type(error).__name__})") from error

    async def _follow(self, url: str, max_bytes: int) -> bytes:
        target = httpx.URL(url)
        for _ in range(self.access.max_redirects + 1):
            answer = await self._get(target, max_bytes)
            if isinstance(answer, bytes):
                return answer
            target = target.join(answer)
        raise InputError(f"{_short(url)}: more than {self.access.max_redirects} redirects")

    async def _get(self, url: httpx.URL, max_bytes: int) -> bytes | str:
        """The body, or where a redirect leads."""
        name = _short(str(url))
        address = await self._checked_address(url, name)
        # the host in the URL is the address; name and certificate are those of the host
        request = httpx.Request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "User-Agent": "s1pro"},
            extensions={"sni_hostname": url.host, "timeout": httpx.Timeout(self.access.fetch_seconds).as_dict()},
        )
        async with httpx.AsyncHTTPTransport(verify=self._verify, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            try:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    return str(response.headers["location"])
                return await _body(response, name, max_bytes)
            finally:
                await response.aclose()

    async def _checked_address(self, url: httpx.URL, name: str) -> str:
        if url.scheme not in ("http", "https") or not url.host:
            raise InputError(f"{name}: only http and https URLs are fetched")
        if url.userinfo:
            raise InputError(f"{name}: URLs with a user name are not fetched")
        if not host_allowed(url.host, self.access.domains):
            raise InputError(
                f"{name}: the host is not on the allow-list of this server (--allowed-media-domains); "
                "send the data itself (data:…;base64,…)"
            )
        port = url.port or (443 if url.scheme == "https" else 80)
        if port > 65535:
            raise InputError(f"{name}: there is no port {port}")
        found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(item[4][0]) for item in found]
        if not addresses:
            raise InputError(f"{name}: the host has no address")
        if not self.access.private_addresses and not all(map(is_public, addresses)):
            raise InputError(f"{name}: the host has a private address; this server does not fetch from such")
        return addresses[0]


def host_allowed(host: str, domains: Sequence[str]) -> bool:
    """Whether a host is on the list: its name, `*.` with a domain above it, or `*`."""
    host = host.lower().rstrip(".")
    return any(
        domain == "*" or host == domain.lower() or (domain.startswith("*.") and host.endswith(domain[1:].lower()))
        for domain in domains
    )


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, whatever form it is written in."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if address.is_site_local or address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


async def _body(response: httpx.Response, name: str, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise InputError(f"{name}: the other side answered {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise InputError(f"{name}: compressed answers are not accepted")
    length = response.headers.get("content-length", "0")
    data = bytearray()
    if not length.isdigit() or int(length) <= max_bytes:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > max_bytes:
                break
        else:
            return bytes(data)
    raise InputError(f"{name}: larger than the limit of {max_bytes} bytes")


def _short(url: str) -> str:
    return url if len(url) <= 120 else url[:117] + "…"
