"""What launchers of tasks say stands for options that were not given."""

import os
import shlex
import subprocess
import sys

import pytest
from elrun.launcher.plan.host_lists import host_in_file, hosts_of_open_mpi
from elrun.launcher.plan.task_launchers import LAUNCHERS, read_tasks

# As `mpirun --host 127.0.0.2,127.0.0.3 -n 2 env` of Open MPI 4.1.4 had it in the second task, less
# what nobody asks for.
OPEN_MPI = {
    "OMPI_APP_CTX_NUM_PROCS": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_NODE_RANK": "0",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_FIRST_RANKS": "0",
    "OMPI_MCA_ess_base_jobid": "1257373697",
    "OMPI_MCA_ess_base_num_procs": "3",
    "OMPI_MCA_ess_base_vpid": "1",
    "OMPI_MCA_orte_app_num": "0",
    "OMPI_MCA_orte_ess_num_procs": "2",
    "OMPI_MCA_orte_node_regex": "vm,[3:127].0.0.2,[3:127].0.0.3@0(3)",
    "OMPI_MCA_orte_num_nodes": "2",
    "OMPI_UNIVERSE_SIZE": "4",
    "PMIX_HOSTNAME": "vm",
    "PMIX_ID": "1257373697.1",
    "PMIX_NAMESPACE": "1257373697",
    "PMIX_RANK": "1",
}
# `mpirun --host localhost:4 -n 4 env`, the first task.
OPEN_MPI_HERE = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_MCA_orte_num_nodes": "1",
    "PMIX_NAMESPACE": "1108475905",
    "PMIX_RANK": "0",
}
# `mpiexec.hydra -hosts 127.0.0.2,127.0.0.3 -n 2 env` of MPICH 4.0.2, the second task.
HYDRA = {
    "MPIR_CVAR_CH3_INTERFACE_HOSTNAME": "127.0.0.3",
    "MPI_LOCALNRANKS": "1",
    "MPI_LOCALRANKID": "0",
    "PMI_FD": "12",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
}
# As their manuals have it.
JSRUN = {
    "JSM_NAMESPACE_LOCAL_RANK": "0",
    "JSM_NAMESPACE_LOCAL_SIZE": "1",
    "JSM_NAMESPACE_RANK": "1",
    "JSM_NAMESPACE_SIZE": "2",
    "LSB_JOBID": "77",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
}
FLUX = {
    "FLUX_JOB_ID": "f2oWKQZh",
    "FLUX_JOB_NNODES": "2",
    "FLUX_JOB_SIZE": "2",
    "FLUX_TASK_LOCAL_ID": "0",
    "FLUX_TASK_RANK": "1",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
}
PALS = {
    "PALS_APID": "1fd7-0",
    "PALS_LOCAL_RANKID": "0",
    "PALS_LOCAL_SIZE": "1",
    "PALS_NODEID": "1",
    "PALS_RANKID": "1",
    "PBS_JOBID": "99.head",
    "PMI_LOCAL_RANK": "0",
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
}
MVAPICH = {
    "MV2_COMM_WORLD_LOCAL_RANK": "0",
    "MV2_COMM_WORLD_LOCAL_SIZE": "1",
    "MV2_COMM_WORLD_RANK": "1",
    "MV2_COMM_WORLD_SIZE": "2",
}
SECONDS_OF_TWO = {
    "jsrun": JSRUN,
    "Open MPI": OPEN_MPI,
    "MVAPICH": MVAPICH,
    "Flux": FLUX,
    "PALS": PALS,
    "mpiexec": HYDRA,
}


@pytest.fixture(name="hosts")
def _hosts(tmp_path):
    """Return a file of hosts as PBS and LSF write it: a line a slot."""
    path = tmp_path / "hosts"
    path.write_text("n1\nn1\nn2\nn2\n")
    return str(path)


