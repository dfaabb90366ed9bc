"""Holds the files in deploy/ to what they speak of: see scale.sh.

KServe's files are read into KServe's own classes, which know every field. What a container or an image
runs is run here, and its probes must be answered. Dashboard, alerts and the autoscaler's query name
metrics that a server really has, of the type that they are used as.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request

import kserve.models
import kubernetes.client
import yaml
from clients import MODEL, REPOSITORY, Server

DEPLOY = REPOSITORY / "deploy"
NETWORK = REPOSITORY / "models/resnet50-cifar10"
# What Debian's smallest image has of itself.
LIBRARIES = {"libc", "libm", "libgcc_s", "libstdc++", "libpthread", "libdl", "librt"}


def read(kind, value, where):
    """A value as the class that `kind` names, with all below it; ends where it has no such field."""
    inner = re.fullmatch(r"(?:list\[|dict[\[(]str, )(.*)[\])]", kind, re.IGNORECASE)
    if inner:
        if isinstance(value, dict):
            return {key: read(inner[1], each, f"{where}.{key}") for key, each in value.items()}
        return [read(inner[1], each, f"{where}[{index}]") for index, each in enumerate(value)]
    plain = {"str": str, "int": int, "bool": bool, "float": float, "object": object}.get(kind)
    if plain:
        if not isinstance(value, plain):
            sys.exit(f"{where}: {value!r} is not of type {kind}")
        return value
    # KServe has no class for this one; it is a number as a text, such as 500m.
    if kind == "V1beta1MetricQuantity":
        return read("str", value, where)
    described = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind)
    names = {name: attribute for attribute, name in described.attribute_map.items()}
    fields = {}
    for name, each in value.items():
        if name not in names:
            sys.exit(f"{where}: {kind} has no field `{name}`, but {', '.join(sorted(names))}")
        attribute = names[name]
        fields[attribute] = read(described.openapi_types[attribute], each, f"{where}.{name}")
    # Fields that must be there and limits of values are the class's.
    return described(**fields)


def kserve_file(name, kind):
    value = yaml.safe_load((DEPLOY / "kserve" / name).read_text())
    made = read(kind, value, name)
    print(f"{name}: {kind} {made.metadata.name}")
    return made


def free_of_ports(arguments, fixed, paths):
    """The arguments with the network of this checkout, without `--listen`, which the test chooses."""
    line = " ".join(arguments)
    listens = re.findall(rf"--listen[ =]0\.0\.0\.0:{fixed}", line)
    if len(listens) != 1:
        sys.exit(f"`{line}` does not listen at 0.0.0.0:{fixed}")
    line = line.replace(listens[0], "")
    for path, ours in paths.items():
        if path not in line:
            sys.exit(f"`{line}` does not name {path}")
        line = line.replace(path, ours)
    serve, *options = shlex.split(line)
    if serve != "serve":
        sys.exit(f"`{line}` is not `twinstream serve`")
    return options


def probe(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.status


def check_kserve(command):
    runtime = kserve_file("runtime.yaml", "V1alpha1ServingRuntime").spec
    service = kserve_file("service.yaml", "V1beta1InferenceService").spec.predictor
    [container] = runtime.containers
    [port] = container.ports
    model = service.model
    formats = [each.name for each in runtime.supported_model_formats]
    if (
        model.model_format.name not in formats
        or model.protocol_version not in runtime.protocol_versions
    ):
        sys.exit(
            f"the runtime does not serve {model.model_format.name} by {model.protocol_version}"
        )
    paths = {"{{.Name}}": MODEL, "/mnt/models": str(NETWORK)}
    options = free_of_ports(container.args, port.container_port, paths)
    ends_s = re.findall(r"--(?:linger|drain-timeout)=(\d+)s", shlex.join(options))
    if len(ends_s) != 2 or service.termination_grace_period_seconds < sum(map(int, ends_s)):
        sys.exit(
            "service.yaml: terminationGracePeriodSeconds is less than what the server's end takes"
        )
    with Server(command, *options) as server:
        for kind in ("startup_probe", "readiness_probe", "liveness_probe"):
            asked = getattr(container, kind).http_get
            if asked.port != port.container_port or probe(server.address, asked.path) != 200:
                sys.exit(f"runtime.yaml: {kind} is not answered")
        metrics = runtime.annotations["prometheus.kserve.io/path"]
        if probe(server.address, metrics) != 200:
            sys.exit(f"runtime.yaml: no metrics at {metrics}")
        # Its end takes --linger.
        server.process.kill()
    print(f"the runtime's container runs: {shlex.join(options)}")
    return [each.external.metric.query for each in service.auto_scaling.metrics]


def check_image(command):
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    said = {
        name: rest
        for name, _, rest in (line.partition(" ") for line in lines)
        if name.isupper() and name != "COPY"
    }
    built = said["RUN"].replace(" --release", "")
    if built not in (REPOSITORY / ".ci/run").read_text():
        sys.exit(f"Dockerfile: CI never runs `{built}`")
    linked = subprocess.run(["ldd", command], capture_output=True, text=True, check=True).stdout
    found = set(re.findall(r"^\s*([\w+]+)\.so\.\d+ =>", linked, re.MULTILINE))
    if not found or not found <= LIBRARIES:
        sys.exit(f"Dockerfile: the image has no {found - LIBRARIES}")
    if json.loads(said["ENTRYPOINT"]) != ["twinstream"]:
        sys.exit("Dockerfile: ENTRYPOINT is not the command")
    port = said["EXPOSE"]
    options = free_of_ports(json.loads(said["CMD"]), port, {"/models/resnet50": str(NETWORK)})
    health = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
    with Server(command, *options) as server:
        our_port = server.address.rpartition(":")[2]
        if not any(f"/127.0.0.1/{port};" in word for word in health):
            sys.exit(f"Dockerfile: HEALTHCHECK does not ask port {port}")
        ours = [word.replace(f"/127.0.0.1/{port};", f"/127.0.0.1/{our_port};") for word in health]
        is_well = lambda: subprocess.run(ours, timeout=10, capture_output=True).returncode == 0
        if not is_well():
            sys.exit("Dockerfile: HEALTHCHECK fails at a server that is ready")
        server.process.terminate()
        time.sleep(0.5)
        if is_well():
            sys.exit("Dockerfile: HEALTHCHECK does not see that a server is about to end")
        if server.process.wait(60) != 0:
            sys.exit("Dockerfile: a server that is told to end has another status than 0")
    print(f"the image runs: {shlex.join(options)}")


class Scrape:
    """The types of a server's metrics, and their labels."""

    def __init__(self, command):
        with Server(command, "--backend", "null") as server:
            with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        self.types, self.labels = {}, {}
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
            parts = ["_bucket", "_sum", "_count"] if kind == "histogram" else [""]
            for part in parts:
                self.types[name + part] = "counter" if kind == "histogram" else kind
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
            self.labels.setdefault(name, set()).update(re.findall(r'(\w+="[^"]*")', labels or ""))

    def check(self, where, query):
        """All metrics of a query are there, with their labels, and used as what they are."""
        used = list(re.finditer(r"\b(twinstream_\w+)(?:\{([^}]*)\})?(\[)?", query))
        for metric in used:
            name, labels, is_range = metric.groups()
            if name not in self.types:
                sys.exit(f"{where}: a server has no metric {name}")
            rate = re.search(r"(rate|increase)\($", query[: metric.start()])
            if bool(rate) != (self.types[name] == "counter") or bool(rate) != bool(is_range):
                sys.exit(f"{where}: {name} is a {self.types[name]}, used as another in `{query}`")
            for label in re.findall(r'\w+="[^"]*"', labels or ""):
                if label not in self.labels[name]:
                    sys.exit(f"{where}: no {name} has {label}")
        return len(used)


