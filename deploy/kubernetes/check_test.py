"""Breaks an object in each way that check.py is there for, and expects the complaint that belongs to it.

check.sh runs it with the built overlays in the directory BUILT.
"""

import copy
import os
import unittest
from pathlib import Path

import check

BUILT = Path(os.environ["BUILT"])
WHOLE = {name: check.load(BUILT / f"{name}.yaml").objects for name in ("production", "production-keda")}


class Broken(check.Overlay):
    """A copy of an overlay, to be broken."""

    def __init__(self, name: str):
        super().__init__(copy.deepcopy(WHOLE[name]))

    def get(self, kind: str, name: str) -> dict:
        return next(obj for obj in self.of(kind) if obj["metadata"]["name"] == name)

    def spec(self, kind: str, name: str = "tableswap-api") -> dict:
        return self.get(kind, name)["spec"]

    def pod(self, name: str = "tableswap-api") -> dict:
        return self.spec("Deployment", name)["template"]["spec"]

    def container(self, name: str = "tableswap-api") -> dict:
        return self.pod(name)["containers"][0]

    def variable(self, setting: str, name: str = "tableswap-api") -> dict:
        return next(entry for entry in self.container(name)["env"] if entry["name"] == setting)

    def remove(self, kind: str, *names: str) -> None:
        for name in names:
            self.objects.remove(self.get(kind, f"tableswap-{name}"))


