"""deploy/docker-compose.yml and the Procfile: what they start exists, and nothing is open that need not be."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployed import DEPLOY, FIELDS, PORTS, unknown_commands, wrong_settings
from tests.fleet import ROOT

FILE = DEPLOY / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "orchestrator", "worker")
ROLES = OURS[1:]
OURS_SET = re.compile(r"^AFU9_\w+=")
OBSERVABILITY = {"prometheus", "grafana", "collector"}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_every_part_is_there_and_only_asked_for_ones_watch() -> None:
    """Profiles: the fleet without, what looks at it with `observability`."""
    assert SERVICES.keys() == {*OURS, *OBSERVABILITY, "postgres", "redis", "roles"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["observability"]} == OBSERVABILITY


def test_commands_and_settings_exist() -> None:
    """Of every service made of our image; and of what compose itself is told by variables, all have defaults."""
    assert unknown_commands(SERVICES[name]["command"] for name in OURS) == []
    assert [SERVICES[name]["command"] for name in OURS] == [[name] for name in OURS]
    assert [wrong_settings(SERVICES[name]["environment"]) for name in OURS] == [[]] * len(OURS)
    assert re.findall(r"\$\{\w+\}", FILE.read_text()) == []


def test_a_setting_that_nobody_reads_is_seen() -> None:
    """And one that would end the process at its start."""
    said = {"AFU9_THREAD": "4", "AFU9_THREADS": "${AFU9_THREADS:-0}", "AFU9_API_AUTH": "key", "POSTGRES_DB": "x"}
    assert [word.split("=")[0] for word in wrong_settings(said)] == ["AFU9_THREAD", "AFU9_THREADS", "AFU9_API_AUTH"]


def test_our_containers_may_do_little() -> None:
    """Read-only, no capability, no new right; as the image's account."""
    for name in OURS:
        service = SERVICES[name]
        assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"]), name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"user", "privileged", "network_mode", "entrypoint"} & service.keys()


def test_a_stop_takes_longer_than_the_drain() -> None:
    """Else running steps are cut off."""
    for name in ROLES:
        drain = float(SERVICES[name]["environment"]["AFU9_DRAIN_SECONDS"])
        assert seconds(SERVICES[name]["stop_grace_period"]) >= drain + 5


def test_only_people_reach_in_and_only_from_this_machine() -> None:
    """Pages of the API and of what watches; workers have no port of the host, so any number of them may run."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"api", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert published["api"][0].endswith(f":{PORTS['http']}")
    assert SERVICES["api"]["environment"]["AFU9_API_AUTH"] == "keys"
    assert "container_name" not in FILE.read_text()


def test_the_fleet_waits_for_the_schema_and_its_rights() -> None:
    """migrate, then roles, then everybody."""
    done = {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["roles"]["depends_on"] == {"migrate": done}
    assert all(SERVICES[name]["depends_on"]["roles"] == done for name in ROLES)


def test_only_the_owner_may_change_the_schema() -> None:
    """Two passwords, each in a file; the fleet does not see the owner's."""
    assert {SERVICES[name]["environment"]["DATABASE_USER"] for name in ROLES} == {"afu9_fleet"}
    assert all(SERVICES[name]["secrets"] == ["fleet_password"] for name in ROLES)
    assert SERVICES["migrate"]["environment"]["DATABASE_USER"] == SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert "app_login=afu9_fleet" in SERVICES["roles"]["command"][0]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert "deploy/secrets/" in ignored
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or str(value).startswith("/run/secrets/"), name


def test_what_is_mounted_and_kept_exists() -> None:
    """Files of this folder (secrets are the operator's), and volumes that are declared."""
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = re.sub(r"^\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")[0]
            if source.startswith("./secrets"):
                continue
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_what_watches_finds_every_replica() -> None:
    """Prometheus by the names of services and the port of their metrics; fleet figures from roles that have them."""
    configuration = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    port = int(SERVICES["worker"]["environment"]["AFU9_METRICS_PORT"])
    assert port == PORTS["metrics"]
    names = {name: job["dns_sd_configs"][0]["names"] for name, job in jobs.items()}
    assert (sorted(names["afu9"]), sorted(names["afu9-fleet"])) == (sorted(ROLES), ["api", "orchestrator"])
    assert all(job["dns_sd_configs"][0]["port"] == port for job in jobs.values())
    mounts = [mount.split(":") for mount in SERVICES["prometheus"]["volumes"]]
    placed = {Path(target).name: source for source, target, *_ in mounts if source.startswith(".")}
    assert set(configuration["rule_files"]) <= placed.keys()
    source = yaml.safe_load((DEPLOY / "compose" / "grafana-datasource.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((DEPLOY / "compose" / "grafana-dashboards.yml").read_text())["providers"][0]["options"][
        "path"
    ]
    assert f"./grafana/afu9.json:{boards}/afu9.json:ro" in SERVICES["grafana"]["volumes"]


def test_the_collector_uses_what_it_declares() -> None:
    """Every part of a pipeline is configured, and nothing else is."""
    collector = yaml.safe_load((DEPLOY / "compose" / "otel-collector.yml").read_text())
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in collector["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == collector[kind].keys()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: Debian's package prometheus")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With the rules beside it, as they are mounted."""
    for path in ("compose/prometheus.yml", "prometheus/recording.yml", "prometheus/alerts.yml"):
        shutil.copy(DEPLOY / path, tmp_path)
    command = ["promtool", "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def procfile() -> dict[str, list[str]]:
    lines = [line.split(":", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line]
    return {name: shlex.split(command) for name, command in lines}


def test_the_procfile_starts_what_exists() -> None:
    """Commands, settings, and for `dramatiq` a module, and a time to end that is the drain's."""
    started = procfile()
    assert started.keys() == {"web", "orchestrator", "worker"}
    variables = dict(word.split("=", 1) for words in started.values() for word in words if OURS_SET.match(word))
    assert wrong_settings(variables) == []
    assert unknown_commands(words[words.index("afu9") + 1 :] for words in started.values() if "afu9" in words) == []
    worker = started["worker"]
    assert (ROOT / f"{worker[1].replace('.', '/')}.py").is_file()
    timeout = int(worker[worker.index("--worker-shutdown-timeout") + 1])
    assert timeout == FIELDS["AFU9_DRAIN_SECONDS"].default * 1000
