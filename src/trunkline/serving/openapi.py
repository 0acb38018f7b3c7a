"""The OpenAPI document of a served bundle, made from its signature."""

from __future__ import annotations

from typing import Any

from trunkline.models.signature import Field, Signature

KEY_HEADER = "x-prediction-key"

_Json = dict[str, Any]
_FIELDS: dict[str, _Json] = {
    "number": {"type": "number"},
    "category": {"type": "string"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "vector": {"type": "array", "items": {"type": ["number", "null"]}},
    "image": {"type": "string", "contentEncoding": "base64", "description": "A PNG or JPEG file in base64"},
}


def example_row(signature: Signature) -> dict[str, object]:
    """One row to try: the values that the signature holds as examples."""
    return {field.name: field.example for field in signature.inputs}


def answered(signature: Signature) -> str:
    """What a model answers a row, to be followed by the name of the target: `the probability of`."""
    return {
        "binary": "the probability of",
        "multiclass": "the class of",
        "regression": "the value of",
        "quantile": "quantiles of",
        "custom": "several numbers for",
    }[signature.task.kind]


def openapi(signature: Signature, reference: str, deployment: str) -> _Json:
    """The document (OpenAPI 3.1) as plain data."""
    description = (
        f"Scores rows with `{reference}`: {answered(signature)} `{signature.target}`. "
        "Every prediction is logged under its `prediction_id`."
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": deployment, "version": reference.rsplit("/", 1)[-1], "description": description},
        "paths": {
            "/predict": {"post": _predict(signature)},
            "/invocations": {"post": _invocations()},
            "/health": {"get": _get("Liveness, counts, and the state of the prediction log")},
            "/model": {"get": _get("Reference, sha256, signature and metadata of the model")},
            "/version": {"get": _get("The server's version", media="text/plain")},
        },
        "components": {"schemas": _schemas(signature)},
    }


def _predict(signature: Signature) -> _Json:
    example = example_row(signature)
    key = {
        "name": KEY_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "Your own key of a single row, logged with its prediction so that its label can be joined later",
    }
    body = {
        "schema": {"oneOf": [{"$ref": "#/components/schemas/Rows"}, {"$ref": "#/components/schemas/Row"}]},
        "examples": {"rows": {"value": {"rows": [example]}}, "one bare row": {"value": example}},
    }
    return {
        "summary": "Score one row or many",
        "operationId": "predict",
        "parameters": [key],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": _response("One prediction for each row, in order", "Predictions"),
            "400": _response("The body is not JSON", "Error"),
            "413": _response("The body is too long, or has too many rows", "Error"),
            "422": _response("A field is missing, unknown or of another type", "FieldError"),
            "503": _response("Too many long requests at once", "Error"),
        },
    }


def _invocations() -> _Json:
    names = ("dataframe_split", "dataframe_records", "inputs", "instances")
    schema = {
        "type": "object",
        "properties": {name: {"type": ["object", "array"]} for name in names}
        | {"params": {"type": ["object", "null"]}},
        "oneOf": [{"required": [name]} for name in names],
    }
    return {
        "summary": "Score rows by MLflow's scoring protocol",
        "operationId": "invocations",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": _response("One prediction for each row, in order", "Invocation"),
            "400": _response("The input does not fit", "MlflowError"),
            "413": _response("The body is too long, or has too many rows", "MlflowError"),
            "415": _response("The content type is not JSON", "MlflowError"),
        },
    }


def _get(summary: str, media: str = "application/json") -> _Json:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {media: {}}}}}


def _response(description: str, schema: str) -> _Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _schemas(signature: Signature) -> _Json:
    text, error = {"type": "string"}, {"error": {"type": "string"}, "hint": {"type": ["string", "null"]}}
    where = {"field": {"type": ["string", "null"]}, "row": {"type": ["integer", "null"], "description": "From 0"}}
    keys = {"type": ["string", "integer", "null"], "description": "Your own keys of the rows, as many as rows"}
    told = _answer(signature)
    prediction = _object({**told, "prediction_id": {"type": "string", "format": "uuid"}})
    return {
        "Row": _object({field.name: _field(field) for field in signature.inputs}, closed=True),
        "Rows": _object(
            {"rows": _array({"$ref": "#/components/schemas/Row"}), "keys": _array(keys)}, ["rows"], closed=True
        ),
        "Predictions": _object({"predictions": _array(prediction), "model": text, "sha256": text}),
        "Invocation": _object({"predictions": _array(_object(told)), "prediction_ids": _array(text)}),
        "Error": _object(error, ["error"]),
        "FieldError": _object({**error, **where}, ["error"]),
        "MlflowError": _object({"error_code": text, "message": text}),
    }


def _answer(signature: Signature) -> _Json:
    """The properties of an answer to a row (`models/answer.py`)."""
    task, target = signature.task, signature.target
    number, share = {"type": "number"}, {"type": "number", "minimum": 0, "maximum": 1}
    if task.kind == "binary":
        what = f"{target} is {task.classes[1]}" if task.classes else ""
        return {"score": {**share, "description": f"Probability that {what}" if what else f"Probability of {target}"}}
    if task.kind == "regression":
        return {"score": {**number, "description": f"Value of {target}"}}
    if task.kind == "multiclass":
        named = {"type": "string", "enum": list(task.classes), "description": f"The most probable class of {target}"}
        each = _object(dict.fromkeys(task.classes, share), closed=True)
        return {"class": named, "probabilities": {**each, "description": "The probability of each class"}}
    if task.kind == "quantile":
        said = zip(task.names, task.quantiles, strict=True)
        return {name: {**number, "description": f"Quantile {at:g} of {target}"} for name, at in said}
    bounds = {"minItems": task.outputs, "maxItems": task.outputs} if task.outputs is not None else {}
    return {"scores": {**_array(number), **bounds, "description": f"What the model says of {target}"}}


def _field(field: Field) -> _Json:
    schema = dict(_FIELDS[field.kind])
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
    if field.kind == "vector" and field.shape:
        schema["maxItems"] = field.shape[0]
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _object(properties: _Json, required: list[str] | None = None, *, closed: bool = False) -> _Json:
    schema: _Json = {"type": "object", "properties": properties, "required": required or list(properties)}
    return {**schema, "additionalProperties": False} if closed else schema


def _array(items: _Json) -> _Json:
    return {"type": "array", "items": items}
