"""deploy/kubernetes: what Kustomize makes of it is valid, speaks of what exists, and may do little."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import SchemaNotFoundError

from orchestrator.metrics import DESCRIBED
from tests.deployed import (
    DEPLOY,
    FIELDS,
    PORTS,
    PROMETHEUS_RULE,
    as_prometheus_rule,
    rules,
    unknown_commands,
    wrong_settings,
)
from tests.kustomize import Object, build

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("hpa", "ingress", "keda", "prometheus-operator")
FOLDERS = ("base", *(f"overlays/{name}" for name in OVERLAYS))
VERSIONS = ("1.29", "1.33", "1.37")
OF_OPERATORS = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1")
ROLES = ("api", "orchestrator", "worker")
EVERYWHERE = "0.0.0.0"  # noqa: S104  # of a pod
BASE = build(FOLDER / "base")
KEDA = FOLDER / "components" / "keda"


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def load(path: Path) -> list[Object]:
    return [item for item in yaml.safe_load_all(path.read_text()) if item]


def pods(objects: list[Object]) -> dict[str, Any]:
    """The pod's specification of each Deployment and Job, by its name."""
    return {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in ("Deployment", "Job")
    }


def invalid(objects: list[Object], version: str) -> list[str]:
    """Objects that this version of Kubernetes refuses, for keys that it does not know too; operators' objects are not its."""
    faults = []
    for item in objects:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{item['kind']} {item['metadata']['name']}: {list(error.path)}: {error.message}")
        except SchemaNotFoundError:
            if item["apiVersion"] not in OF_OPERATORS:
                raise
    return faults


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_takes_every_object(folder: str, version: str) -> None:
    """By the schemas of its versions; no two objects have one name."""
    objects = build(FOLDER / folder)
    assert invalid(objects, version) == []
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(names)) == len(names)


def test_what_kubernetes_does_not_take_is_seen() -> None:
    """A key that it does not know, and a value of another type."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    assert invalid([service | {"spec": {"port": 1}}], VERSIONS[-1])
    assert invalid([service | {"spec": {"ports": [{"port": "http"}]}}], VERSIONS[-1])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, to compare with its own Kustomize")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_makes_the_same(folder: str) -> None:
    """As the tests' own reading of the folders."""
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=True)

    def by_name(objects: list[Object]) -> list[Object]:
        return sorted(objects, key=lambda item: (item["kind"], item["metadata"]["name"]))

    assert by_name(list(yaml.safe_load_all(done.stdout))) == by_name(build(FOLDER / folder))


def faults_of_pods(objects: list[Object]) -> list[str]:
    """What nobody reads, offers or gives: commands, settings, ports, Secrets and ConfigMaps."""
    configured = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
    faults = []
    for name, pod in pods(objects).items():
        (container,) = pod["containers"]
        own = {said["name"]: said.get("value") for said in container.get("env", [])}
        for source in container.get("envFrom", []):
            own |= configured[source["configMapRef"]["name"]]
        faults += [f"{name}: {word}" for word in wrong_settings(own) + unknown_commands([container["args"]])]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        faults += [f"{name}: port {key}" for key, number in ports.items() if PORTS[key] != number]
        if ports and (own["AFU9_METRICS_PORT"] != str(PORTS["metrics"]) or own["AFU9_METRICS_HOST"] != EVERYWHERE):
            faults.append(f"{name}: its probes reach nobody")
        if "http" in ports and (own["AFU9_API_PORT"], own["AFU9_API_AUTH"]) != (str(PORTS["http"]), "keys"):
            faults.append(f"{name}: its port is not the API's, or asks for no key")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        faults += [f"{name}: volume {key}" for key in mounted ^ volumes.keys()]
        maps = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
        faults += [f"{name}: ConfigMap {key}" for key in maps - configured.keys()]
    return faults


def lax(objects: list[Object]) -> list[str]:
    """Pods that may do more than they need, and those that are cut off in their drain or asked where nobody answers."""
    wrong = []
    (drain,) = [float(item["data"]["AFU9_DRAIN_SECONDS"]) for item in objects if "AFU9_DRAIN_SECONDS" in str(item)]
    for name, pod in pods(objects).items():
        (container,) = pod["containers"]
        allowed, may = pod["securityContext"], container["securityContext"]
        few = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        if may != few or not allowed["runAsNonRoot"] or allowed["seccompProfile"] != {"type": "RuntimeDefault"}:
            wrong.append(f"{name}: rights")
        if pod["automountServiceAccountToken"] or "limits" not in container["resources"]:
            wrong.append(f"{name}: token or memory")
        if name.endswith("migrate"):
            continue
        if pod["terminationGracePeriodSeconds"] < drain + 5:
            wrong.append(f"{name}: cut off")
        probes = {key: container[key]["httpGet"] for key in ("startupProbe", "livenessProbe", "readinessProbe")}
        if {key: probe["path"] for key, probe in probes.items()} != {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        } or {probe["port"] for probe in probes.values()} != {"metrics"}:
            wrong.append(f"{name}: probes")
        keys = [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]]
        if keys != ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]:
            wrong.append(f"{name}: spread")
    return wrong


def test_what_pods_name_exists() -> None:
    """Commands, settings with values that they may have, ports, volumes."""
    assert faults_of_pods(BASE) == []
    assert pods(BASE).keys() == {"afu9-migrate", *(f"afu9-{role}" for role in ROLES)}


