"""The manifests of ``examples/kubernetes`` are what Kubernetes takes, and make one job each."""

from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
models = pytest.importorskip("kubeflow_trainer_api.models")

FOLDER = Path(__file__).parents[3] / "examples" / "kubernetes"
# The published types of Kubernetes, JobSet and Kubeflow's trainer.
TYPES = {
    "Service": models.IoK8sApiCoreV1Service,
    "Job": models.IoK8sApiBatchV1Job,
    "JobSet": models.JobsetV1alpha2JobSet,
    "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
    "TrainJob": models.TrainerV1alpha1TrainJob,
}
UID = "d41d8cd9"

pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="a wheel is tested, no examples are near"
)


def documents():
    return [
        pytest.param(document, id=f"{path.name} {document['kind']}")
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def read(name):
    return {each["kind"]: each for each in yaml.safe_load_all((FOLDER / name).read_text())}


def pod_of(job):
    return job["spec"]["template"]["spec"]


def variables_of(pod):
    """Return the container's environment, as the kubelet fills it in."""
    return {each["name"]: each.get("value", UID) for each in pod["containers"][0].get("env", [])}


@pytest.mark.parametrize("document", documents())
def test_a_manifest_is_of_its_published_type(document):
    """Each field is known, with a value of its type: nothing is lost on the way there and back."""
    assert document == TYPES[document["kind"]].from_dict(document).to_dict()


def test_the_published_types_notice_a_mistake():
    """So that the test before can fail."""
    job = read("indexed-job.yaml")["Job"]
    job["spec"]["completionsMode"] = "Indexed"

    assert job != TYPES["Job"].from_dict(job).to_dict()


@pytest.mark.parametrize("name", ["indexed-job.yaml", "jobset.yaml"])
def test_pods_meet_at_the_first_one_s_name_with_their_index_as_rank(elrun, name):
    """The name is what Kubernetes makes of the job's, the index and the domain."""
    found = read(name)
    if "Job" in found:
        job, first = found["Job"], f"{found['Job']['metadata']['name']}-0"
        domain = found["Service"]["metadata"]["name"]
        assert domain == pod_of(job)["subdomain"]
        assert found["Service"]["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    else:
        spec = found["JobSet"]["spec"]
        (replicated,) = spec["replicatedJobs"]
        job = replicated["template"]
        first = f"{found['JobSet']['metadata']['name']}-{replicated['name']}-0-0"
        domain = spec["network"]["subdomain"]
    pod = pod_of(job)
    plans = [
        elrun.plan("x.py", **variables_of(pod), JOB_COMPLETION_INDEX=str(index)).config
        for index in range(job["spec"]["completions"])
    ]

    assert "Indexed" == job["spec"]["completionMode"]
    for rank, plan in enumerate(plans):
        assert ("c10d", f"{first}.{domain}:29400", UID, {"rank": rank}) == (
            plan.rdzv_backend,
            plan.rdzv_endpoint,
            plan.run_id,
            plan.rdzv_configs,
        )
        assert (len(plans), 2) == (plan.min_nodes, plan.nproc_per_node)
        assert plan.shutdown_timeout < pod["terminationGracePeriodSeconds"]


def test_a_trainjob_s_pods_are_static_nodes(elrun):
    """By what the trainer adds to their environment."""
    found = read("trainjob.yaml")
    runtime, job = found["ClusterTrainingRuntime"], found["TrainJob"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    trainer = job["spec"]["trainer"]
    added = {
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "elrun-train-node-0-0.elrun-train",
        "PET_MASTER_PORT": "29500",
    }

    pod = pod_of(replicated["template"])
    plan = elrun.plan("x.py", **variables_of(pod), **added).config

    assert runtime["metadata"]["name"] == job["spec"]["runtimeRef"]["name"]
    assert ("static", "elrun-train-node-0-0.elrun-train:29500", 2, 2, 1, "600") == (
        plan.rdzv_backend,
        plan.rdzv_endpoint,
        plan.max_nodes,
        plan.nproc_per_node,
        plan.rdzv_configs["rank"],
        plan.rdzv_configs["join_timeout"],
    )
    assert plan.shutdown_timeout < pod["terminationGracePeriodSeconds"]
