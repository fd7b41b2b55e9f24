"""Every setting, from the environment. The names without prefix are the original's; ours begin with AFU9_."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from persistence.errors import InvalidInput

Seconds = Annotated[float, Field(gt=0, le=86_400)]
SECRETS = ("DATABASE_URL", "DATABASE_PASSWORD", "REDIS_URL")  # may be in a file instead, which NAME_FILE names


class Settings(BaseSettings):
    """Defaults suit one machine; `Settings.load()` answers faults with the variable's name."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    database_url: str = Field("", validation_alias="DATABASE_URL")
    database_host: str = Field("", validation_alias="DATABASE_HOST")
    database_port: int = Field(5432, validation_alias="DATABASE_PORT", ge=1, le=65_535)
    database_name: str = Field("afu9", validation_alias="DATABASE_NAME")
    database_user: str = Field("postgres", validation_alias="DATABASE_USER")
    database_password: str = Field("", validation_alias="DATABASE_PASSWORD", repr=False)
    redis_url: str = Field("", validation_alias="REDIS_URL")

    state_dir: Path = Field(Path(".afu9"), validation_alias="AFU9_STATE_DIR")
    mcp_config: Path | None = Field(None, validation_alias="AFU9_MCP_CONFIG")
    secrets_dir: Path | None = Field(None, validation_alias="AFU9_SECRETS_DIR")
    max_output_bytes: int = Field(262_144, validation_alias="AFU9_MAX_OUTPUT_BYTES", ge=1024, le=64 * 1024 * 1024)
    tools_ttl_seconds: Seconds = Field(300, validation_alias="AFU9_TOOLS_TTL_SECONDS")
    namespace: str = Field("afu9", validation_alias="AFU9_NAMESPACE", pattern=r"^[A-Za-z0-9_.-]+$")
    threads: int = Field(32, validation_alias="AFU9_THREADS", ge=1, le=512)
    heartbeat_seconds: Seconds = Field(5, validation_alias="AFU9_HEARTBEAT_SECONDS")
    lease_seconds: Seconds = Field(30, validation_alias="AFU9_LEASE_SECONDS")
    dispatch_seconds: Seconds = Field(0.25, validation_alias="AFU9_DISPATCH_SECONDS")
    reap_seconds: Seconds = Field(5, validation_alias="AFU9_REAP_SECONDS")
    direct_seconds: float = Field(5, validation_alias="AFU9_DIRECT_SECONDS", ge=0, le=86_400)
    drain_seconds: Seconds = Field(25, validation_alias="AFU9_DRAIN_SECONDS")
    max_lost: int = Field(3, validation_alias="AFU9_MAX_LOST", ge=1, le=100)
    api_host: str = Field("127.0.0.1", validation_alias="AFU9_API_HOST", min_length=1)
    api_port: int = Field(3000, validation_alias="AFU9_API_PORT", ge=0, le=65_535)
    api_root: str = Field("", validation_alias="AFU9_API_ROOT", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    api_auth: str = Field("none", validation_alias="AFU9_API_AUTH", pattern="^(none|keys)$")
    trusted_proxies: str = Field("", validation_alias="AFU9_TRUSTED_PROXIES")
    proxy_role: Literal["viewer", "submitter", "operator", "admin"] = Field(
        "viewer", validation_alias="AFU9_PROXY_ROLE"
    )
    api_requests_per_second: float = Field(0, validation_alias="AFU9_API_REQUESTS_PER_SECOND", ge=0, le=1_000_000)
    metrics_host: str = Field("127.0.0.1", validation_alias="AFU9_METRICS_HOST", min_length=1)
    metrics_port: int = Field(0, validation_alias="AFU9_METRICS_PORT", ge=0, le=65_535)
    log_level: str = Field("INFO", validation_alias="AFU9_LOG_LEVEL", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: Literal["text", "json"] = Field("text", validation_alias="AFU9_LOG_FORMAT")
    trace_payloads: bool = Field(False, validation_alias="AFU9_TRACE_PAYLOADS")

    @classmethod
    def load(cls) -> Settings:
        """The settings of this process. Raises InvalidInput naming every variable that cannot be used."""
        try:
            settings = cls(**_from_files(os.environ))
        except ValidationError as error:
            lines = [f"  {fault['loc'][0]}: {fault['msg']} (it is {fault['input']!r})" for fault in error.errors()]
            raise InvalidInput("settings that cannot be used:\n" + "\n".join(lines)) from None
        _check_urls(settings)
        if settings.lease_seconds < 2 * settings.heartbeat_seconds:
            raise InvalidInput("AFU9_LEASE_SECONDS must be at least twice AFU9_HEARTBEAT_SECONDS")
        return settings

    @property
    def database_dsn(self) -> str:
        """A libpq URL: DATABASE_URL, or one made of DATABASE_HOST and its companions; empty if neither is set."""
        if self.database_url or not self.database_host:
            return self.database_url
        secret = f":{quote(self.database_password, safe='')}" if self.database_password else ""
        user = quote(self.database_user, safe="")
        name = quote(self.database_name, safe="")
        if self.database_host.startswith("/"):
            return f"postgresql://{user}{secret}@/{name}?host={quote(self.database_host)}&port={self.database_port}"
        return f"postgresql://{user}{secret}@{self.database_host}:{self.database_port}/{name}"


def _from_files(environ: Mapping[str, str]) -> dict[str, Any]:
    """What files say, without the line's end; a variable itself goes before its file."""
    found = {}
    for name in SECRETS:
        if (path := environ.get(f"{name}_FILE")) and not environ.get(name):
            try:
                found[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8"
                raise InvalidInput(f"{name}_FILE: {path} cannot be read: {reason}") from None
    return found


def _check_urls(settings: Settings) -> None:
    """Without repeating them: they hold passwords."""
    try:
        conninfo_to_dict(settings.database_dsn)
    except psycopg.ProgrammingError:
        raise InvalidInput("DATABASE_URL is not a PostgreSQL URL: postgresql://user:password@host:5432/name") from None
    if settings.redis_url and not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidInput("REDIS_URL is not a Redis URL: redis://host:6379/0, rediss://… or unix:///path")