def test_pods_may_do_little_and_have_time_to_end() -> None:
    """No root, no writing, no token; probes, grace, spread."""
    assert lax(BASE) == []
    assert FIELDS["AFU9_DRAIN_SECONDS"].default == float(one(BASE, "ConfigMap", "afu9")["data"]["AFU9_DRAIN_SECONDS"])


def test_only_the_migration_sees_the_owners_secret() -> None:
    """The fleet has the Secret afu9, workers may have one more; all are named in the guide."""
    secrets = {
        name: set(re.findall(r"'secretKeyRef': \{'name': '([\w-]+)'", str(pod))) for name, pod in pods(BASE).items()
    }
    assert secrets.pop("afu9-migrate") == {"afu9-owner"}
    assert all(found == {"afu9"} for found in secrets.values())
    assert re.findall(r"'secretName': '([\w-]+)'", str(pods(BASE))) == ["afu9-tools"]


def test_disruptions_and_services_find_their_pods() -> None:
    """Each selector has the labels of its role's pods; one pod at a time may be taken away."""
    for role in ROLES:
        labels = one(BASE, "Deployment", f"afu9-{role}")["spec"]["template"]["metadata"]["labels"]
        budget = one(BASE, "PodDisruptionBudget", f"afu9-{role}")["spec"]
        assert (budget["selector"]["matchLabels"], budget["maxUnavailable"]) == (labels, 1)
        for constraint in pods(BASE)[f"afu9-{role}"]["topologySpreadConstraints"]:
            assert constraint["labelSelector"]["matchLabels"] == labels
    service = one(BASE, "Service", "afu9-api")["spec"]
    assert service["selector"] == one(BASE, "Deployment", "afu9-api")["spec"]["template"]["metadata"]["labels"]


def test_nobody_but_the_scaler_says_how_many_workers_there_are() -> None:
    """An `apply` would undo what it did."""
    assert "replicas" not in one(BASE, "Deployment", "afu9-worker")["spec"]


def threads() -> int:
    return int(one(BASE, "ConfigMap", "afu9")["data"]["AFU9_THREADS"])


@pytest.mark.parametrize("name", ["scaledobject.yaml", "scaledobject-postgresql.yaml"])
def test_keda_scales_workers_by_depth_and_age(name: str) -> None:
    """Two rounds of work for each slot, 15 s at most; slowly down."""
    scaled = one(load(KEDA / name), "ScaledObject", "afu9-worker")["spec"]
    assert one(BASE, "Deployment", scaled["scaleTargetRef"]["name"])
    depth, age = scaled["triggers"]
    assert (depth["metricType"], age["metricType"]) == ("AverageValue", "Value")
    key = "threshold" if "threshold" in depth["metadata"] else "targetQueryValue"
    assert int(depth["metadata"][key]) == 2 * threads()
    assert int(age["metadata"][key]) == 15
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down == {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    }


def test_keda_does_the_same_with_and_without_prometheus() -> None:
    """All but the triggers."""
    both = [one(load(path), "ScaledObject", "afu9-worker") for path in sorted(KEDA.glob("scaledobject*.yaml"))]
    for scaled in both:
        del scaled["spec"]["triggers"]
    assert both[0] == both[1]


def test_the_plain_autoscaler_keeps_seventy_percent_busy() -> None:
    """Of a metric that the adapter serves from one that workers have."""
    folder = FOLDER / "components" / "hpa"
    (scaler,) = load(folder / "autoscaler.yaml")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert DESCRIBED[name].kind == "gauge"
    assert metric["pods"]["target"]["averageValue"] == f"{threads() * 700}m"
    (rule,) = load(folder / "adapter-rules.yaml")[0]["rules"]["custom"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert one(BASE, scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
    keda = one(load(KEDA / "scaledobject.yaml"), "ScaledObject", "afu9-worker")["spec"]
    assert scaler["spec"]["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def test_the_operator_has_the_same_rules() -> None:
    """As texts, and as it reads them."""
    assert PROMETHEUS_RULE.read_text() == as_prometheus_rule()
    assert yaml.safe_load(PROMETHEUS_RULE.read_text())["spec"] == {"groups": rules()}


def test_the_operator_scrapes_whoever_has_metrics() -> None:
    """/metrics of every role, /metrics/fleet of those that have it, at the port that pods name so."""
    wanted = {"afu9": ("/metrics", [*ROLES]), "afu9-fleet": ("/metrics/fleet", ["api", "orchestrator"])}
    for monitor in load(FOLDER / "components" / "prometheus-operator" / "podmonitor.yaml"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (expression,) = monitor["spec"]["selector"]["matchExpressions"]
        assert (endpoint["path"], expression["values"]) == wanted.pop(monitor["metadata"]["name"])
        assert endpoint["port"] in PORTS
        assert monitor["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "afu9"}
    assert wanted == {}


def test_the_ingress_leads_to_the_api() -> None:
    """By the names of the Service and its port."""
    (ingress,) = load(FOLDER / "components" / "ingress" / "ingress.yaml")
    service = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert service["port"]["name"] in [port["name"] for port in one(BASE, "Service", service["name"])["spec"]["ports"]]


def test_the_image_is_of_this_version() -> None:
    """Of the package; one tag for all."""
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "([\d.]+)"$', project, re.M)
    assert {pod["containers"][0]["image"] for pod in pods(BASE).values()} == {f"afu9:{version}"}
