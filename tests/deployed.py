"""What the program knows, to hold files under deploy/ against: its settings, commands, ports and rules.

python -m tests.deployed        makes the operator's copy of the rules anew
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter

from control_center.cli import COMMANDS
from persistence.settings import SECRETS, Settings
from tests.fleet import ROOT

DEPLOY = ROOT / "deploy"
FIELDS = {str(field.validation_alias): field for field in Settings.model_fields.values()}
PORTS = {"metrics": 9100, "http": 3000}
OURS = re.compile(r"^(AFU9_|DATABASE_|REDIS_URL)")
RULES = ("recording.yml", "alerts.yml")
PROMETHEUS_RULE = DEPLOY / "kubernetes" / "components" / "prometheus-operator" / "rules.yaml"
RULE_HEAD = """\
# Made of deploy/prometheus/recording.yml and alerts.yml by `python -m tests.deployed`; a test holds them equal.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: afu9
spec:
  groups:
"""
OF_CLIENTS = {"AFU9_URL", "AFU9_API_KEY"}  # read by commands and clients, not by roles


def wrong_settings(variables: Mapping[str, Any]) -> list[str]:
    """Variables of ours that nobody reads, and values that they may not have. Where a value comes from elsewhere (None) only
    its name is looked at; `${NAME:-default}` is taken as its default."""
    known = FIELDS.keys() | {f"{name}_FILE" for name in SECRETS}
    wrong = [name for name in variables if OURS.match(name) and name not in known]
    for name, value in variables.items():
        if name in FIELDS and value is not None:
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
            field = FIELDS[name]
            try:
                TypeAdapter(field.rebuild_annotation()).validate_strings(text)
            except ValueError as error:
                wrong.append(f"{name}={value}: {error}")
    return wrong


def unknown_commands(commands: Iterable[list[str]]) -> list[str]:
    """Of `afu9 <words>`, those that are none."""
    return [words[0] for words in commands if words[0] not in COMMANDS]


def unknown_words(text: str) -> list[str]:
    """Variables of ours that a text speaks of and nobody reads."""
    known = FIELDS.keys() | {f"{name}_FILE" for name in SECRETS} | OF_CLIENTS
    return sorted({word for word in re.findall(r"\bAFU9_[A-Z_]*[A-Z]\b", text) if word not in known})


def rules() -> list[dict[str, Any]]:
    """Groups of recording rules and alerts, as Prometheus reads them."""
    texts = ((DEPLOY / "prometheus" / name).read_text() for name in RULES)
    return [group for text in texts for group in yaml.safe_load(text)["groups"]]


def as_prometheus_rule() -> str:
    """The same as the operator reads them: texts as they are, below a head."""
    groups = ((DEPLOY / "prometheus" / name).read_text().split("groups:\n")[1] for name in RULES)
    return RULE_HEAD + textwrap.indent("".join(groups), "  ")


if __name__ == "__main__":
    PROMETHEUS_RULE.write_text(as_prometheus_rule())