def check_metrics(command, scaling):
    scrape = Scrape(command)
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
    alerts = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yaml").read_text())["tests"]
    fired = {
        each["alertname"]
        for test in tests
        for each in test["alert_rule_test"]
        if each["exp_alerts"]
    }
    if fired != set(alerts):
        sys.exit(f"alerts_test.yaml: not seen to fire: {set(alerts) - fired}")
    dashboard = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    queries = [(f"alert {name}", query) for name, query in alerts.items()]
    queries += [
        (f"dashboard, {panel['title']}", target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    queries += [("service.yaml", query) for query in scaling]
    variables = {"$__rate_interval": "1m", "$instance": "a"}
    used_len = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, (where, query) in enumerate(queries):
            used_len += scrape.check(where, query)
            for name, value in variables.items():
                query = query.replace(name, value)
            queries[index] = {"record": f"query:{index}", "expr": query}
        # Prometheus' own reader, for the form of all.
        rules = pathlib.Path(folder) / "queries.yaml"
        rules.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": queries}]}))
        subprocess.run(["promtool", "check", "rules", rules], check=True, stdout=subprocess.DEVNULL)
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        subprocess.run(["promtool", *words], check=True, cwd=DEPLOY / "prometheus")
    print(
        f"{len(alerts)} alerts and {len(queries)} queries use metrics {used_len} times; all are there"
    )


def main():
    [command] = sys.argv[1:]
    scaling = check_kserve(command)
    check_image(command)
    check_metrics(command, scaling)


if __name__ == "__main__":
    main()
