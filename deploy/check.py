"""Checks deploy/: manifests as rendered, the compose file, the Dockerfile, and the binary that they all start.

usage: check.py BINARY KUBECTL...

Schemas say whether a manifest can be read. What is asserted here is what nobody notices until a node is drained, a
pod is broken into, or a setting is renamed.
"""

import copy
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import compose_spec
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parent
# The oldest version there are schemas for, and the newest.
KUBERNETES = ["1.25.0", kubernetes_validate.latest_version()]
# What is appended to the names of generated maps and secrets; each generation of kustomize computes it differently.
GENERATED = re.compile(r"-[bcdfghkmt2456789]{10}$")
# Made by hand, see docs/deploy.md.
BY_HAND = {
    "graticule-access",
    "graticule-coordinator-tls",
    "graticule-redis",
    "graticule-store",
    "graticule-worker-tls",
}
# What a worker takes beside its tiles: what is remembered in the process, GDAL, the program itself.
WORKER_OVERHEAD_MIB = 768
# What whole results for clients of HTTP take at most, unless `--http-memory` says otherwise.
HTTP_MEMORY_MIB = 512
# What a coordinator takes beside them: plans, tiles on their way, the index.
COORDINATOR_OVERHEAD_MIB = 384
# Seconds between the end of a server's own grace period and the kill.
AIR_S = 10


def without_suffixes(value):
    """The same documents without what kustomize appends to generated names, and without what is empty."""
    if isinstance(value, dict):
        kept = {key: without_suffixes(entry) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if key not in ("annotations", "labels") or entry}
    if isinstance(value, list):
        return [without_suffixes(entry) for entry in value]
    return GENERATED.sub("", value) if isinstance(value, str) else value


def render(kubectl, overlay):
    run = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, check=False, text=True)
    if run.returncode != 0:
        sys.exit(f"{kubectl} kustomize {overlay}:\n{run.stderr}")
    return [without_suffixes(document) for document in yaml.safe_load_all(run.stdout) if document]