@pytest.mark.parametrize("launcher", [each.name for each in LAUNCHERS])
def test_the_second_of_two_tasks_is_the_second_node_of_two(elrun, launcher, hosts):
    """The scheduler says where they meet, if the launcher does not."""
    plan = elrun.plan("x.py", PBS_NODEFILE=hosts, **SECONDS_OF_TWO[launcher])

    host, port = plan.config.rdzv_endpoint.rsplit(":", 1)
    assert ("c10d", 2, 2, {"rank": 1}) == (
        plan.config.rdzv_backend,
        plan.config.min_nodes,
        plan.config.max_nodes,
        plan.config.rdzv_configs,
    )
    assert ("127.0.0.2" if launcher == "Open MPI" else "n1") == host
    assert 20000 <= int(port) < 30000


@pytest.mark.parametrize("launcher", SECONDS_OF_TWO)
def test_all_tasks_of_a_start_meet_at_one_place_and_by_one_name(elrun, launcher, hosts):
    """Whatever else differs between them."""
    second = SECONDS_OF_TWO[launcher]
    first = second | {name: "0" for name in second if name.endswith(("RANK", "RANKID"))}
    plans = [elrun.plan("x.py", LSB_DJOB_HOSTFILE=hosts, **each) for each in (first, second)]

    one, other = ((plan.config.rdzv_endpoint, plan.config.run_id) for plan in plans)
    assert one == other
    assert [{"rank": 0}, {"rank": 1}] == [plan.config.rdzv_configs for plan in plans]


def test_one_task_says_what_was_taken(elrun):
    """As options that could be given instead."""
    first, second = (
        elrun.plan("x.py", OMP_NUM_THREADS="1", **OPEN_MPI | {"OMPI_COMM_WORLD_RANK": rank})
        for rank in "01"
    )

    expected = (
        "from Open MPI: --nnodes 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.2:27452 "
        "--rdzv-id 1257373697"
    )
    assert ((expected,), ()) == (first.notices, second.notices)


def test_tasks_of_one_host_meet_there_and_the_devices_are_a_matter_of_a_notice(elrun):
    """Each elrun numbers the local ranks of its workers from 0."""
    plan = elrun.plan("x.py", **OPEN_MPI_HERE)

    assert (4, "localhost") == (plan.config.max_nodes, plan.config.rdzv_endpoint.split(":")[0])
    assert "Open MPI started 4 elruns on this host" in plan.notices[1]


@pytest.mark.parametrize("launcher", ["mpiexec", "MVAPICH", "PALS", "Flux", "jsrun"])
def test_tasks_whose_hosts_nobody_names_are_refused(elrun, launcher):
    """Four jobs, where one was meant, would be found out late."""
    refusal = elrun.refusal("x.py", PATH="", **SECONDS_OF_TWO[launcher])

    assert (
        f"{launcher} started 2 elruns, and does not say on which hosts; give --rdzv-endpoint "
        "HOST:PORT with the host of one of them, or --standalone for a job of its own in each"
    ) in refusal


def test_jsrun_runs_no_task_on_the_host_of_the_batch_script(elrun, hosts):
    """LSF names that host first."""
    plan = elrun.plan("x.py", LSB_DJOB_HOSTFILE=hosts, **JSRUN)

    assert "n2" == plan.config.rdzv_endpoint.split(":")[0]


def test_lsf_names_hosts_in_a_variable_as_well(elrun):
    """Each with its number of slots."""
    plan = elrun.plan("x.py", LSB_MCPU_HOSTS="n7 4 n8 4", **HYDRA)

    assert "n7" == plan.config.rdzv_endpoint.split(":")[0]


@pytest.mark.parametrize(
    ("variables", "launcher", "host"),
    [
        ({"LSB_MCPU_HOSTS": "batch1 1 n7 42 n8 42"}, JSRUN, "n7"),
        ({"LSB_HOSTS": "batch1 n7 n7 n8 n8"}, JSRUN, "n7"),
        ({"LSB_HOSTS": "n7 n7 n8 n8"}, HYDRA, "n7"),
        ({"SLURM_JOB_NODELIST": "n[7-8]"}, HYDRA, "n7"),
    ],
)
def test_lists_of_hosts_in_variables(elrun, variables, launcher, host):
    """jsrun starts no task on LSF's first host."""
    plan = elrun.plan("x.py", **launcher, **variables)

    assert host == plan.config.rdzv_endpoint.split(":")[0]


