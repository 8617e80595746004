"""``add-module``: a module that was trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moma_cl.core.limits import LARGEST, MOST
from moma_cli.output import Output
from moma_cli.parameters import Wait
from moma_cli.program import Run, command

ModuleName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the module.", show_default=False)
]
BackboneName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The backbone; needed where the hub has several.",
        show_default=False,
    ),
]
WeightsFile = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="Safetensors file with all parameters of the backbone, or of its adapter.",
        show_default=False,
    ),
]
PropertyName = Annotated[
    str,
    typer.Option("--property", metavar="NAME", help="What it was trained on.", show_default=False),
]
PropertyUnit = Annotated[str, typer.Option(help="Unit of that.", show_default=False)]
ValidationError = Annotated[
    float,
    typer.Option(
        min=0,
        max=LARGEST,
        help="Its error on rows it was not trained on, in UNIT.",
        show_default=False,
    ),
]
TrainingRows = Annotated[
    int, typer.Option(min=0, max=MOST, help="Rows it was trained on, if known.")
]
TrainingData = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DATA",
        help="All structures it was trained on; may be repeated. Without them no task of the "
        "same property composes it, lest it has seen the answers.",
    ),
]
Origin = Annotated[str, typer.Option(help="Where it comes from, for people.", show_default=False)]
Licence = Annotated[str, typer.Option("--license", help="Its licence.", show_default=False)]


@command(
    "add-module",
    example="moma-cl add-module gaps --weights gaps.safetensors --property 'band gap' --unit eV "
    "--validation-mae 0.21",
)
def add_module(
    run: Run,
    *,
    name: ModuleName,
    backbone: BackboneName = None,
    weights: WeightsFile,
    property_name: PropertyName,
    unit: PropertyUnit,
    validation_mae: ValidationError,
    rows: TrainingRows = 0,
    trained_on: TrainingData = None,
    source: Origin = "",
    licence: Licence = "",
    wait: Wait = 0.0,
) -> Output:
    """Add a module that was trained elsewhere from a backbone of this hub.

    Names and shapes of its tensors must be exactly the backbone's.
    """
    from moma_cl.commands.add_module import Weights

    declared = Weights(
        file=weights,
        property=property_name,
        unit=unit,
        validation_mae=validation_mae,
        n_train=rows,
        trained_on=tuple(trained_on or ()),
        source=source,
        licence=licence,
    )
    added = run.waiting(wait).add_module(name, declared, backbone=backbone)
    return Output(
        data=added,
        text=[f"{name}: {added.kind} module, {added.parameters:,} parameters"],
        notes=["next: moma-cl update composes every task with it"],
    )
