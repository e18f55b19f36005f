"""Checks the objects that kustomize made, one file for each overlay, and says what is wrong with which.

Kubernetes' own objects are held against the schemas of its newest version that kubernetes-validate has, custom
resources against classes made from their definitions. The rest is what no schema knows: what every pod must be like,
and that whatever names another thing names one that is there.

    python3 check.py production.yaml embedded-demo.yaml
"""

import functools
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import ValidationError

import prometheus_rule

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

CUSTOM = {model.__name__: model for model in (ScaledObject, PrometheusRule, ServiceMonitor)}
NOT_IN_A_NAMESPACE = {"Namespace"}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Object = dict
Complaints = Iterator[str]


class Overlay:
    """The objects of an overlay."""

    def __init__(self, objects: list[Object]):
        self.objects = objects

    def of(self, *kinds: str) -> list[Object]:
        return [obj for obj in self.objects if obj["kind"] in kinds]

    def workloads(self) -> list[Object]:
        """Whatever makes pods."""
        return [obj for obj in self.objects if "template" in obj.get("spec", {})]

    def pods(self, labels: dict) -> list[Object]:
        """The workloads whose pods have these labels."""
        return [it for it in self.workloads() if labels.items() <= it["spec"]["template"]["metadata"]["labels"].items()]

    def monitored(self) -> list[Object]:
        """The Services that a ServiceMonitor selects; each is a job of Prometheus."""
        wanted = [monitor["spec"]["selector"]["matchLabels"] for monitor in self.of("ServiceMonitor")]
        return [
            service
            for service in self.of("Service")
            if any(labels.items() <= service["metadata"]["labels"].items() for labels in wanted)
        ]


