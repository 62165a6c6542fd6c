"""The groups whose hosts serve those of Airflow, and which of them make no sense together."""

from __future__ import annotations

import pytest
from pyinfra.api import Config, DeployError, Inventory, State
from pyinfra.context import ctx_host, ctx_state

from tasks.lib import groups
from tests.unit import fake

AIRFLOW = ("@fake/air-1", "@fake/air-2")
ONE, ANOTHER = ("@fake/base-1",), ("@fake/base-2",)
DATABASE = {"airflow": AIRFLOW, "database": ONE}
ALL = {**DATABASE, "cluster": ANOTHER}


@pytest.mark.parametrize(
    ("named", "extra", "said"),
    [
        (DATABASE, (), ""),
        ({"airflow": AIRFLOW[:1], "database": ONE}, (), ""),
        ({"airflow": AIRFLOW[:1], "cluster": ONE}, (), ""),
        (ALL, (), ""),
        ({**DATABASE, "cluster": ONE}, (), ""),
        ({"airflow": AIRFLOW}, ("@fake/alone",), ""),
        ({"airflow": AIRFLOW, "database": ()}, (), "the group database is empty"),
        (
            {**DATABASE, "cluster": ()},
            (),
            "the group cluster is empty: name the host in it that should have the cluster",
        ),
        ({"hosts": AIRFLOW, "database": ONE}, (), "for the hosts of a group airflow"),
        ({"database": ONE}, (), "called database.py, give it another name"),
        ({"cluster": ONE}, (), "(@fake/base-1) is the cluster for the hosts of a group airflow"),
        (
            {"airflow": AIRFLOW, "database": (*ONE, *ANOTHER)},
            (),
            "the group database has several hosts (@fake/base-1, @fake/base-2): name one",
        ),
        (
            {"airflow": AIRFLOW, "cluster": (*ONE, *ANOTHER)},
            (),
            'for more write kubernetes_provider = "existing" instead',
        ),
        (
            {"airflow": AIRFLOW, "database": AIRFLOW[:1]},
            (),
            "@fake/air-1 is in the groups database and airflow",
        ),
        (
            {"airflow": AIRFLOW[:1], "cluster": AIRFLOW[:1]},
            (),
            "or leave the group cluster out, and the one host of Airflow has it",
        ),
        (DATABASE, ("@fake/alone",), "@fake/alone has no role: with a group database each"),
        (ALL, ("@fake/alone",), "with a group database and cluster each host"),
    ],
)
def test_groups_that_make_no_sense_are_refused(
    named: dict[str, tuple[str, ...]], extra: tuple[str, ...], said: str
) -> None:
    state = fake.hosts(named, extra=extra)
    for host in state.inventory:
        with ctx_state.use(state), ctx_host.use(host):
            found = list(groups.conflicts())
            assert [said in each for each in found] == ([True] if said else [])
            if said:
                with pytest.raises(DeployError, match="group"):
                    groups.check()


def test_data_of_a_group_that_another_inventory_has_is_no_group() -> None:
    inventory = Inventory(([AIRFLOW[0]], {}), database=([], {"postgres_version": 17}))
    state = State(inventory=inventory, config=Config())
    with ctx_state.use(state), ctx_host.use(inventory.get_host(AIRFLOW[0])):
        assert list(groups.conflicts()) == []