def test_a_host_of_a_batch_script_alone_has_no_task_of_jsrun(elrun):
    """The tasks would wait there for each other in vain."""
    refusal = elrun.refusal("x.py", **JSRUN, LSB_MCPU_HOSTS="batch1 1")

    assert "does not say on which hosts" in refusal


@pytest.mark.parametrize(
    ("variable", "job"),
    [
        ("PE_HOSTFILE", "JOB_ID"),
        ("OAR_NODEFILE", "OAR_JOB_ID"),
        ("COBALT_NODEFILE", "COBALT_JOBID"),
    ],
)
def test_files_of_hosts_of_other_schedulers(elrun, tmp_path, variable, job):
    """Grid Engine's has slots and queues beside the host; the port differs from job to job."""
    path = tmp_path / "hosts"
    path.write_text("n1.lan 2 all.q@n1.lan UNDEFINED\nn2.lan 2 all.q@n2.lan UNDEFINED\n")
    plans = [elrun.plan("x.py", **HYDRA, **{variable: str(path), job: number}) for number in "56"]

    places = [plan.config.rdzv_endpoint.split(":") for plan in plans]
    assert (["n1.lan"] * 2, 2) == ([host for host, _ in places], len({port for _, port in places}))


def test_flux_on_one_host_need_not_be_asked_for_it(elrun):
    """It says how many hosts there are, and not how many tasks this one has."""
    variables = FLUX | {"FLUX_JOB_NNODES": "1", "FLUX_JOB_SIZE": "4"}
    plan = elrun.plan("x.py", PATH="", **variables)

    assert (4, "localhost") == (plan.config.max_nodes, plan.config.rdzv_endpoint.split(":")[0])
    assert "f2oWKQZh" == plan.config.run_id


STEP = {
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "n[1-4]",
}
PRTERUN = {"PMIX_NAMESPACE": "prterun-n1-77@1", "PMIX_RANK": "2", "PMIX_HOSTNAME": "n1"}


def test_a_task_among_an_unknown_number_says_so(elrun):
    """prterun sets PMIx's variables only, and has tasks ask a library for the rest."""
    notices = elrun.plan("x.py", **PRTERUN).notices

    assert "this is task 2 of a PMIx launcher (PMIX_RANK)" in notices[0]


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ((), {"PMIX_RANK": "0"}),
        ((), {"TORCHELASTIC_RUN_ID": "x"}),
        (("--standalone",), {}),
        (("--nnodes=1",), {}),
        ((), {"PMIX_RANK": "x"}),
    ],
)
def test_nothing_is_said_where_a_job_of_its_own_may_be_meant(elrun, options, variables):
    """The first task may be the only one."""
    assert not elrun.plan(*options, "x.py", **PRTERUN | variables).notices


def test_the_rank_of_pmix_is_a_node_s(elrun):
    """Where the user says how many nodes there are, and where they meet."""
    options = ("--nnodes=4", "--rdzv-backend=c10d", "--rdzv-endpoint=n1:1234")

    assert {"rank": 2} == elrun.plan(*options, "x.py", **PRTERUN).config.rdzv_configs


@pytest.mark.parametrize("others", [{"TORCHELASTIC_RUN_ID": "x"}, STEP])
def test_the_rank_of_pmix_is_no_node_s_where_more_is_known(elrun, others):
    """A worker's nodes are those of its job; and a step tells of two tasks on each node."""
    options = ("--nnodes=4", "--rdzv-backend=c10d", "--rdzv-endpoint=n1:1234")

    assert not elrun.plan(*options, "x.py", **PRTERUN | others).config.rdzv_configs


def test_flux_is_asked_for_its_hosts(elrun, tmp_path):
    """By the command that it has for that."""
    command = tmp_path / "flux"
    command.write_text('#!/bin/sh\n[ "$*" = "hostlist --nth=0 local" ] && echo n3\n')
    command.chmod(0o755)

    plan = elrun.plan("x.py", PATH=f"{tmp_path}:/bin:/usr/bin", **FLUX)

    assert ("n3", "f2oWKQZh") == (plan.config.rdzv_endpoint.split(":")[0], plan.config.run_id)