def title(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def containers(workload: Object) -> list[dict]:
    pod = workload["spec"]["template"]["spec"]
    return pod.get("initContainers", []) + pod["containers"]


def environment(container: dict) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def ports(workload: Object) -> set:
    """Names and numbers of all ports."""
    declared = [port for container in containers(workload) for port in container.get("ports", [])]
    return {value for port in declared for value in (port.get("name"), port["containerPort"])}


# Schemas --------------------------------------------------------------------------------------------------------------


def schema(overlay: Overlay) -> Complaints:
    for obj in overlay.objects:
        yield from (f"{title(obj)}: {said}" for said in schema_of(json.dumps(obj)))


@functools.cache
def schema_of(text: str) -> list[str]:
    """Reading a schema takes long, so what was said about an object is kept: overlays share most of theirs."""
    obj = json.loads(text)
    if obj["kind"] in CUSTOM:
        return list(custom(obj))
    try:
        kubernetes_validate.validate(obj, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def custom(obj: Object) -> Complaints:
    try:
        read = CUSTOM[obj["kind"]].model_validate(obj)
    except ValidationError as error:
        yield str(error)
        return
    # The classes pass over what they do not know, so what they give back is compared with what they were given.
    known = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    yield from (f"{path} is no field of it" for path in differences(obj, known))


def differences(given, known, path: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(known, dict):
        for name in given:
            yield from differences(given[name], known.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for index, value in enumerate(given):
            yield from differences(value, known[index], f"{path}[{index}]")
    elif given != known:
        yield path


# Pods -----------------------------------------------------------------------------------------------------------------


def hardening(overlay: Overlay) -> Complaints:
    for workload in overlay.workloads():
        pod = workload["spec"]["template"]["spec"]
        context = pod.get("securityContext", {})
        wanted = {
            "enableServiceLinks is false": pod.get("enableServiceLinks") is False,
            "automountServiceAccountToken is false": pod.get("automountServiceAccountToken") is False,
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "seccompProfile is RuntimeDefault": context.get("seccompProfile") == {"type": "RuntimeDefault"},
            "its own service account": account_without_token(overlay, pod.get("serviceAccountName")),
        }
        yield from (f"{title(workload)} lacks: {name}" for name, given in wanted.items() if not given)
        for container in containers(workload):
            lacking = of_container(container)
            yield from (f"{title(workload)}: container {container['name']} lacks: {name}" for name in lacking)


def of_container(container: dict) -> Iterator[str]:
    context, resources = container.get("securityContext", {}), container.get("resources", {})
    wanted = {
        "readOnlyRootFilesystem": context.get("readOnlyRootFilesystem") is True,
        "allowPrivilegeEscalation is false": context.get("allowPrivilegeEscalation") is False,
        "capabilities drop ALL": context.get("capabilities") == {"drop": ["ALL"]},
        "requests for cpu and memory": {"cpu", "memory"} <= resources.get("requests", {}).keys(),
        "a limit for memory": "memory" in resources.get("limits", {}),
    } | {probe: probe in container for probe in PROBES}
    return (name for name, given in wanted.items() if not given)


def account_without_token(overlay: Overlay, name: str | None) -> bool:
    accounts = [account for account in overlay.of("ServiceAccount") if account["metadata"]["name"] == name]
    return any(account.get("automountServiceAccountToken") is False for account in accounts)


def images(overlay: Overlay) -> Complaints:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    for workload in overlay.workloads():
        for container in containers(workload):
            if not container["image"].endswith(f":{version}"):
                yield f"{title(workload)}: image {container['image']} is not of version {version}"


def settings(overlay: Overlay) -> Complaints:
    known = set(re.findall(r"^\| `(TABLESWAP_\w+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    for workload in overlay.workloads():
        for container in containers(workload):
            for name in environment(container):
                if name.startswith("TABLESWAP_") and name.removesuffix("_FILE") not in known:
                    yield f"{title(workload)}: {name} is no setting of README.md"


def paths(overlay: Overlay) -> Complaints:
    """The root file system is read-only and empty: what is read or written is on a volume."""
    for workload in overlay.workloads():
        volumes = {volume["name"] for volume in workload["spec"]["template"]["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for container in containers(workload):
            mounts = container.get("volumeMounts", [])
            for mount in mounts:
                if mount["name"] not in volumes:
                    yield f"{title(workload)}: volume {mount['name']} is not there"
            for name, value in environment(container).items():
                path = value.removeprefix("embedded:")
                if path.startswith("/") and not any(path.startswith(mount["mountPath"] + "/") for mount in mounts):
                    yield f"{title(workload)}: {name}: no volume has {path}"


def stopping(overlay: Overlay) -> Complaints:
    for workload in overlay.workloads():
        grace = workload["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        for container in containers(workload):
            given = environment(container)
            for server in ("API", "UPDATER"):
                # The defaults of README.md.
                notice = int(given.get(f"TABLESWAP_{server}_STOP_NOTICE_SECONDS", 0))
                wait = int(given.get(f"TABLESWAP_{server}_STOP_WAIT_SECONDS", 30))
                if f"TABLESWAP_{server}_LISTEN" in given and grace <= notice + wait:
                    yield f"{title(workload)}: terminationGracePeriodSeconds is not more than {notice} + {wait}"


# Secrets --------------------------------------------------------------------------------------------------------------


def secrets(overlay: Overlay) -> Complaints:
    for obj in overlay.of("Secret"):
        yield f"{title(obj)}: no secret belongs here"
    manual = (HERE / "README.md").read_text()
    for workload in overlay.workloads():
        for volume in workload["spec"]["template"]["spec"].get("volumes", []):
            name = volume.get("secret", {}).get("secretName")
            if name and f"create secret generic {name} " not in manual:
                yield f"{title(workload)}: README.md does not say how to create the secret {name}"
        for container in containers(workload):
            for name in environment(container):
                if name in ("TABLESWAP_UPDATER_TOKEN", "TABLESWAP_STORE_READ_URLS"):
                    yield f"{title(workload)}: {name} holds a secret: give it as {name}_FILE"
            if environment(container).get("TABLESWAP_STORE_URL", "").startswith("mysql:"):
                yield f"{title(workload)}: TABLESWAP_STORE_URL holds a secret: give it as TABLESWAP_STORE_URL_FILE"


# Whatever names another thing -----------------------------------------------------------------------------------------


def selectors(overlay: Overlay) -> Complaints:
    for workload in overlay.workloads():
        if workload not in overlay.pods(workload["spec"]["selector"]["matchLabels"]):
            yield f"{title(workload)}: it does not select its own pods"
    selecting = {
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels", {}),
    }
    for kind, labels in selecting.items():
        for obj in overlay.of(kind):
            if not overlay.pods(labels(obj["spec"])):
                yield f"{title(obj)}: its selector matches no pod"
    for monitor in overlay.of("ServiceMonitor"):
        if not overlay.monitored():
            yield f"{title(monitor)}: its selector matches no Service"


def port_names(overlay: Overlay) -> Complaints:
    for workload in overlay.workloads():
        for container in containers(workload):
            for name in PROBES:
                port = container.get(name, {}).get("httpGet", {}).get("port")
                if port not in ports(workload):
                    yield f"{title(workload)}: {name}: port {port} is not there"
            for name, value in environment(container).items():
                if name.endswith("_LISTEN") and int(value.rsplit(":", 1)[-1]) not in ports(workload):
                    yield f"{title(workload)}: {name} is no port of the container"
    for service in overlay.of("Service"):
        for workload in overlay.pods(service["spec"]["selector"]):
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports(workload):
                    yield f"{title(service)}: targetPort {port['targetPort']} is not there"
    for policy in overlay.of("NetworkPolicy"):
        for workload in overlay.pods(policy["spec"]["podSelector"].get("matchLabels", {})):
            for port in (port for rule in policy["spec"].get("ingress", []) for port in rule["ports"]):
                if port["port"] not in ports(workload):
                    yield f"{title(policy)}: port {port['port']} is not there"
    for monitor in overlay.of("ServiceMonitor"):
        for service in overlay.monitored():
            for endpoint in monitor["spec"]["endpoints"]:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{title(monitor)}: {title(service)} has no port {endpoint['port']}"


def network_policies(overlay: Overlay) -> Complaints:
    for workload in overlay.workloads():
        closed = {
            direction
            for policy in overlay.of("NetworkPolicy")
            if workload in overlay.pods(policy["spec"]["podSelector"].get("matchLabels", {}))
            for direction in policy["spec"]["policyTypes"]
        }
        for direction in {"Ingress", "Egress"} - closed:
            yield f"{title(workload)}: no NetworkPolicy closes its {direction}"


def autoscaling(overlay: Overlay) -> Complaints:
    scaled = set()
    for scaler in overlay.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        name = (target["kind"], target["name"])
        targets = [it for it in overlay.workloads() if (it["kind"], it["metadata"]["name"]) == name]
        if not targets:
            yield f"{title(scaler)}: {target['kind']} {target['name']} is not there"
        if name in scaled:
            yield f"{title(scaler)}: {target['kind']} {target['name']} is scaled by another as well"
        scaled.add(name)
        if any("replicas" in workload["spec"] for workload in targets):
            yield f"{title(scaler)}: {target['kind']} {target['name']} has a number of its own"


def namespaces(overlay: Overlay) -> Complaints:
    made = {namespace["metadata"]["name"] for namespace in overlay.of("Namespace")}
    for obj in overlay.objects:
        if obj["kind"] not in NOT_IN_A_NAMESPACE and obj["metadata"].get("namespace") not in made:
            yield f"{title(obj)}: its namespace is not there"
    for scaler in overlay.of("ScaledObject"):
        for name in re.findall(r'namespace="(.*?)"', str(scaler)):
            if name not in made:
                yield f"{title(scaler)}: asks for the namespace {name}, which is not there"


# Monitoring -----------------------------------------------------------------------------------------------------------


def adapter() -> list[dict]:
    values = HERE / "overlays" / "production" / "prometheus-adapter-values.yaml"
    return yaml.safe_load(values.read_text())["rules"]["custom"]


def queries(overlay: Overlay) -> Iterator[tuple[str, str]]:
    """Whatever is asked of Prometheus, and by whom."""
    for rule in overlay.of("PrometheusRule"):
        for group in rule["spec"]["groups"]:
            yield from ((f"{title(rule)}: group {group['name']}", entry["expr"]) for entry in group["rules"])
    for scaler in overlay.of("ScaledObject"):
        for trigger in scaler["spec"]["triggers"]:
            yield title(scaler), trigger["metadata"].get("query", "")
    if overlay.of("HorizontalPodAutoscaler"):
        for rule in adapter():
            yield "prometheus-adapter-values.yaml", rule["seriesQuery"] + rule["metricsQuery"]


@functools.cache
def servers() -> str:
    """The sources of the servers, where the names of their metrics stand."""
    return "".join(file.read_text() for file in (ROOT / "crates").glob("*/src/**/*.rs"))


def metrics(overlay: Overlay) -> Complaints:
    jobs = {service["metadata"]["name"] for service in overlay.monitored()}
    sources = servers()
    for who, query in queries(overlay):
        for job in (job for named in re.findall(r'job=~?"(.*?)"', query) for job in named.split("|")):
            if job not in jobs:
                yield f"{who}: the job {job} is no Service that is monitored"
        # A recorded series has a colon in its name.
        for name in re.findall(r"(?<![\w:])(?:tableswap|http)_\w+(?!\w*:)", re.sub(r'"[^"]*"', "", query)):
            if f'"{re.sub("_(bucket|count|sum)$", "", name)}"' not in sources:
                yield f"{who}: no server has the metric {name}"
    given = {rule["name"]["as"] for rule in adapter()}
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            name = metric.get("pods", {}).get("metric", {}).get("name")
            if name and name not in given:
                yield f"{title(scaler)}: prometheus-adapter-values.yaml does not give {name}"


def rules(overlay: Overlay) -> Complaints:
    for rule in overlay.of("PrometheusRule"):
        if rule["spec"]["groups"] != prometheus_rule.groups():
            yield f"{title(rule)}: it differs from deploy/prometheus/rules: run prometheus_rule.py"


CHECKS: list[Callable[[Overlay], Complaints]] = [
    schema,
    hardening,
    images,
    settings,
    paths,
    stopping,
    secrets,
    selectors,
    port_names,
    network_policies,
    autoscaling,
    namespaces,
    metrics,
    rules,
]


def load(file: Path) -> Overlay:
    return Overlay([obj for obj in yaml.safe_load_all(file.read_text()) if obj])


def complaints(overlay: Overlay) -> list[str]:
    """What is wrong. What the schema refuses may lack what the other checks look at, so it comes alone."""
    return list(schema(overlay)) or [said for check in CHECKS for said in check(overlay)]


def main(files: list[str]) -> int:
    if not files:
        print("check.py: name the files that kubectl kustomize wrote", file=sys.stderr)
        return 2
    failed = False
    for file in map(Path, files):
        overlay = load(file)
        said = complaints(overlay)
        failed |= bool(said) or not overlay.objects
        print(f"{file.stem}: {len(overlay.objects)} objects, {len(said)} complaints")
        print("".join(f"  {complaint}\n" for complaint in said), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
