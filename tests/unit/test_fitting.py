"""Fitting a predictor: which start of the fine-tuning stays."""

import numpy as np

from moma_cl import fitting, service
from moma_cl.records import ModuleKind, Predictor
from moma_store.store import Store


def test_of_the_composed_encoder_and_the_backbone_the_better_on_validation_stays(
    tmp_path, short_recipe, write_rows, made_up, monkeypatch
):
    hub, rows = tmp_path / "hub", write_rows(made_up(200))
    service.init(hub, backbone="cgcnn", recipe=short_recipe)
    service.add_task(hub, "energy", [rows], target="energy", unit="eV/atom")
    tuned = fitting._finetuned_answers
    errors = []

    def noted(material, vector, prior):
        answers = tuned(material, vector, prior)
        errors.append(fitting._mae(material, answers.validation, material.roles.validation))
        return answers

    monkeypatch.setattr(fitting, "_finetuned_answers", noted)
    service.add_task(hub, "modulus", [rows], target="modulus", unit="GPa", module=ModuleKind.NONE)
    with Store.open(hub) as store:
        fitted = Predictor.from_doc(store.record(store.ref("fitted/modulus")))
        modules = store.record(fitted.composition)["modules"]
    assert modules
    assert len(errors) == 2
    assert errors[0] != errors[1]
    assert np.isclose(fitted.validation_maes["finetuned"], min(errors), rtol=1e-12)
