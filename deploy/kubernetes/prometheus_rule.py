"""Writes the rules of deploy/prometheus as the object that the Prometheus operator wants.

kustomize cannot put the content of a file into a field of a custom resource. So the rules have one source, this makes
the object of it, and check.py fails while the two differ:

    python3 deploy/kubernetes/prometheus_rule.py
"""

from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "prometheus" / "rules"
OBJECT = HERE / "overlays" / "production" / "prometheus-rule.yaml"

HEADER = """\
# Made by prometheus_rule.py of deploy/prometheus/rules, where the reasons stand as well: change it there.
"""


def groups() -> list:
    """The groups of all files, in the order of the files' names."""
    files = sorted(SOURCE.glob("*.yml"))
    return [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]


def rule() -> dict:
    """The whole object."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tableswap", "labels": {"app.kubernetes.io/name": "tableswap"}},
        "spec": {"groups": groups()},
    }


class Dumper(yaml.SafeDumper):
    """Writes a text of several lines as lines, as its source does."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)

if __name__ == "__main__":
    OBJECT.write_text(HEADER + yaml.dump(rule(), Dumper=Dumper, sort_keys=False, width=120))