# How an overlay is broken, and what is to be said about it.
PRODUCTION = [
    (lambda it: it.spec("Deployment").update(replicaz=3), "replicaz"),
    (lambda it: it.spec("Service")["ports"][0].update(port="many"), "is not of type 'integer'"),
    (lambda it: it.get("Service", "tableswap-api").update(kind="Serviec"), "find schema for kind Serviec"),
    (lambda it: it.spec("ServiceMonitor", "tableswap")["endpoints"][0].update(intervall="1s"), "intervall is no field"),
    (lambda it: it.spec("ServiceMonitor", "tableswap")["endpoints"][0].update(interval="soon"), "interval"),
    (lambda it: it.spec("ServiceMonitor", "tableswap").pop("selector"), "selector"),
    (lambda it: it.spec("PrometheusRule", "tableswap")["groups"][0]["rules"][0].pop("expr"), "expr"),
    (lambda it: it.pod().pop("enableServiceLinks"), "lacks: enableServiceLinks"),
    (lambda it: it.pod().update(automountServiceAccountToken=True), "lacks: automountServiceAccountToken"),
    (lambda it: it.pod()["securityContext"].update(runAsNonRoot=False), "lacks: runAsNonRoot"),
    (lambda it: it.pod()["securityContext"].pop("seccompProfile"), "lacks: seccompProfile"),
    (lambda it: it.pod().update(serviceAccountName="default"), "lacks: its own service account"),
    (lambda it: it.container()["securityContext"].pop("readOnlyRootFilesystem"), "lacks: readOnlyRootFilesystem"),
    (lambda it: it.container()["securityContext"].pop("allowPrivilegeEscalation"), "lacks: allowPrivilege"),
    (lambda it: it.container()["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]), "lacks: capabilities"),
    (lambda it: it.container()["resources"]["requests"].pop("cpu"), "lacks: requests"),
    (lambda it: it.container()["resources"].pop("limits"), "lacks: a limit for memory"),
    (lambda it: it.container().pop("startupProbe"), "lacks: startupProbe"),
    (lambda it: it.container().pop("livenessProbe"), "lacks: livenessProbe"),
    (lambda it: it.container().pop("readinessProbe"), "lacks: readinessProbe"),
    (lambda it: it.container().update(image="tableswap/api"), "is not of version"),
    (lambda it: it.variable("TABLESWAP_API_WORKERS").update(name="TABLESWAP_API_THREADS"), "no setting of README"),
    (lambda it: it.container()["volumeMounts"][0].update(mountPath="/run/secret"), "no volume has /run/secrets"),
    (lambda it: it.pod()["volumes"][0].update(name="secret"), "volume secrets is not there"),
    (lambda it: it.variable("TABLESWAP_UPDATER_WORK_DIR", "tableswap-updater").update(value="/tmp/x"), "no volume has"),
    (lambda it: it.variable("TABLESWAP_API_STOP_NOTICE_SECONDS").update(value="25"), "is not more than 25 + 20"),
    (
        lambda it: it.variable("TABLESWAP_STORE_URL_FILE").update(name="TABLESWAP_STORE_URL", value="mysql://a:b@c/d"),
        "TABLESWAP_STORE_URL holds a secret",
    ),
    (lambda it: it.pod()["volumes"][0]["secret"].update(secretName="hidden"), "how to create the secret hidden"),
    (lambda it: it.objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}), "no secret"),
    (lambda it: it.spec("Deployment")["selector"]["matchLabels"].update(a="b"), "does not select its own pods"),
    (lambda it: it.spec("Service")["selector"].update(a="b"), "Service tableswap-api: its selector matches no pod"),
    (lambda it: it.spec("PodDisruptionBudget")["selector"]["matchLabels"].update(a="b"), "Budget tableswap-api: its"),
    (lambda it: it.spec("NetworkPolicy")["podSelector"]["matchLabels"].update(a="b"), "Policy tableswap-api: its sel"),
    (lambda it: it.spec("ServiceMonitor", "tableswap")["selector"]["matchLabels"].update(a="b"), "matches no Service"),
    (lambda it: it.container()["readinessProbe"]["httpGet"].update(port="web"), "readinessProbe: port web"),
    (lambda it: it.variable("TABLESWAP_API_LISTEN").update(value="0.0.0.0:1322"), "is no port of the container"),
    (lambda it: it.spec("Service")["ports"][0].update(targetPort="web"), "targetPort web is not there"),
    (lambda it: it.spec("NetworkPolicy")["ingress"][0]["ports"][0].update(port=80), "port 80 is not there"),
    (lambda it: it.spec("ServiceMonitor", "tableswap")["endpoints"][0].update(port="web"), "has no port web"),
    (lambda it: it.remove("NetworkPolicy", "deny", "egress"), "tableswap-api: no NetworkPolicy closes its Egress"),
    (lambda it: it.remove("NetworkPolicy", "deny", "api"), "tableswap-api: no NetworkPolicy closes its Ingress"),
    (lambda it: it.spec("HorizontalPodAutoscaler")["scaleTargetRef"].update(name="api"), "Deployment api is not there"),
    (lambda it: it.objects.append(it.get("HorizontalPodAutoscaler", "tableswap-api")), "scaled by another"),
    (lambda it: it.spec("Deployment").update(replicas=3), "has a number of its own"),
    (lambda it: it.get("Service", "tableswap-api")["metadata"].update(namespace="x"), "its namespace is not there"),
    (lambda it: it.spec("HorizontalPodAutoscaler")["metrics"][1]["pods"]["metric"].update(name="x"), "does not give x"),
    (lambda it: it.spec("PrometheusRule", "tableswap")["groups"].pop(), "differs from deploy/prometheus/rules"),
    (lambda it: it.get("Service", "tableswap-api")["metadata"].update(labels={}), "job tableswap-api is no Service"),
    (lambda it: it.pod()["containers"].append({"name": "other", "image": "other"}), "container other lacks: a limit"),
    (
        lambda it: it.spec("PrometheusRule", "tableswap")["groups"][0]["rules"][0].update(expr="tableswap_x_total"),
        "no server has the metric tableswap_x_total",
    ),
]

KEDA = [
    (lambda it: it.spec("ScaledObject").update(maxReplicas=3), "maxReplicas is no field"),
    (lambda it: it.spec("ScaledObject").update(maxReplicaCount="many"), "maxReplicaCount"),
    (lambda it: it.spec("ScaledObject")["scaleTargetRef"].update(name="api"), "Deployment api is not there"),
    (lambda it: it.get("Namespace", "tableswap")["metadata"].update(name="x"), "asks for the namespace tableswap"),
    (
        lambda it: it.spec("ScaledObject")["triggers"][1]["metadata"].update(query='sum(http_x_total{job="a"})'),
        "no server has the metric http_x_total",
    ),
]


class Checks(unittest.TestCase):
    """Every check can fail."""

    def test_what_is_broken_is_complained_about(self):
        for overlay, breaks in (("production", PRODUCTION), ("production-keda", KEDA)):
            before = check.complaints(Broken(overlay))
            for breaks_it, expected in breaks:
                with self.subTest(overlay=overlay, expected=expected):
                    it = Broken(overlay)
                    breaks_it(it)
                    said = [complaint for complaint in check.complaints(it) if complaint not in before]
                    self.assertTrue(any(expected in complaint for complaint in said), said)


if __name__ == "__main__":
    unittest.main()
