"""The filter `format_span`: named entities that a model wrote, in one form.

Semantics: lm-evaluation-harness 0.4.13, `filters/transformation.py`, for its MasakhaNER tasks.

>>> format_span("Persons: Ada, Bo $$ country: none $$ date: May")
'per: ada $ per: bo $ date: may'
"""

import re
from collections.abc import Mapping

LABELS: Mapping[str, str] = {
    "person": "PER",
    "location": "LOC",
    "organization": "ORG",
    "counties": "LOC",
    "places": "LOC",
    "people": "PER",
    "persons": "PER",
    "company": "ORG",
    "country": "LOC",
    "continent": "LOC",
    "time": "DATE",
    "date": "DATE",
    "per": "PER",
    "loc": "LOC",
    "org": "ORG",
}
"""What models call a label, before a colon."""

ENTITIES = re.compile(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")


def format_span(text: str) -> str:
    """`label: entity $ label: entity`, in lower case; the entity "none" is left out."""
    named = text.lower()
    for said, label in LABELS.items():
        named = re.sub(rf"\b{said}\s*:", f"{label}:", named)
    named = named.replace("$$", "$").rstrip("$").replace("\n", "$").strip()
    return " $ ".join(
        f"{label.lower()}: {entity.strip()}"
        for label, entities in ENTITIES.findall(named)
        for entity in entities.split(",")
        if entity.strip() != "none"
    )
