"""HTTPS: certificates are verified, and the wall clock also holds in the handshake and while reading encrypted bytes."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.outcome import Cancelled, Failed, Succeeded
from tests.integration.mcp_fault_server import FaultServer, fault_server
from workers.mcp_client import McpClient, ServerConfig

x509 = pytest.importorskip("cryptography.x509", reason="the certificate is made with cryptography")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 in one file."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(secret + made.public_bytes(encoding))
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with fault_server("bare", context) as running:
        yield running


def client_of(url: str, **settings: float) -> McpClient:
    return McpClient({"s": ServerConfig("s", url=url, **settings)})  # type: ignore[arg-type]


def test_calls_deadlines_and_cancellation_over_tls(
    server: FaultServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that SSL_CERT_FILE trusts is accepted; waits are as interruptible as without TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with client_of(server.url) as client:
        assert client.call("s", "ok", {"a": "x" * 200_000}) == Succeeded({"a": "x" * 200_000})
        late = client.call("s", "hang", {}, timeout=0.3)
        assert isinstance(late, Failed)
        assert (late.kind, late.failure) == ("timeout", "unknown")
        cancelled = threading.Event()
        threading.Timer(0.1, cancelled.set).start()
        begin = time.monotonic()
        assert isinstance(client.call("s", "trickle", {}, cancelled=cancelled), Cancelled)
        assert time.monotonic() - begin < 0.5
        assert client.call("s", "ok", {}) == Succeeded({})


def test_an_unknown_certificate_is_refused(server: FaultServer) -> None:
    """Nothing is sent to a server that cannot prove who it is."""
    with client_of(server.url) as client:
        outcome = client.call("s", "ok", {})
    assert isinstance(outcome, Failed)
    assert outcome.failure == "not_executed"
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.message
    assert server.seen == []


def test_a_handshake_that_stalls_ends_with_the_connect_timeout() -> None:
    """A server that accepts and says nothing has not executed anything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/mcp"
        with client_of(url, connect_timeout=0.2) as client:
            begin = time.monotonic()
            outcome = client.call("s", "ok", {})
            assert time.monotonic() - begin < 1
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failure) == ("transport", "not_executed")


def test_a_connect_that_hangs_can_be_cancelled() -> None:
    """A full backlog leaves connects in the air: neither the connect timeout nor a cancellation waits for the system."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            url = f"http://127.0.0.1:{address[1]}/mcp"
            with client_of(url, connect_timeout=0.3) as client:
                begin = time.monotonic()
                outcome = client.call("s", "ok", {})
                assert 0.25 < time.monotonic() - begin < 1
                assert isinstance(outcome, Failed)
                assert outcome.failure == "not_executed"
            cancelled = threading.Event()
            threading.Timer(0.1, cancelled.set).start()
            with client_of(url) as client:
                begin = time.monotonic()
                outcome = client.call("s", "ok", {}, cancelled=cancelled)
                assert isinstance(outcome, Cancelled)
                assert outcome.failure == "not_executed"
                assert time.monotonic() - begin < 0.5
        finally:
            for filler in fillers:
                filler.close()
