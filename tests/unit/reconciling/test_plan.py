"""Plans: costs from the last derivations of the kind, and the graph."""

import re

import pytest

from moma_cl.hub import Hub
from moma_cl.reconciling.composer import Composer
from moma_cl.reconciling.costs import Costs
from moma_cl.reconciling.reasons import StepStatus
from moma_cl.reconciling.task_derivations import module_derivation
from moma_cl.records.tasks import task_state
from moma_store.store import Store
from tests.helpers import hubs

NODE = re.compile(r'  (?P<name>\w+|"[^"]+") \[(?P<attributes>.*)\];')
EDGE = re.compile(r'  (?P<tail>\w+|"[^"]+") -> (?P<head>\w+);')
ATTRIBUTE = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\w+)')


@pytest.fixture
def hub(hub):
    """Two tasks of which only the first answers are known."""
    for target in ("energy", "gap"):
        hubs.add_task(hub, target, 60, compose=False)
    return hub


def parsed(text):
    """Nodes with their attributes, and edges, of the subset of DOT that plans are written in."""
    first, second, *lines, last = text.splitlines()
    assert (first, second, last) == ("digraph plan {", "  rankdir=LR;", "}")
    nodes, edges = {}, []
    for line in lines:
        if edge := EDGE.fullmatch(line):
            edges.append((edge["tail"], edge["head"]))
        else:
            node = NODE.fullmatch(line)
            assert node, line
            assert ATTRIBUTE.sub("", node["attributes"]).strip(", ") == ""
            nodes[node["name"]] = dict(ATTRIBUTE.findall(node["attributes"]))
    return nodes, edges


def test_the_graph_has_every_step_and_what_it_reads(hub):
    steps = Hub(hub).plan()
    nodes, edges = parsed(Hub(hub).plan_graph())
    boxes = [name for name, attributes in nodes.items() if attributes["shape"] == "box"]
    assert len(boxes) == len(steps)
    assert {name for edge in edges for name in edge} <= nodes.keys()
    number = next(i for i, step in enumerate(steps) if (step.task, step.kind) == ("gap", "module"))
    read = {nodes[tail]["label"].split("\\n")[0] for tail, head in edges if head == f"step{number}"}
    assert read == {'"hub', '"backbones/cgcnn', '"tasks/gap', '"datasets/gap'}
    after = {f"step{i}" for i, step in enumerate(steps) if step.status == StepStatus.AFTER}
    assert after
    assert after <= {head for tail, head in edges if tail.startswith("step")}


def test_a_graph_of_nothing_is_a_graph(hub):
    Hub(hub).update()
    nodes, edges = parsed(Hub(hub).plan_graph(tasks=["energy"]))
    assert edges == []
    assert all(attributes["style"] == "dotted" for attributes in nodes.values())


def test_quotes_and_newlines_in_what_went_wrong_do_not_break_the_graph(hub, monkeypatch):
    def breaking(workspace, derivation):
        raise ValueError('a "quote",\na new line and a back\\slash')

    monkeypatch.setattr("moma_cl.derivations.derive.derive", breaking)
    Hub(hub).update()
    nodes, _ = parsed(Hub(hub).plan_graph())
    assert any("back" in attributes.get("tooltip", "") for attributes in nodes.values())


def test_costs_are_those_of_the_last_like_it_by_rows(hub, add_data, made_up):
    Hub(hub).update()
    with Store.open(hub, write=True) as store, store.transaction("slower") as transaction:
        for key, memo in store.memos("module:").items():
            transaction.put_memo(key, memo.result, 6.0)  # 60 rows: 0.1 s for each
    add_data("gap", made_up(60, first=60), compose=False)
    steps = [step for step in Hub(hub).plan(tasks=["gap"]) if step.status == StepStatus.STALE]
    cost = {step.kind: step.seconds for step in steps}
    assert cost["module"] == pytest.approx(12.0)
    assert cost["estimate"] > 0


def test_the_cost_of_a_first_training_is_foreseen_from_that_of_embeddings(tmp_path):
    hub = hubs.make_hub(tmp_path / "first", hubs.short_recipe(10))
    hubs.add_task(hub, "energy", 200, unit="eV/atom", compose=False)
    with Store.open(hub, write=True) as store, store.transaction("slower") as transaction:
        for key, memo in store.memos("estimate:").items():
            transaction.put_memo(key, memo.result, 6.0)  # 200 rows: 0.03 s for each
    steps = {
        step.subject if step.kind == "learner" else step.kind: step for step in Hub(hub).plan()
    }
    training = pytest.approx(0.3 * 6.0 * 10)  # an epoch is 0.3 of an estimate
    assert steps["module"].seconds == training
    assert steps["finetuned from backbone@cgcnn"].seconds == training
    assert steps["adapted backbone@cgcnn"].seconds == training
    assert {one.status for name, one in steps.items() if "backbone" in name} == {StepStatus.STALE}
    after = steps["predictor"]
    assert (after.status, after.why, after.seconds) == (
        StepStatus.AFTER,
        "after its learners",
        None,
    )


def test_learners_of_each_task_are_planned_with_what_the_last_like_them_took(tmp_path):
    hub = hubs.make_hub(tmp_path / "hub", hubs.short_recipe(1))
    hubs.add_task(hub, "energy", 200)
    seconds = {"kernel": 2.0, "finetuned": 20.0, "adapted": 10.0}
    with Store.open(hub, write=True) as store, store.transaction("slower") as transaction:
        for key, memo in store.memos("learner:").items():
            method = store.record(memo.result)["method"]
            transaction.put_memo(key, memo.result, seconds[method])
    hubs.add_task(hub, "gap", 200, compose=False)
    steps = Hub(hub).plan(tasks=["gap"])
    (fit,) = [step for step in steps if step.kind == "predictor"]
    assert (fit.status, fit.why) == (StepStatus.AFTER, "if its composition is worth it")
    assert fit.seconds == pytest.approx(2 * 20.0 + 2 * 10.0)  # from the composition, and beside it


def test_learners_that_start_from_a_composition_come_after_its_kernel_learner(hub, monkeypatch):
    hubs.add_task(hub, "modulus", 200)
    Hub(hub).update()

    def interrupted(self, derivations, why):
        if (derivations[0].kind, derivations[0].task) == ("learner", "energy2"):
            raise KeyboardInterrupt
        return derived(self, derivations, why)

    hubs.add_task(hub, "energy2", 200, target="energy", compose=False)
    derived = Composer.derive_all
    monkeypatch.setattr(Composer, "derive_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Hub(hub).update()
    steps = [step for step in Hub(hub).plan(tasks=["energy2"]) if step.kind == "learner"]
    assert {(step.subject, step.status, step.why) for step in steps if "after" in step.why} == {
        (name, StepStatus.AFTER, "after its kernel learner")
        for name in ("finetuned from composition@cgcnn", "adapted composition@cgcnn")
    }
    stale = {step.subject for step in steps if step.status == StepStatus.STALE}
    assert stale == {"kernel@cgcnn", "finetuned from backbone@cgcnn", "adapted backbone@cgcnn"}
    assert all(step.seconds is not None for step in steps)


def test_a_limit_of_time_rests_on_what_was_measured_only(hub):
    with Store.open(hub) as store:
        costs = Costs(store=store)
        derivation = module_derivation(
            store, task_state(store, "energy"), "cgcnn", store.ref("datasets/energy")
        )
        assert costs.of(derivation) is None
        assert costs.foreseen(derivation) > 0
