"""kubernetes/: manifests against the published schemas, the job template through Prefect's own classes."""

import asyncio
import json
import os
import shutil
import subprocess
from uuid import uuid4

import jsonschema
import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.actions import WorkPoolCreate
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from tests.infra.conftest import INFRA, Tree

FOLDER = INFRA / "kubernetes"
VERSIONS = ("1.31", "1.37")
"""The oldest and the newest Kubernetes that the manifests are checked against."""
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]


def pod(manifest: Tree) -> Tree | None:
    """The pod's specification in a manifest that has one."""
    return manifest["spec"]["template"]["spec"] if "template" in manifest.get("spec", {}) else None


PODS = {manifest["metadata"]["name"]: found for manifest in MANIFESTS if (found := pod(manifest))}


@pytest.fixture
def template() -> Tree:
    return json.loads((FOLDER / "gpu-job-template.json").read_text())


def job(template: Tree, values: Tree) -> Tree:
    """The job that Prefect's worker would create for a flow run. Nothing in the template needs a server's answer."""
    nobody = PrefectClient("http://127.0.0.1:1/api")
    made = KubernetesWorkerJobConfiguration.from_template_and_values(template, values, client=nobody)
    configuration = asyncio.run(made)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), name="able-otter", flow_id=uuid4()))
    return configuration.job_manifest


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_a_manifest_fits_the_schema(manifest: Tree, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it_with_pinned_images() -> None:
    output = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, check=True).stdout
    for manifest in filter(None, yaml.safe_load_all(output)):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "cspipe"
        for container in (pod(manifest) or {}).get("containers", []):
            assert container["image"].partition(":")[2] not in ("", "latest")


def containers(pod: Tree) -> list[Tree]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def is_restricted(pod: Tree) -> bool:
    """Whether the level `restricted` of the Pod Security Standards, which the namespace enforces, permits it."""
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    kinds = {kind for volume in pod.get("volumes", []) for kind in volume} - {"name"}
    return (
        pod["securityContext"]["runAsNonRoot"] is True
        and pod["securityContext"]["runAsUser"] > 0
        and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        and all(container["securityContext"] == own for container in containers(pod))
        and kinds <= {"configMap", "emptyDir", "persistentVolumeClaim"}
    )


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_not_root_gains_no_rights_and_asks_for_what_it_uses(name: str) -> None:
    assert is_restricted(PODS[name])
    disks = [volume["emptyDir"]["sizeLimit"] for volume in PODS[name].get("volumes", []) if "emptyDir" in volume]
    for container in containers(PODS[name]):
        requests = container["resources"]["requests"]
        assert {"cpu", "memory"} <= set(requests)
        assert [size for resource, size in requests.items() if resource == "ephemeral-storage"] == disks


def test_a_clone_on_a_disk_is_apart_from_its_lost_and_found() -> None:
    clones = [mount for container in containers(PODS["cpu-worker"]) for mount in container["volumeMounts"]]
    assert {mount.get("subPath") for mount in clones} == {"clone"}


@pytest.mark.parametrize("name", ["postgres", "server", "dispatcher"])
def test_a_service_that_hangs_is_started_again(name: str) -> None:
    assert PODS[name]["containers"][0]["livenessProbe"]


def test_everything_can_be_applied_again_with_another_image() -> None:
    """The pods of a Job, unlike these, cannot be changed."""
    kinds = {manifest["kind"] for manifest in MANIFESTS if pod(manifest)}
    assert kinds == {"Deployment", "StatefulSet"}


