"""What is in ``deploy/``, and the page about it: valid, and of one mind with each other and the application.

Nothing is deployed here. A check looks at the texts of all files and tells what is wrong with them; each has
broken copies beside it in which it has to find something.
"""

from __future__ import annotations

import json
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from workflows import MODULES, telemetry
from workflows.cli import cli
from workflows.settings import (
    DEFAULT_ENDPOINT,
    DEFAULT_TASKHUB,
    ServiceSettings,
    Settings,
    SettingsError,
    log_level,
)

if sys.version_info >= (3, 11):
    import tomllib
else:  # hatchling brings it where Python has none
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
NAMES = {
    "compose": "deploy/compose.yaml",
    "image": "deploy/Dockerfile",
    "ignored": "deploy/Dockerfile.dockerignore",
    "app": "deploy/container-app.yaml",
    "kubernetes": "deploy/kubernetes.yaml",
    "page": "docs/deploy.md",
    "runner": "tests/e2e/where.py",
}
COMPOSE_SPEC = ("--builtin-schema", "vendor.compose-spec", "--default-filetype", "yaml")
FILLED_IN = {
    "AZURE_CLIENT_ID": "8c1f0c8e-0000-0000-0000-000000000000",
    "DATABASE_URL": "postgresql+psycopg://workflows:secret@server:5432/workflows?sslmode=require",
    "ENDPOINT": "https://my-scheduler.northeurope.durabletask.io",
    "ENVIRONMENT_ID": "/subscriptions/0/environments/e",
    "IDENTITY_ID": "/subscriptions/0/identities/i",
    "LOCATION": "northeurope",
    "REGISTRY": "registry",
    "TASKHUB": "orders",
    "VERSION": "1",
}

Files = dict[str, str]
Check = Callable[[Files], Iterator[str]]
CHECKS: dict[str, Check] = {}
BROKEN: list[tuple[str, str, str, str]] = []


def check(*broken: tuple[str, str, str]) -> Callable[[Check], Check]:
    """A check, and changes in which it has to find something: the file, what stands there, what then does."""
    assert broken, "a check that nobody has seen fail is none"

    def add(function: Check) -> Check:
        CHECKS[function.__name__] = function
        BROKEN.extend((function.__name__, *change) for change in broken)
        return function

    return add


def texts() -> Files:
    return {name: (ROOT / path).read_text() for name, path in NAMES.items()}


# -- the files, as their readers see them


def services(files: Files) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(files["compose"])["services"]
    return loaded


def app(files: Files) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(string.Template(files["app"]).substitute(FILLED_IN))
    return loaded


