"""From a fitted scikit-learn pipeline to plain numbers: the categories of its encoder, and its trees as treelite reads them."""

from __future__ import annotations

from sys import float_info
from typing import Any

from level1_pipeline import schema
from level1_pipeline.errors import NotCompilable
from level1_pipeline.schema.task import task

LESS_OR_EQUAL = 3  # treelite's code of the comparison `value <= threshold`


def compile_pipeline(pipeline: Any) -> dict[str, Any]:
    """A fitted `Pipeline` of an encoder (a ColumnTransformer of OrdinalEncoder and passthrough) and trees, as
    JSON-ready data: the inputs in the order of the trees' features, the trees, the base score and the link.

    Raises:
        NotCompilable: with the part that is not understood.
    """
    steps = [step for _, step in getattr(pipeline, "steps", ())]
    if not 1 <= len(steps) <= 2:
        raise NotCompilable(f"a {type(pipeline).__name__} of {len(steps)} steps is no encoder and model")
    inputs = _encoded_inputs(steps[0]) if len(steps) == 2 else [{"name": name} for name in schema.names()]
    return {"inputs": inputs, **_model(steps[-1])}


def _model(model: Any) -> dict[str, Any]:
    """Its trees; the offset of a recalibrated one is a part of the base score, so it costs no time."""
    from level1_pipeline.bundle.recalibrated import Recalibrated

    if not isinstance(model, Recalibrated):
        return _trees(model)
    trees = _trees(model.model)
    return {**trees, "base": trees["base"] + model.offset}


def _encoded_inputs(encoder: Any) -> list[dict[str, Any]]:
    from sklearn.compose import ColumnTransformer

    if type(encoder) is not ColumnTransformer:
        raise NotCompilable(f"the encoder is a {type(encoder).__name__}, not a ColumnTransformer")
    inputs: list[dict[str, Any]] = []
    for name, transformer, _ in encoder.transformers_:
        if not isinstance(transformer, str):  # columns that are dropped, or none at all
            inputs += _inputs_of(transformer, name)
    return inputs


def _inputs_of(transformer: Any, step: str) -> list[dict[str, Any]]:
    """Of the columns that a fitted transformer got, which it remembers however they were chosen: by name, number,
    slice, mask or function."""
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    unchanged = type(transformer) is FunctionTransformer and transformer.func is None
    if not unchanged and type(transformer) is not OrdinalEncoder:
        kind = type(transformer).__name__
        raise NotCompilable(f"the columns of '{step}' pass through a {kind}, not an OrdinalEncoder")
    names = [str(name) for name in getattr(transformer, "feature_names_in_", ())]
    if unchanged or not names:
        return [{"name": name} for name in names]
    grouped = transformer.min_frequency is not None or transformer.max_categories is not None
    if transformer.handle_unknown != "use_encoded_value" or grouped:
        raise NotCompilable("the OrdinalEncoder has no code for unknown values, or groups rare ones")
    return [
        _codes(name, list(categories), transformer)
        for name, categories in zip(names, transformer.categories_, strict=True)
    ]


def _codes(name: str, categories: list[Any], encoder: Any) -> dict[str, Any]:
    unknown = _json_number(encoder.unknown_value)
    missing = [value for value in categories if not isinstance(value, str)]
    if any(value is not None and value == value for value in missing):
        raise NotCompilable(f"{name} has categories that are no text")
    codes = {value: float(code) for code, value in enumerate(categories) if isinstance(value, str)}
    return {
        "name": name,
        "codes": codes,
        "unknown": unknown,
        "missing": _json_number(encoder.encoded_missing_value) if missing else unknown,
    }


def _json_number(value: float) -> float | None:
    """JSON has no NaN: None stands for it."""
    return None if value != value else float(value)


def _trees(model: Any) -> dict[str, Any]:
    if type(model).__module__.partition(".")[0] != "sklearn":
        raise NotCompilable(f"a {type(model).__name__} is not scikit-learn's own, so it may do more than its trees say")
    try:
        import treelite

        read = treelite.sklearn.import_model(model)
    except Exception as error:  # treelite raises many kinds, for estimators that it does not know
        raise NotCompilable(f"treelite cannot read a {type(model).__name__} ({error})") from error
    header = read.get_header_accessor()
    link = str(header.get_field("postprocessor"))
    wanted, width = task().link, len(task().columns())
    if link != wanted or int(header.get_field("num_class")[0]) != width or read.num_tree % width:
        raise NotCompilable(f"a {type(model).__name__} ends in '{link}' here, where '{wanted}' is known")
    if header.get_field("average_tree_output")[0] or str(header.get_field("sigmoid_alpha")[0]) != "1.0":
        raise NotCompilable(f"a {type(model).__name__} averages or scales its trees, which is not known here")
    about = [int(place) for place in header.get_field("class_id")] if width > 1 else [0] * read.num_tree
    order = sorted(range(read.num_tree), key=about.__getitem__)  # the trees of the first class, then those of the next
    if width > 1 and [about[number] for number in order] != sorted(list(range(width)) * (read.num_tree // width)):
        raise NotCompilable(f"a {type(model).__name__} has not the same number of trees for each class")
    bases = [float(base) for base in header.get_field("base_scores")]
    return {
        "base": bases if width > 1 else bases[0],
        "link": link,
        "trees": [_tree(read.get_tree_accessor(number)) for number in order],
    }


def _tree(tree: Any) -> dict[str, list[Any]]:
    inner = tree.get_field("cleft") >= 0
    if tree.get_field("has_categorical_split")[0] or (tree.get_field("cmp")[inner] != LESS_OR_EQUAL).any():
        raise NotCompilable("a tree asks something else than 'value <= threshold'")
    names = {
        "feature": "split_index",
        "threshold": "threshold",
        "left": "cleft",
        "right": "cright",
        "missing_left": "default_left",
        "value": "leaf_value",
    }
    fields = {ours: tree.get_field(theirs).tolist() for ours, theirs in names.items()}
    # A split off of the missing values alone has an infinite threshold, which JSON cannot say.
    fields["threshold"] = [min(threshold, float_info.max) for threshold in fields["threshold"]]
    return fields