def test_a_place_that_was_given_is_taken_and_the_rest_is_known(elrun):
    """The number of nodes and this one's rank."""
    plan = elrun.plan("--rdzv-backend=c10d", "--rdzv-endpoint=n5:1234", "x.py", **HYDRA)

    config = plan.config
    assert ("n5:1234", 2, {"rank": 1}) == (
        config.rdzv_endpoint,
        config.min_nodes,
        config.rdzv_configs,
    )


def test_static_rendezvous_has_the_task_s_rank(elrun):
    """As it has SLURM's."""
    plan = elrun.plan("--master-addr=n5", "--rdzv-backend=static", "x.py", **HYDRA)

    config = plan.config
    assert ("static", 2, 1) == (config.rdzv_backend, config.max_nodes, config.rdzv_configs["rank"])


def test_master_addr_says_where_tasks_meet(elrun):
    """Recipes for mpirun export it."""
    plan = elrun.plan("x.py", MASTER_ADDR="n4", **HYDRA)

    assert "n4" == plan.config.rdzv_endpoint.split(":")[0]


@pytest.mark.parametrize(
    "variables",
    [
        {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {**OPEN_MPI, "TORCHELASTIC_RUN_ID": "x"},
        {**HYDRA, "PMI_RANK": "2"},
        {**HYDRA, "PMI_SIZE": "two"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_one_task_or_a_worker_s_child_or_nonsense_is_a_job_of_its_own(variables):
    """What a worker starts is no node of the job that the worker is in."""
    assert read_tasks(variables) is None


def test_more_nodes_than_tasks_are_refused(elrun):
    """Nothing will start the others."""
    refusal = elrun.refusal("--nnodes=3", "x.py", **OPEN_MPI)

    assert "--nnodes 3: Open MPI started 2 elruns, one for each node; start as many" in refusal


def test_standalone_means_a_job_in_each_task(elrun):
    """Whatever started them."""
    assert 1 == elrun.plan("--standalone", "x.py", **HYDRA).config.max_nodes


def test_tasks_of_mpirun_in_a_step_of_slurm_are_mpirun_s(elrun):
    """mpirun starts a daemon a node by srun, and the daemon the tasks."""
    step = {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "3",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
        "SLURM_STEP_NODELIST": "node2",
    }

    plan = elrun.plan("x.py", **step, **OPEN_MPI)

    assert (2, "127.0.0.2:27452") == (plan.config.max_nodes, plan.config.rdzv_endpoint)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("vm,node[2:8-10]@0(4)", ["vm", "node08", "node09", "node10"]),
        ("vm,a[1:1],b[1:2],c[1:3]@0(4)", ["vm", "a1", "b2", "c3"]),
        ("vm,gpu-a-[2:1-2,11]@0(4)", ["vm", "gpu-a-01", "gpu-a-02", "gpu-a-11"]),
        ("vm,[3:127].0.0.2@0(2)", ["vm", "127.0.0.2"]),
        ("vm,w-[1:0-1].job@0(3)", ["vm", "w-0.job", "w-1.job"]),
        ("", []),
        ("[", []),
        ("a[1:x],b", []),
    ],
)
def test_the_hosts_of_open_mpi_s_list(text, names):
    """As mpirun 4.1.4 wrote the first four."""
    assert names == hosts_of_open_mpi(text)


def test_a_file_of_hosts_that_is_not_there_names_none(tmp_path):
    """Some schedulers write it on the first host only."""
    assert ["", ""] == [host_in_file("", 0), host_in_file(str(tmp_path), 0)]


def test_tasks_that_start_elrun_by_a_shell_have_one_starter(tmp_path):
    """Each has a parent of its own then, and that one is a task, too."""
    code = "from elrun.launcher.plan.task_launchers import _starter; print(_starter('PMI_RANK'))"
    command = [sys.executable, "-c", code]
    shell = ["sh", "-c", f"{shlex.join(command)}; true"]

    found = [
        subprocess.run(
            words,
            capture_output=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PMI_RANK": "0"},
            text=True,
        ).stdout
        for words in (command, shell)
    ]

    assert [f"{os.getpid()}\n"] * 2 == found
