#!/usr/bin/env python3
"""Says what is wrong with the dashboards: with their form, their layout and their queries.

    PROMTOOL=promtool deploy/grafana/check.py

Nothing but Python and promtool is needed. What Prometheus would answer is not looked at.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = HERE.parent / "prometheus" / "rules" / "recording.yml"
PROMTOOL = os.environ.get("PROMTOOL", "promtool")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


def main():
    complaints = []
    for path in sorted((HERE / "dashboards").glob("*.json")):
        complaints += [f"{path.name}: {complaint}" for complaint in check(path)]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    sys.exit(1 if complaints else 0)


def check(path):
    try:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"is not JSON: {error}"
        return
    if dashboard.get("uid") != path.stem:
        yield "the uid is not the name of the file"
    panels = dashboard["panels"]
    ids = Counter(panel["id"] for panel in panels)
    yield from (f"id {number} stands {count} times" for number, count in ids.items() if count > 1)
    yield from layout(panels)
    for panel in panels:
        if panel["type"] != "row":
            yield from (f"panel {panel['id']}, {panel['title']}: {complaint}" for complaint in content(panel))
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    if variables.get("datasource") != "datasource":
        yield "there is no variable for the data source"
    yield from queries(list(expressions(dashboard)))


def layout(panels):
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] < 0 or place["x"] + place["w"] > COLUMNS:
            yield f"panel {panel['id']} is wider than the dashboard"
    for one, other in combinations(panels, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"panels {one['id']} and {other['id']} overlap"


def overlap(one, other):
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


def content(panel):
    if not panel.get("description"):
        yield "has no description"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "has no unit"
    targets = panel.get("targets", [])
    if not targets:
        yield "asks for nothing"
    if any(target.get("datasource") != DATASOURCE for target in [panel, *targets]):
        yield "does not ask the data source that is chosen"
    if any(not target.get("expr") for target in targets):
        yield "has a target without an expression"
    letters = [target.get("refId") for target in targets]
    if len(set(letters)) < len(letters):
        yield "has two targets of one name"


def expressions(dashboard):
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []) if target.get("expr"))
    yield from (each["expr"] for each in dashboard["annotations"]["list"])


def queries(exprs):
    """What Grafana fills in is filled in, and the rest is a file of rules, which promtool reads."""
    known = set(re.findall(r"record: (\S+)", RULES.read_text(encoding="utf-8")))
    for expr in exprs:
        unknown = set(re.findall(r"tableswap:\w+:\w+", expr)) - known
        yield from (f"no rule records {name}" for name in sorted(unknown))
    filled = [expr.replace("$__rate_interval", "1m") for expr in exprs]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(filled)]
    # JSON is YAML as well.
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        said = subprocess.run([PROMTOOL, "check", "rules", file.name], capture_output=True, text=True, check=False)
    if said.returncode != 0:
        yield f"promtool: {said.stdout}{said.stderr}".rstrip()


if __name__ == "__main__":
    main()