def name(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def mib(quantity):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * (1024 if unit == "Gi" else 1)


@cache
def help_of(binary, command):
    run = subprocess.run([binary, command, "--help"], capture_output=True, text=True, check=True)
    return run.stdout


@cache
def refusal(binary, arguments):
    """What the binary has against these arguments; nothing is started."""
    run = subprocess.run([binary, *arguments, "--help"], capture_output=True, check=False, text=True)
    return None if run.returncode == 0 else run.stderr.strip().splitlines()[0]


def option(arguments, key):
    """The value of an option, given as `--key=value`."""
    values = [text.split("=", 1)[1] for text in arguments if text.startswith(f"--{key}=")]
    return values[0] if values else None


class Manifests:
    """One overlay's objects, and what is wrong with them."""

    def __init__(self, documents, binary, user):
        self.documents = documents
        self.binary = binary
        self.user = user
        self.problems = []

    def of(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    def named(self, kind):
        return {document["metadata"]["name"]: document for document in self.of(kind)}

    def expect(self, condition, where, message):
        if not condition:
            self.problems.append(f"{where}: {message}")

    def check(self):
        for document in self.documents:
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    self.problems.append(f"{name(document)}: {error.message} (Kubernetes {version})")
        if self.problems:
            # Nothing can be relied on in what has not the right shape.
            return self.problems
        for deployment in self.of("Deployment"):
            self.pod(deployment)
        for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            for document in self.of(kind):
                self.selector(document)
        for scaler in self.of("HorizontalPodAutoscaler"):
            target = self.named("Deployment").get(scaler["spec"]["scaleTargetRef"]["name"])
            self.expect(target is not None, name(scaler), "scales nothing")
            # Each `apply` would undo what the scaler did.
            self.expect(
                target is None or "replicas" not in target["spec"], name(scaler), "its target says `replicas`"
            )
            window = scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
            self.expect(window >= 300, name(scaler), f"scales down after {window} s")
        for component in ("coordinator", "worker"):
            budgets = [b for b in self.of("PodDisruptionBudget") if self.selects(b, component)]
            self.expect(len(budgets) == 1, component, f"{len(budgets)} disruption budgets")
        denied = [p for p in self.of("NetworkPolicy") if not ({"ingress", "egress"} & set(p["spec"]))]
        self.expect(denied, "NetworkPolicy", "nothing is denied by default")
        return self.problems

    def selects(self, document, component):
        labels = document["spec"]["selector"].get("matchLabels", document["spec"]["selector"])
        return labels.get("app.kubernetes.io/component") == component

    def selector(self, document):
        spec = document["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        labels = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
        pods = [
            deployment["spec"]["template"]
            for deployment in self.of("Deployment")
            if labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        self.expect(pods, name(document), "selects no pod")
        if document["kind"] == "Service":
            ports = {p["name"] for pod in pods for c in pod["spec"]["containers"] for p in c["ports"]}
            for port in spec["ports"]:
                self.expect(port["targetPort"] in ports, name(document), f"no port `{port['targetPort']}`")

    def pod(self, deployment):
        where = name(deployment)
        spec = deployment["spec"]["template"]["spec"]
        self.expect(spec.get("automountServiceAccountToken") is False, where, "gets a token of the cluster")
        self.expect(spec.get("enableServiceLinks") is False, where, "services become settings")
        security = spec.get("securityContext", {})
        self.expect(security.get("runAsNonRoot") is True, where, "may run as root")
        profile = security.get("seccompProfile", {}).get("type")
        self.expect(profile == "RuntimeDefault", where, f"seccomp profile {profile}")
        account = spec.get("serviceAccountName")
        self.expect(
            account is None or account in self.named("ServiceAccount"), where, f"no account {account}"
        )
        for container in spec["containers"]:
            self.container(where, container)
            if container["image"].split(":")[0].endswith("graticule"):
                self.expect(security.get("runAsUser") == self.user, where, "is another user than the image's")
                self.expect(spec.get("topologySpreadConstraints"), where, "may end up on one node")
                self.ours(where, spec, container)
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                self.expect(
                    "sizeLimit" in volume["emptyDir"], where, f"volume {volume['name']} is not bounded"
                )
            if "secret" in volume:
                self.known_secret(where, volume["secret"]["secretName"], volume["secret"].get("optional"))

    def container(self, where, container):
        security = container.get("securityContext", {})
        self.expect(security.get("readOnlyRootFilesystem") is True, where, "may write to its root")
        self.expect(security.get("allowPrivilegeEscalation") is False, where, "may gain privileges")
        self.expect(security.get("capabilities") == {"drop": ["ALL"]}, where, "has capabilities")
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        self.expect("cpu" in requests, where, "asks for no CPU")
        self.expect("memory" in limits, where, "has no limit of memory")
        self.expect(
            requests.get("memory") == limits.get("memory"), where, "memory asked for is not the limit"
        )
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            how = container.get(probe)
            self.expect(how, where, f"no {probe}")
            for kind in ("httpGet", "tcpSocket"):
                port = (how or {}).get(kind, {}).get("port")
                self.expect(port is None or port in ports, where, f"{probe} asks port {port}")
        tag = container["image"].rpartition(":")[2]
        self.expect(
            "/" not in tag and tag != "latest", where, f"image {container['image']} is no certain one"
        )

    def ours(self, where, spec, container):
        """A container of our image: the binary takes its settings, and they agree with the manifest."""
        arguments = tuple(container["args"])
        complaint = refusal(self.binary, arguments)
        self.expect(complaint is None, where, f"the binary says: {complaint}")
        self.environment(where, arguments[0], container)
        for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            asked = (container.get(probe) or {}).get("httpGet", {}).get("path")
            self.expect(asked == path, where, f"{probe} asks {asked}, not {path}")
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        asked = [("listen", "grpc"), ("admin", "admin")]
        if arguments[0] == "coordinator":
            asked.append(("http", "http"))
            self.coordinator(where, arguments, container)
        for key, port in asked:
            address = option(arguments, key) or ""
            self.expect(
                address == f"0.0.0.0:{ports.get(port)}", where, f"--{key}={address}, port `{port}` is another"
            )
        pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        needed = pause + int(option(arguments, "grace-s")) + AIR_S
        given = spec["terminationGracePeriodSeconds"]
        self.expect(given >= needed, where, f"is killed after {given} s, needs {needed} s to stop")
        if arguments[0] == "worker":
            self.worker(where, arguments, container, ports)

    def coordinator(self, where, arguments, container):
        limit = mib(container["resources"]["limits"]["memory"])
        results = int(option(arguments, "http-memory") or HTTP_MEMORY_MIB)
        needed = results + COORDINATOR_OVERHEAD_MIB
        self.expect(limit >= needed, where, f"{results} MiB of results in {limit} MiB")

    def worker(self, where, arguments, container, ports):
        limit, tiles = mib(container["resources"]["limits"]["memory"]), int(option(arguments, "memory"))
        self.expect(limit >= tiles + WORKER_OVERHEAD_MIB, where, f"{tiles} MiB of tiles in {limit} MiB")
        advertised = option(arguments, "advertise")
        self.expect(urlsplit(advertised).port == ports["grpc"], where, f"advertises {advertised}")
        coordinator = urlsplit(option(arguments, "coordinator"))
        service = self.named("Service").get(coordinator.hostname)
        self.expect(service, where, f"no service {coordinator.hostname}")
        if service:
            spec = service["spec"]
            self.expect(spec.get("clusterIP") == "None", where, "would find one coordinator, not all of them")
            # A coordinator is not ready without a worker, and a worker would not find it before it is.
            self.expect(spec.get("publishNotReadyAddresses") is True, where, "would wait for each other")
            self.expect(coordinator.port in [p["port"] for p in spec["ports"]], where, "dials another port")

    def environment(self, where, command, container):
        ours = {entry["name"] for entry in container.get("env", [])}
        for entry in container.get("env", []):
            if (secret := entry.get("valueFrom", {}).get("secretKeyRef")) is not None:
                self.known_secret(where, secret["name"], secret.get("optional"))
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                self.known_secret(where, source["secretRef"]["name"], source["secretRef"].get("optional"))
            else:
                reference = source["configMapRef"]
                settings = self.named("ConfigMap").get(reference["name"])
                self.expect(settings or reference.get("optional"), where, f"no map {reference['name']}")
                ours |= set((settings or {}).get("data", {}))
        known = help_of(self.binary, command)
        for variable in sorted(ours):
            if variable.startswith("GRATICULE_"):
                self.expect(re.search(rf"\[env:\s+{variable}\b", known), where, f"{variable} is no setting")

    def known_secret(self, where, secret, optional):
        exists = secret in self.named("Secret") or (secret in BY_HAND and optional is True)
        self.expect(exists, where, f"no secret {secret}")


def compose_problems(compose, binary):
    """What is wrong with the compose file."""
    problems = []
    try:
        compose_spec.PyCompose.from_yaml(yaml.dump(compose))
    except ValueError as error:
        problems.append(f"compose: {error}")
    services, volumes = compose["services"], set(compose.get("volumes", {}))
    policies = {}
    for label, service in services.items():

        def expect(condition, message, where=f"compose: {label}"):
            if not condition:
                problems.append(f"{where}: {message}")

        expect(service.get("read_only") is True, "may write to its root")
        expect(service.get("cap_drop") == ["ALL"], "has capabilities")
        expect("mem_limit" in service, "has no limit of memory")
        for other in service.get("depends_on", {}):
            expect(other in services, f"depends on {other}, which is not there")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (DEPLOY / source).exists() if source.startswith(".") else source in volumes
            expect(there, f"volume {source} is not there")
        for port in service.get("ports", []):
            expect(
                port.startswith("127.0.0.1:"),
                f"port {port} is open to everybody, and nobody is asked who they are",
            )
        command = service["command"]
        if service["image"].startswith("graticule"):
            complaint = refusal(binary, tuple(command))
            expect(complaint is None, f"the binary says: {complaint}")
            for key in ("coordinator", "advertise", "cache"):
                url = option(command, key)
                expect(url is None or urlsplit(url).hostname in services, f"--{key}={url} leads nowhere")
            advertised = option(command, "advertise")
            expect(
                advertised is None or urlsplit(advertised).hostname == label, "advertises another's address"
            )
            if label != "samples":
                expect(
                    "/readyz" in service.get("healthcheck", {}).get("test", [""])[-1], "nobody asks how it is"
                )
        else:
            policies[label] = command[command.index("--maxmemory-policy") + 1]
    if policies != {"redis-cache": "allkeys-lru", "redis-queue": "noeviction"}:
        problems.append(f"compose: Redis evicts by {policies}")
    return problems


def image_problems(dockerfile, manifests):
    """Whether the Dockerfile and the manifests speak of the same image."""
    problems = []
    exposed = {
        int(port) for line in re.findall(r"^EXPOSE (.*)", dockerfile, re.MULTILINE) for port in line.split()
    }
    for deployment in manifests.of("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["image"].split(":")[0].endswith("graticule"):
                missing = {port["containerPort"] for port in container["ports"]} - exposed
                if missing:
                    problems.append(f"{name(deployment)}: the image does not expose {missing}")
    if re.search(r'^ENTRYPOINT \["graticule"\]', dockerfile, re.MULTILINE) is None:
        problems.append("Dockerfile: the entry point is not the binary")
    return problems


def worker_of(documents):
    found = next(d for d in documents if name(d) == "Deployment/graticule-worker")
    return found["spec"]["template"]["spec"]


# What each of these breaks must be found: a check that passes everything is none.
BREAKS = {
    "is not of type": lambda d: worker_of(d).update(terminationGracePeriodSeconds="long"),
    "may write to its root": lambda d: worker_of(d)["containers"][0]["securityContext"].pop(
        "readOnlyRootFilesystem"
    ),
    "may run as root": lambda d: worker_of(d)["securityContext"].update(runAsNonRoot=False),
    "services become settings": lambda d: worker_of(d).pop("enableServiceLinks"),
    "memory asked for": lambda d: worker_of(d)["containers"][0]["resources"]["limits"].update(memory="99Gi"),
    "no readinessProbe": lambda d: worker_of(d)["containers"][0].update(readinessProbe={}),
    "the binary says": lambda d: worker_of(d)["containers"][0]["args"].append("--no-such-flag"),
    "is no setting": lambda d: worker_of(d)["containers"][0]["env"].append(
        {"name": "GRATICULE_NO", "value": "1"}
    ),
    "is killed after": lambda d: worker_of(d).update(terminationGracePeriodSeconds=30),
    "no secret": lambda d: worker_of(d)["volumes"].append({"name": "x", "secret": {"secretName": "x"}}),
    "selects no pod": lambda d: next(x for x in d if x["kind"] == "Service")["spec"]["selector"].update(
        a="b"
    ),
    "one coordinator, not all": lambda d: [
        x["spec"].pop("clusterIP", 0) for x in d if x["kind"] == "Service"
    ],
    "nothing is denied": lambda d: [
        x["spec"].update(egress=x["spec"].get("egress", [])) for x in d if x["kind"] == "NetworkPolicy"
    ],
}


def main(binary, kubectls):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    user = int(re.search(r"^USER (\d+):", dockerfile, re.MULTILINE).group(1))
    problems, counted = [], 0
    for overlay in sorted((DEPLOY / "k8s/overlays").iterdir()):
        rendered = [render(kubectl, overlay) for kubectl in kubectls]
        first = {name(document): document for document in rendered[0]}
        for kubectl, other in zip(kubectls[1:], rendered[1:], strict=True):
            if {name(document): document for document in other} != first:
                problems.append(f"{overlay.name}: {kubectl} and {kubectls[0]} differ in what they make of it")
        manifests = Manifests(rendered[0], binary, user)
        found = manifests.check() + image_problems(dockerfile, manifests)
        problems += [f"{overlay.name}: {problem}" for problem in found]
        counted += len(rendered[0])
        if not found:
            for expected, change in BREAKS.items():
                broken = copy.deepcopy(rendered[0])
                change(broken)
                found = Manifests(broken, binary, user).check()
                if not any(expected in problem for problem in found):
                    problems.append(f"{overlay.name}: not noticed: {expected}")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    problems += compose_problems(compose, binary)
    if problems:
        sys.exit("\n".join(problems))
    versions = ", ".join(kubectls)
    print(
        f"deploy: {counted} objects of Kubernetes ({versions}), {len(compose['services'])} services of compose"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