def objects(files: Files) -> dict[str, dict[str, Any]]:
    """Those of Kubernetes, by kind."""
    text = string.Template(files["kubernetes"]).substitute(FILLED_IN)
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def pod(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = objects(files)["Deployment"]["spec"]["template"]
    return found


def container(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = pod(files)["spec"]["containers"][0]
    return found


def app_container(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = app(files)["properties"]["template"]["containers"][0]
    return found


def instructions(files: Files) -> list[tuple[str, str]]:
    """Of the Dockerfile: the word, and what follows it."""
    lines = "\n".join(line for line in files["image"].splitlines() if not line.startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def lines_of_page(files: Files) -> list[str]:
    """What a person types, one command a line."""
    blocks = re.findall(r"^```console\n(.*?)^```$", files["page"], re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def az_commands(files: Files) -> list[tuple[list[str], dict[str, str]]]:
    """The words of each command before its options, and the options."""
    found = []
    for line in lines_of_page(files):
        if match := re.search(r"\baz [^)]*", line):
            words = shlex.split(match[0])
            first = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))
            options: dict[str, str] = {}
            for word in words[first:]:
                if word.startswith("--"):
                    options[word] = ""
                elif last := next(reversed(options), None):
                    options[last] = options[last] or word
            found.append((words[1:first], options))
    return found


def environments(files: Files) -> dict[str, dict[str, str]]:
    """What the worker's environment holds, in each place where it runs."""
    of_app = {
        entry["name"]: entry.get("value", FILLED_IN["DATABASE_URL"]) for entry in app_container(files)["env"]
    }
    of_pod = {
        **objects(files)["ConfigMap"]["data"],
        **{entry["name"]: FILLED_IN["DATABASE_URL"] for entry in container(files)["env"]},
    }
    return {"compose": services(files)["worker"]["environment"], "app": of_app, "kubernetes": of_pod}


def commands(files: Files) -> dict[str, list[str]]:
    """Every command of the application that anything in here runs, by where it stands."""
    found: dict[str, list[str]] = {}
    for word, rest in instructions(files):
        if word in ("CMD", "HEALTHCHECK"):
            found[f"image {word}"] = json.loads(rest[rest.index("[") :])
    found["app args"] = app_container(files)["args"]
    found["kubernetes args"] = container(files)["args"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        found[f"kubernetes {probe}"] = container(files)[probe]["exec"]["command"]
    for line in lines_of_page(files):
        if "python -m workflows" in line:
            found[f"page: {line}"] = shlex.split(line[line.index("python -m") :])
    return found


def health_files(files: Files) -> dict[str, str]:
    return {
        place: command[command.index("--health-file") + 1]
        for place, command in commands(files).items()
        if "--health-file" in command
    }


def read_by_the_application() -> set[str]:
    """The variables that it asks its environment for."""

    class Recorder(dict[str, str]):
        asked: set[str] = set()

        def get(self, key: str, default: Any = None) -> Any:
            self.asked.add(key)
            return default

    nothing = Recorder()
    Settings.from_environment(nothing)
    ServiceSettings.from_environment(nothing)
    log_level("INFO", nothing)
    with telemetry.tracing(nothing):
        pass
    return nothing.asked


def kubernetes_refuses(document: dict[str, Any]) -> Iterator[str]:
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        yield f"{document['kind']}: {error}"


# -- the checks


@check(
    ("compose", "read_only: true", "read_onyl: true"),
    ("compose", "condition: service_healthy", "condition: service_fine"),
)
def compose_file_is_valid(files: Files) -> Iterator[str]:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *COMPOSE_SPEC, "-"],
        input=files["compose"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        yield done.stdout + done.stderr


@check(
    ("compose", "    healthcheck: #", "    x-healthcheck: #"),
    ("compose", 'network_mode: "service:emulator"', "network_mode: host"),
)
def what_a_service_depends_on_is_there(files: Files) -> Iterator[str]:
    conditions = {"service_healthy": "healthcheck"}
    for name, service in services(files).items():
        for other, how in service.get("depends_on", {}).items():
            needed = conditions.get(how["condition"])
            if needed and needed not in services(files)[other]:
                yield f"{name} waits until {other} is healthy, and nobody looks whether it is"
    if services(files)["worker"]["network_mode"] != "service:emulator":
        yield "the worker's ENDPOINT is localhost, and the emulator is not there"


@check(
    ("compose", "    profiles: [app]\n", ""),
    ("compose", '"127.0.0.1:${EMULATOR', '"${EMULATOR'),
    ("runner", '"--detach", "emulator"', '"--detach", "dts"'),
)
def the_emulator_starts_alone_and_for_this_machine(files: Files) -> Iterator[str]:
    alone = [name for name, service in services(files).items() if not service.get("profiles")]
    if alone != ["emulator"]:
        yield f"without a profile, {alone} start"
    if '"up", "--detach", "emulator"' not in files["runner"]:
        yield "make e2e starts something else"
    for port in services(files)["emulator"]["ports"]:
        if not port.startswith("127.0.0.1:"):
            yield f"{port} is open to the network"


@check(
    ("kubernetes", "periodSeconds: 5", "periodSecond: 5"),
    ("kubernetes", "replicas: 1", "replicas: one"),
    ("kubernetes", "kind: PodDisruptionBudget", "kind: PodDisruptionBudge"),
    ("kubernetes", "namespace: workflows\n", "namespace: default\n"),
)
def kubernetes_objects_are_valid(files: Files) -> Iterator[str]:
    for document in objects(files).values():
        yield from kubernetes_refuses(document)
    wanted = {"Deployment", "ServiceAccount", "ConfigMap", "PodDisruptionBudget"}
    if missing := wanted - objects(files).keys():
        yield f"there is no {missing}"
    if len({document["metadata"]["namespace"] for document in objects(files).values()}) != 1:
        yield "they are in several namespaces"


@check(
    (
        "kubernetes",
        "    matchLabels:\n      app.kubernetes.io/name: w",
        "    matchLabels:\n      app.kubernetes.io/name: v",
    ),
    ("kubernetes", "Name: workflows-worker", "Name: default"),
    ("kubernetes", 'identity/use: "true"', 'identity/use: "yes"'),
    ("kubernetes", "identity/client-id", "identity/client"),
    (
        "kubernetes",
        "configMapRef:\n                name: workflows-worker",
        "configMapRef:\n                name: workflows",
    ),
)
def kubernetes_objects_find_each_other(files: Files) -> Iterator[str]:
    found = objects(files)
    labels = pod(files)["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        if not found[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items():
            yield f"{kind} selects other pods"
    if pod(files)["spec"]["serviceAccountName"] != found["ServiceAccount"]["metadata"]["name"]:
        yield "the pod has another service account"
    if labels.get("azure.workload.identity/use") != "true":
        yield "workload identity gives this pod no token"
    if "azure.workload.identity/client-id" not in found["ServiceAccount"]["metadata"]["annotations"]:
        yield "workload identity does not know which identity"
    named = [source["configMapRef"]["name"] for source in container(files)["envFrom"]]
    if named != [found["ConfigMap"]["metadata"]["name"]]:
        yield f"the environment comes from {named}"


@check(
    ("kubernetes", "runAsNonRoot: true", "runAsNonRoot: false"),
    ("kubernetes", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    ("kubernetes", "drop: [ALL]", "drop: [NET_RAW]"),
    (
        "kubernetes",
        "            limits:\n              memory: 1Gi",
        "            limits:\n              cpu: 1",
    ),
    ("image", "USER 10001", "USER 10002"),
)
def the_pod_may_do_little(files: Files) -> Iterator[str]:
    spec, security = pod(files)["spec"], container(files)["securityContext"]
    if not (spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0):
        yield "it runs as root"
    if security["allowPrivilegeEscalation"] or not security["readOnlyRootFilesystem"]:
        yield "it may write to its image, or become root"
    if security["capabilities"] != {"drop": ["ALL"]}:
        yield "it has capabilities"
    if "memory" not in container(files)["resources"]["limits"]:
        yield "it may use all memory"
    user = next(rest for word, rest in instructions(files) if word == "USER")
    if user != str(spec["securityContext"]["runAsUser"]):
        yield f"the image is made for user {user}"


@check(
    ("image", '"/tmp/worker.health"]\nCMD', '"/tmp/health"]\nCMD'),
    ("kubernetes", "mountPath: /tmp", "mountPath: /var/tmp"),
    ("compose", "tmpfs: [/tmp]", "tmpfs: [/run]"),
)
def health_files_are_one_and_can_be_written(files: Files) -> Iterator[str]:
    if len(set(health_files(files).values())) != 1:
        yield f"different health files: {health_files(files)}"
    mounts = {mount["mountPath"] for mount in container(files)["volumeMounts"]}
    for where, writable in (("kubernetes", mounts), ("compose", set(services(files)["worker"]["tmpfs"]))):
        for path in health_files(files).values():
            if str(PurePosixPath(path).parent) not in writable:
                yield f"{where}: {path} cannot be written"


# As the Azure CLI's own model of a container app has them.
APP_KEYS = {
    "": {"name", "type", "location", "identity", "properties", "tags"},
    "identity": {"type", "userAssignedIdentities"},
    "properties": {"environmentId", "configuration", "template", "workloadProfileName"},
    "properties.configuration": {"activeRevisionsMode", "registries", "secrets", "ingress"},
    "properties.template": {
        "containers",
        "scale",
        "terminationGracePeriodSeconds",
        "volumes",
        "revisionSuffix",
    },
    "properties.template.scale": {"minReplicas", "maxReplicas", "rules", "cooldownPeriod", "pollingInterval"},
    "container": {"name", "image", "command", "args", "env", "resources", "probes", "volumeMounts"},
}


@check(
    ("app", "terminationGracePeriodSeconds", "terminationGracePeriod"),
    ("app", "secretRef: database-url", "secretRef: database"),
    ("app", "        identity: ${IDENTITY_ID}", "        identity: system"),
    ("app", "minReplicas: 1", "minReplicas: 0"),
    ("app", "memory: 1Gi", "memory: 512Mi"),
    ("app", "        resources:", "        probes: [{exec: {}}]\n        resources:"),
)
def the_container_app_is_valid(files: Files) -> Iterator[str]:
    document = app(files)
    for path, known in APP_KEYS.items():
        part = app_container(files) if path == "container" else document
        for key in path.split(".") if path not in ("", "container") else ():
            part = part[key]
        if unknown := part.keys() - known:
            yield f"{path}: {unknown} is not known"
    configuration, template = document["properties"]["configuration"], document["properties"]["template"]
    secrets = {secret["name"] for secret in configuration["secrets"]}
    for entry in app_container(files)["env"]:
        if entry.keys() not in ({"name", "value"}, {"name", "secretRef"}):
            yield f"{entry} is no variable"
        if "secretRef" in entry and entry["secretRef"] not in secrets:
            yield f"there is no secret {entry['secretRef']}"
    for registry in configuration["registries"]:
        if registry["identity"] not in document["identity"]["userAssignedIdentities"]:
            yield f"the identity for {registry['server']} is not the app's"
        if not app_container(files)["image"].startswith(registry["server"] + "/"):
            yield "the image comes from another registry"
    if not 1 <= template["scale"]["minReplicas"] <= template["scale"]["maxReplicas"]:
        yield "with no replica nobody works: a worker is not woken by requests"
    resources = app_container(files)["resources"]
    if resources["memory"] != f"{resources['cpu'] * 2:g}Gi":
        yield "Container Apps wants 2 Gi of memory for each CPU"
    if any("exec" in probe for probe in app_container(files).get("probes", [])):
        yield "Container Apps has no probe that runs a command"


@check(
    ("app", "name: TASKHUB", "name: TASK_HUB"),
    ("app", "value: managed-identity", "value: default"),
    ("app", "value: managed-identity", "value: msi"),
    ("kubernetes", "  TASKHUB: ${TASKHUB}\n", ""),
    ("kubernetes", "CREDENTIAL: default", "CREDENTIAL: managed-identity"),
    ("compose", "http://localhost:8080", "http://emulator:8080"),
)
def every_variable_is_read_and_every_needed_one_set(files: Files) -> Iterator[str]:
    needed = {
        "compose": {"ENDPOINT", "TASKHUB", "DATABASE_URL"},
        "app": {"ENDPOINT", "TASKHUB", "CREDENTIAL", "AZURE_CLIENT_ID", "DATABASE_URL"},
        "kubernetes": {"ENDPOINT", "TASKHUB", "CREDENTIAL", "DATABASE_URL"},
    }
    for place, environment in environments(files).items():
        if unread := environment.keys() - read_by_the_application():
            yield f"{place}: nobody reads {unread}"
        if missing := needed[place] - environment.keys():
            yield f"{place}: {missing} is not set"
        try:
            settings = Settings.from_environment(environment)
        except SettingsError as error:
            yield f"{place}: {error}"
            continue
        if settings.secure is (place == "compose"):
            yield f"{place}: {settings.endpoint} is not what is meant"
    if environments(files)["app"]["CREDENTIAL"] != "managed-identity":
        yield "the app is to use its identity"
    if environments(files)["kubernetes"]["CREDENTIAL"] != "default":
        yield "DefaultAzureCredential alone takes the token of workload identity"


@check(
    ("app", "secretRef: database-url", "value: ${DATABASE_URL}"),
    ("kubernetes", "  TASKHUB: ${TASKHUB}", "  DATABASE_URL: ${DATABASE_URL}"),
)
def passwords_are_secrets(files: Files) -> Iterator[str]:
    if any("DATABASE_URL" in entry["name"] and "value" in entry for entry in app_container(files)["env"]):
        yield "the app shows DATABASE_URL to everybody who may look at it"
    if any("valueFrom" not in entry for entry in container(files)["env"]):
        yield "the pod shows DATABASE_URL to everybody who may look at it"
    if "DATABASE_URL" in objects(files)["ConfigMap"]["data"]:
        yield "the config map holds DATABASE_URL"


@check(
    ("image", '"health", "--health-file"', '"healthy", "--health-file"'),
    ("app", "worker, --health-file", "worker, --healthfile"),
    ("app", "workflows, worker,", "workflows, health,"),
    ("kubernetes", '--max-age, "600"', '--max-age, "soon"'),
    ("kubernetes", "[python, -m, workflows, worker", "[workflows, worker"),
    ("page", "start order_workflow", "start order"),
    ("page", "workflows history order-1 -o", "workflows history order-1 -f"),
)
def commands_are_those_of_the_application(files: Files) -> Iterator[str]:
    for place, command in commands(files).items():
        if command[:3] != ["python", "-m", "workflows"]:
            yield f"{place} runs {command}"
            continue
        name, *arguments = command[3:]
        if name not in cli.commands:
            yield f"{place}: there is no command {name}"
            continue
        try:
            context = cli.commands[name].make_context(name, arguments)
        except click.ClickException as error:
            yield f"{place}: {error.format_message()}"
            continue
        registered = {function.__name__ for module in MODULES for function in module.ORCHESTRATORS}
        if name == "start" and context.params["name"] not in registered:
            yield f"{place}: there is no orchestrator {context.params['name']}"
    words = {place: command[3] for place, command in commands(files).items() if not place.startswith("page")}
    for place, word in words.items():
        if word != ("worker" if place.endswith(("CMD", "args")) else "health"):
            yield f"{place} runs {word}"


@check(
    ("compose", "stop_grace_period: 60s", "stop_grace_period: 10s"),
    ("kubernetes", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30"),
    ("app", "GracePeriodSeconds: 60", "GracePeriodSeconds: 30"),
)
def a_worker_has_the_time_to_stop(files: Files) -> Iterator[str]:
    # The SDK's worker waits 30 seconds for its loop alone, and then for what it has begun.
    seconds = {
        "compose": int(services(files)["worker"]["stop_grace_period"].removesuffix("s")),
        "app": app(files)["properties"]["template"]["terminationGracePeriodSeconds"],
        "kubernetes": pod(files)["spec"]["terminationGracePeriodSeconds"],
    }
    for place, number in seconds.items():
        if number <= 30:
            yield f"{place}: {number} s is too short"


@check(
    ("compose", "ENDPOINT: http://localhost:8080", "ENDPOINT: http://localhost:8081"),
    ("compose", "EMULATOR_PORT:-8080}:8080", "EMULATOR_PORT:-9090}:9090"),
    ("runner", "or '8080'", "or '8081'"),
    ("page", "localhost:8082>", "localhost:8083>"),
)
def ports_agree(files: Files) -> Iterator[str]:
    published = dict(
        re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\2", port).groups()  # type: ignore[union-attr]
        for port in services(files)["emulator"]["ports"]
    )
    grpc_port, dashboard = published["EMULATOR_PORT"], published["DASHBOARD_PORT"]
    if services(files)["worker"]["environment"]["ENDPOINT"] != f"http://localhost:{grpc_port}":
        yield "the worker looks for the emulator elsewhere"
    if f"http://localhost:{grpc_port}" != DEFAULT_ENDPOINT:
        yield "the application's default is elsewhere"
    if f"os.environ.get('EMULATOR_PORT') or '{grpc_port}'" not in files["runner"]:
        yield "make e2e looks for the emulator elsewhere"
    if f"http://localhost:{dashboard}>" not in files["page"]:
        yield "the page says another address of the dashboard"


@check(
    ("compose", "image: workflows-worker", "image: worker"),
    ("page", "--image workflows-worker:", "--image worker:"),
    ("compose", "TASKHUB: default", "TASKHUB: orders"),
    (
        "page",
        "containerapp create --resource-group $GROUP --name workflows-worker",
        "containerapp create --resource-group $GROUP --name worker",
    ),
    ("page", "serviceaccount:workflows:workflows-worker", "serviceaccount:default:workflows-worker"),
    ("page", "secret generic workflows-worker", "secret generic database"),
    ("page", "rollout status deployment/workflows-worker", "rollout status deployment/worker"),
    ("page", "kubectl create namespace workflows", "kubectl create namespace orders"),
)
def names_agree(files: Files) -> Iterator[str]:
    images = {
        "compose": services(files)["worker"]["image"],
        "app": app_container(files)["image"].split("/")[1].split(":")[0],
        "kubernetes": container(files)["image"].split("/")[1].split(":")[0],
        "page": next(o["--image"] for w, o in az_commands(files) if w == ["acr", "build"]).split(":")[0],
        "image": re.search(r"--tag (\S+)", files["image"])[1],  # type: ignore[index]
    }
    if len(set(images.values())) != 1:
        yield f"the image is called {images}"
    if services(files)["worker"]["environment"]["TASKHUB"] != DEFAULT_TASKHUB:
        yield "the emulator has no such task hub"
    for words, options in az_commands(files):
        if words[:1] == ["containerapp"] and words[1] != "env" and options["--name"] != app(files)["name"]:
            yield f"{words}: the app is called {app(files)['name']}"
    account = objects(files)["ServiceAccount"]["metadata"]
    subject = next(o["--subject"] for w, o in az_commands(files) if w[-1:] == ["create"] and "--subject" in o)
    if subject != f"system:serviceaccount:{account['namespace']}:{account['name']}":
        yield f"the federated credential is for {subject}"
    reference = container(files)["env"][0]["valueFrom"]["secretKeyRef"]
    secret = f"kubectl create secret generic {reference['name']} --namespace {account['namespace']}"
    if f"{secret} --from-literal {reference['key']}=" not in files["page"]:
        yield "the page makes another secret"
    deployment = objects(files)["Deployment"]["metadata"]["name"]
    for line in lines_of_page(files):
        here = (f"--namespace {account['namespace']}", f"kubectl create namespace {account['namespace']}")
        if line.startswith("kubectl") and not any(words in line for words in here):
            yield f"another namespace: {line}"
        if (named := re.search(r"deployment/(\S+)", line)) and named[1] != deployment:
            yield f"there is no {named[0]}"


@check(
    ("image", "FROM python:3.13-slim\n", "FROM python:3.13\n"),
    ("image", "USER 10001\n", ""),
    ("image", "USER 10001", "USER root"),
    ("image", "HEALTHCHECK", "LABEL"),
    ("image", "COPY src/workflows ", "COPY src/workflow "),
    ("image", "COPY src/workflows /app/workflows", "COPY . /app"),
    ("image", "--from=packages", "--from=builder"),
    ("ignored", "!LICENSE\n", ""),
    ("ignored", "*\n!pyproject", "!pyproject"),
)
def the_image_is_small_and_not_roots(files: Files) -> Iterator[str]:
    words = [word for word, _ in instructions(files)]
    for word, rest in instructions(files):
        if word == "FROM" and not re.match(r"python:3\.\d+-slim( AS \w+)?$", rest):
            yield f"FROM {rest}"
    users = [rest for word, rest in instructions(files) if word == "USER"]
    if not users or not users[-1].isdigit() or users[-1] == "0":
        yield f"it runs as {users[-1:] or 'root'}"
    if "HEALTHCHECK" not in words or words[-1] != "CMD":
        yield "it has no health check, or no command at its end"
    stages = re.findall(r"AS (\w+)", files["image"])
    allowed = {line[1:] for line in files["ignored"].splitlines() if line.startswith("!")}
    if "*" not in files["ignored"].splitlines():
        yield "the whole checkout is sent to the builder"
    copied = set()
    for word, rest in instructions(files):
        if word not in ("COPY", "ADD"):
            continue
        *sources, _ = [part for part in rest.split() if not part.startswith("--")]
        if stage := re.search(r"--from=(\w+)", rest):
            if stage[1] not in stages:
                yield f"there is no stage {stage[1]}"
            continue
        copied.update(sources)
        for source in sources:
            if not (ROOT / source).exists():
                yield f"there is no {source}"
    if copied != allowed:
        yield f"copied and not sent, or sent and not copied: {copied ^ allowed}"
    if any(not source.startswith("src/workflows") and (ROOT / source).is_dir() for source in copied):
        yield "it holds more than the application"


@check(
    ("image", "workflows,postgresql,", "workflows,postgres,"),
    ("image", ",telemetry]", "]"),
    ("image", " --constraint constraints.txt", ""),
)
def the_image_installs_the_extras_of_the_project(files: Files) -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = re.findall(r'"\.\[([\w,]+)\]"', files["image"])
    if [sorted(extras.split(",")) for extras in asked] != [["postgresql", "telemetry", "workflows"]]:
        yield f"it installs {asked}"
    for extra in ",".join(asked).split(","):
        if extra not in project["optional-dependencies"]:
            yield f"there is no extra {extra}"
    if "--constraint constraints.txt" not in files["image"]:
        yield "it installs versions that nobody has tested"


@check(
    ("page", "TASKHUB=orders\n", ""),
    ("page", "AZURE_CLIENT_ID=", "CLIENT_ID="),
    ("page", "LOCATION=northeurope\n", ""),
    ("app", "${LOCATION}", "${REGION}"),
)
def what_the_page_uses_it_has_set(files: Files) -> Iterator[str]:
    known = {"RANDOM"}
    for line in lines_of_page(files):
        if filled := re.search(r"envsubst < (\S+)", line):
            name = next(name for name, path in NAMES.items() if path == filled[1])
            code = "\n".join(text for text in files[name].splitlines() if not text.lstrip().startswith("#"))
            if missing := set(re.findall(r"\$\{?(\w+)", code)) - known:
                yield f"{filled[1]} is filled in before {missing} is set"
        if missing := set(re.findall(r"\$\{?(\w+)", line)) - known:
            yield f"{line}: {missing} is not set yet"
        if assigned := re.match(r"(\w+)=", line):
            known.add(assigned[1])
    lines = lines_of_page(files)
    if lines.index("set -a") > min(lines.index(line) for line in lines if re.match(r"\w+=", line)):
        yield "envsubst and the client do not see what is set before set -a"


REFERENCES = {
    "--resource-group": "group",
    "--scheduler-name": "durabletask scheduler",
    "--server-name": "postgres flexible-server",
    "--registry": "acr",
    "--attach-acr": "acr",
    "--identity-name": "identity",
}
# Commands that name nothing that has to be created, or create what has no name.
NAMELESS = {"", "provider", "role assignment", "ad signed-in-user"}
SAME = {"containerapp logs": "containerapp"}


@check(
    ("page", "az group create", "az group show"),
    ("page", "az acr create", "az acr show"),
    ("page", "--registry $REGISTRY", "--registry $NAME"),
    ("page", "--server-name $NAME", "--server-name $GROUP"),
    ("page", "az extension add --upgrade --name durabletask\n", ""),
    ("page", "az group delete --name $GROUP --yes", "az login"),
)
def the_page_names_only_what_it_has_created(files: Files) -> Iterator[str]:
    created: set[tuple[str, str]] = set()
    for words, options in az_commands(files):
        *kinds, verb = words
        kind = SAME.get(" ".join(kinds), " ".join(kinds))
        for option, referred in REFERENCES.items():
            if option in options and (referred, options[option]) not in created:
                yield f"{' '.join(words)}: there is no {referred} {options[option]} yet"
        if kind.startswith("durabletask") and ("extension", "durabletask") not in created:
            yield f"{' '.join(words)} needs the extension"
        if kind in NAMELESS or "--registry" in options:
            continue
        if verb in ("create", "add"):
            created.add((kind, options["--name"]))
        elif (kind, options.get("--name", "")) not in created:
            yield f"{' '.join(words)}: there is no {kind} {options.get('--name')} yet"
    wanted = {"group", "durabletask scheduler", "durabletask taskhub", "identity", "acr", "containerapp"}
    if missing := wanted - {kind for kind, _ in created}:
        yield f"{missing} is never created"
    last = [" ".join(words) for words, _ in az_commands(files) if words[-1] == "delete"]
    if last != ["group delete"]:
        yield "what costs money is not taken away"


@check(
    ("page", "Data Contributor", "Data Reader"),
    ("page", "--role AcrPull --scope $REGISTRY_ID", "--role AcrPull --scope $TASKHUB_ID"),
)
def identities_get_the_roles_that_they_need(files: Files) -> Iterator[str]:
    given = {
        (options["--role"], options["--scope"], options["--assignee-object-id"])
        for words, options in az_commands(files)
        if words == ["role", "assignment", "create"]
    }
    wanted = {
        ("Durable Task Data Contributor", "$TASKHUB_ID", "$PRINCIPAL_ID"),
        ("Durable Task Data Contributor", "$TASKHUB_ID", "$MY_ID"),
        ("AcrPull", "$REGISTRY_ID", "$PRINCIPAL_ID"),
    }
    if given != wanted:
        yield f"the roles are {given ^ wanted}"


@check(
    ("page", "| `GATEWAY_URL` |", "| `GATEWAY` |"),
    ("page", "| `deploy/kubernetes.yaml` |", "| `deploy/k8s.yaml` |"),
)
def the_page_lists_the_variables(files: Files) -> Iterator[str]:
    table = files["page"].partition("| variable |")[2].partition("\n\n")[0]
    if (listed := set(re.findall(r"^\| `(\w+)` ", table, re.MULTILINE))) != read_by_the_application():
        yield f"wrong or missing: {listed ^ read_by_the_application()}"
    table = files["page"].partition("| file |")[2].partition("\n\n")[0]
    there = {path for path in NAMES.values() if path.startswith("deploy/") and "ignore" not in path}
    if set(re.findall(r"^\| `(\S+)` ", table, re.MULTILINE)) != there:
        yield "the table of files is not what is in deploy/"


# -- that they pass, and that they can fail


@pytest.mark.parametrize("name", CHECKS)
def test_the_files_pass_the_check(name: str) -> None:
    assert list(CHECKS[name](texts())) == []


@pytest.mark.parametrize(("name", "file", "good", "bad"), BROKEN)
def test_a_broken_copy_is_noticed(name: str, file: str, good: str, bad: str) -> None:
    files = texts()
    assert good in files[file], "this is no longer in the file, so nothing is broken"
    files[file] = files[file].replace(good, bad, 1)
    assert list(CHECKS[name](files))


def test_every_file_of_the_folder_is_checked() -> None:
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "deploy").iterdir()}
    assert there == {path for path in NAMES.values() if path.startswith("deploy/")}
