"""Fitting a predictor: which starts of the fine-tuning answer."""

from dataclasses import replace

import numpy as np
import pytest

from moma_cl import fitting, service
from moma_cl.records import ModuleKind, Predictor
from moma_store.store import Store


@pytest.mark.parametrize(
    ("errors", "averaged"),
    [((0.1, 5.0), False), ((1.0, -1.0), True)],
    ids=["one far worse", "errors that cancel"],
)
def test_of_two_starts_and_their_mean_the_best_on_validation_answers(
    tmp_path, short_recipe, write_rows, made_up, monkeypatch, errors, averaged
):
    hub, rows = tmp_path / "hub", write_rows(made_up(200))
    service.init(hub, backbone="cgcnn", recipe=short_recipe)
    service.add_task(hub, "energy", [rows], target="energy", unit="eV/atom")
    tuned = fitting._finetuned_answers
    found = []

    def noted(material, vector, prior):
        answers = tuned(material, vector, prior)
        targets = material.targets[material.roles.validation]
        answers = replace(answers, validation=targets + errors[len(found)])
        found.append((material, answers))
        return answers

    monkeypatch.setattr(fitting, "_finetuned_answers", noted)
    service.add_task(hub, "modulus", [rows], target="modulus", unit="GPa", module=ModuleKind.NONE)
    with Store.open(hub) as store:
        fitted = Predictor.from_doc(store.record(store.ref("fitted/modulus")))
        assert store.record(fitted.composition)["modules"]
        arrays = store.blob(fitted.blob).arrays
    (material, first), (_, second) = found
    validation = material.roles.validation
    single = [fitting._mae(material, one.validation, validation) for one in (first, second)]
    mean = fitting._mae(material, (first.validation + second.validation) / 2, validation)
    assert np.isclose(fitted.validation_maes["finetuned"], min(*single, mean), rtol=1e-12)
    assert (mean < min(single)) == averaged
    assert ("backbone_parameters" in arrays) == averaged
