"""deploy/helm: the chart makes what Kustomize makes, and what else its values ask for, with helm's own library."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.deployed import DEPLOY, FIELDS, rules
from tests.kustomize import Object, build
from tests.unit.test_kubernetes import FOLDER, KEDA, VERSIONS, faults_of_pods, invalid, lax, load, one, pods

CHART = DEPLOY / "helm" / "afu9"
OF_HELM = {
    "helm.sh/chart",
    "helm.sh/hook",
    "helm.sh/hook-delete-policy",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "checksum/config",
}
EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.example.com/afu9", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {"fleet": "one", "owner": "two", "tools": "three"},
    "settings": {"AFU9_DRAIN_SECONDS": "90", "AFU9_THREADS": "8"},
    "mcpServers": {"github": {"url": "https://mcp.example.com", "headers": {"Authorization": "Bearer ${TOKEN}"}}},
    "worker": {"replicas": 3, "env": [{"name": "TOKEN", "value": "x"}]},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": ""},
    "prometheusOperator": {"enabled": True},
}


def rendered(values: dict[str, Any], name: str = "afu9") -> list[Object]:
    """The objects of a release."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")
    with helm.Chart.load(CHART) as chart:
        texts: dict[str, str] = chart.render(values, name=name, namespace="here")
    return [item for path, text in texts.items() if path.endswith(".yaml") for item in yaml.safe_load_all(text) if item]


def without(value: Any, keys: set[str]) -> Any:
    """The same without these keys, however deep, and without what is then empty."""
    if isinstance(value, dict):
        kept = {key: without(item, keys) for key, item in value.items() if key not in keys}
        return {key: item for key, item in kept.items() if item != {} or value[key] == {}}
    return [without(item, keys) for item in value] if isinstance(value, list) else value


def comparable(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """By kind and name, without what only helm says, and without labels that nothing selects by."""
    found = {}
    for item in without(objects, OF_HELM):
        metadata = dict(item["metadata"])
        metadata.pop("labels", None)
        if "mcp.json" in item.get("data", {}):
            item["data"]["mcp.json"] = json.loads(item["data"]["mcp.json"])
        found[item["kind"], metadata["name"]] = item | {"metadata": metadata}
    return found


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        ("base", {}),
        ("overlays/hpa", {"autoscaling": {"kind": "hpa"}}),
        ("overlays/keda", {"autoscaling": {"kind": "keda"}}),
        ("overlays/prometheus-operator", {"prometheusOperator": {"enabled": True}}),
        ("overlays/ingress", {"ingress": {"enabled": True}}),
    ],
)
def test_the_chart_makes_what_kustomize_makes(folder: str, values: dict[str, Any]) -> None:
    """Object for object."""
    assert comparable(rendered(values)) == comparable(build(FOLDER / folder))


def test_the_chart_scales_by_postgresql_too() -> None:
    """As the file that stands beside KEDA's component."""
    made = comparable(rendered({"autoscaling": {"kind": "keda-postgresql"}}))
    wanted = comparable(load(KEDA / "scaledobject-postgresql.yaml"))
    assert {key: made[key] for key in wanted} == wanted


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["", "keda", "keda-postgresql", "hpa"])
def test_kubernetes_takes_whatever_the_values_ask_for(kind: str, version: str) -> None:
    """All at once, in a release of another name; names and settings fit each other."""
    objects = rendered(EVERYTHING | {"autoscaling": {"kind": kind}}, "prod")
    assert invalid(objects, version) == []
    assert (faults_of_pods(objects), lax(objects)) == ([], [])
    assert {item["metadata"]["name"].startswith("prod-afu9") for item in objects} == {True}
    assert ("replicas" in one(objects, "Deployment", "prod-afu9-worker")["spec"]) == (kind == "")
    assert {pod["containers"][0]["image"] for pod in pods(objects).values()} == {"registry.example.com/afu9:1.2.3"}
    assert {pod["terminationGracePeriodSeconds"] for name, pod in pods(objects).items() if "migrate" not in name} == {
        100
    }
    assert set(re.findall(r"'secret(?:KeyRef': {'n|N)ame': '(\w+)'", str(objects))) == {"one", "two", "three"}
    servers = json.loads(one(objects, "ConfigMap", "prod-afu9-mcp")["data"]["mcp.json"])
    assert servers == {"mcpServers": EVERYTHING["mcpServers"]}
    assert one(objects, "PrometheusRule", "prod-afu9")["spec"] == {"groups": rules()}


def test_a_word_that_no_autoscaler_has_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(Exception, match="keda, keda-postgresql, hpa or empty, not kede"):
        rendered({"autoscaling": {"kind": "kede"}})


def test_the_chart_is_of_this_version_and_well_made() -> None:
    """helm's own linter finds no more than that an icon is missing; its settings are ours."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")
    report = helm.lint(CHART, strict=True)
    assert (report["errors"], [word["error"] for word in report["messages"]]) == ([], ["icon is recommended"])
    (version,) = re.findall(r'^version = "([\d.]+)"$', (DEPLOY.parent / "pyproject.toml").read_text(), re.M)
    chart, values = (yaml.safe_load((CHART / name).read_text()) for name in ("Chart.yaml", "values.yaml"))
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert values["settings"].keys() <= FIELDS.keys()
