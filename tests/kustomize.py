"""What `kubectl kustomize` makes of our folders, where kubectl is not: the few features that they use, and no other one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
SELECTORS = {  # where a kind keeps the labels that it selects by, and those of its pods
    "Service": [("spec", "selector")],
    "Deployment": [("spec", "selector", "matchLabels"), ("spec", "template", "metadata", "labels")],
    "Job": [("spec", "template", "metadata", "labels")],
    "PodDisruptionBudget": [("spec", "selector", "matchLabels")],
}


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization, in the order in which it names them."""
    found: list[Object] = []
    _add(folder, found)
    return found


def _add(folder: Path, found: list[Object]) -> None:
    own: list[Object] = []
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for path in told.pop("resources", []):
        if (folder / path).is_dir():
            _add(folder / path, own)
        else:
            own += [one for one in yaml.safe_load_all((folder / path).read_text()) if one]
    for path in told.pop("components", []):
        _add(folder / path, own)
    for labels in told.pop("labels", []):
        assert labels.pop("includeSelectors") is True
        _label(own, labels.pop("pairs"))
        assert not labels
    for image in told.pop("images", []):
        _name_image(own, image)
    assert told.keys() == {"apiVersion", "kind"}, f"{folder}: only kubectl knows {told.keys()}"
    found += own


def _label(objects: list[Object], pairs: dict[str, str]) -> None:
    for one in objects:
        one["metadata"].setdefault("labels", {}).update(pairs)
        for path in SELECTORS.get(one["kind"], []):
            place = one
            for key in path:
                place = place[key]
            place.update(pairs)


def _name_image(objects: list[Object], image: dict[str, str]) -> None:
    for one in objects:
        for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