def test_who_is_reached_by_whom() -> None:
    """Everybody's pods by nobody; Postgres by the server; the server by the namespace. Postgres reaches nobody."""
    policies = {found["metadata"]["name"]: found["spec"] for found in MANIFESTS if found["kind"] == "NetworkPolicy"}
    assert policies.pop("nobody") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    reached = {
        name: [(place["podSelector"], port["port"]) for rule in found["ingress"] for place in rule["from"]
               for port in rule["ports"]]
        for name, found in policies.items()
    }  # fmt: skip
    assert reached == {"postgres": [({"matchLabels": {"app": "server"}}, 5432)], "server": [({}, 4200)]}
    assert all(found["podSelector"] == {"matchLabels": {"app": name}} for name, found in policies.items())
    assert {name for name, found in policies.items() if "Egress" in found["policyTypes"]} == {"postgres"}


def test_the_server_refuses_an_empty_auth_string() -> None:
    command = PODS["server"]["containers"][0]["command"]
    env = {"PATH": os.environ["PATH"], "PREFECT_SERVER_API_AUTH_STRING": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert "PREFECT_API_AUTH_STRING" in done.stderr


def test_only_the_dispatcher_may_ask_the_cluster_and_only_for_jobs() -> None:
    assert {name for name, found in PODS.items() if found.get("automountServiceAccountToken", True)} == {"dispatcher"}
    rules = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Role")["rules"]
    writing = {"create", "patch", "update", "delete"}
    assert [rule["resources"] for rule in rules if writing & set(rule["verbs"])] == [["jobs"]]


def test_the_server_is_set_up_as_in_compose(compose: Tree) -> None:
    container = PODS["server"]["containers"][0]
    here = {variable["name"]: variable.get("value") for variable in container["env"]}
    there = compose["services"]["server"]["environment"]
    assert set(there) | {"POSTGRES_PASSWORD"} == set(here)
    addresses = ("URL", "ORIGINS")
    plain = {name: value for name, value in here.items() if value is not None and not name.endswith(addresses)}
    assert plain == {name: there[name] for name in plain}
    assert container["command"][-1].endswith("exec " + " ".join(compose["services"]["server"]["command"]))


@pytest.mark.parametrize("name", ["cpu-worker", "supervisor"])
def test_signs_of_life_are_as_frequent_as_in_compose(name: str, compose: Tree, template: Tree) -> None:
    """The supervisor ends at its start with Prefect's default, three minutes."""
    key = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    here = {variable["name"]: variable["value"] for variable in PODS[name]["containers"][0]["env"]}
    assert here[key] == compose["services"][name]["environment"][key]
    assert here[key] == template["variables"]["properties"]["env"]["default"][key]


def test_all_of_the_env_file_reaches_what_runs_stages(template: Tree) -> None:
    """The key of W&B, say."""
    [gpu] = job(template, {})["spec"]["template"]["spec"]["containers"]
    for container in (*containers(PODS["cpu-worker"]), gpu):
        assert container["envFrom"] == [{"secretRef": {"name": "cspipe"}}]


def test_prefect_makes_valid_jobs_of_the_template(template: Tree) -> None:
    WorkPoolCreate(name="gpu", type="kubernetes", base_job_template=template)
    jsonschema.Draft202012Validator.check_schema(template["variables"])
    for values, gpus in (({}, 1), ({"gpus": 4, "node_selector": {"gpu": "a100"}, "image": "place/worker:7"}, 4)):
        made = job(template, values)
        for version in VERSIONS:
            kubernetes_validate.validate(made, version, strict=True)
        assert "{{" not in json.dumps(made)
        pod_made = made["spec"]["template"]["spec"]
        container = pod_made["containers"][0]
        assert container["args"] == ["prefect", "flow-run", "execute"]
        assert {container["resources"][kind]["nvidia.com/gpu"] for kind in ("requests", "limits")} == {gpus}
        assert pod_made["nodeSelector"] == values.get("node_selector", {})
        assert is_restricted(pod_made)
        disk = next(volume["emptyDir"]["sizeLimit"] for volume in pod_made["volumes"] if volume["name"] == "clone")
        assert container["resources"]["requests"]["ephemeral-storage"] == disk
        assert container["image"] == values.get("image", container["image"])
