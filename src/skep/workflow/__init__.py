"""Workflow files: YAML to a checked plan. Pure: what is read comes through a function that is handed in."""

from skep.workflow.check import Known
from skep.workflow.infer import complete
from skep.workflow.parts import definitions, fingerprint, select
from skep.workflow.planning import planning
from skep.workflow.plans import load, parse, read_file
from skep.workflow.proposal import written
from skep.workflow.rehearsal import read_script, rehearsed
from skep.workflow.schema import json_schema, reference
from skep.workflow.yamltree import MAX_BYTES

__all__ = [
    "MAX_BYTES",
    "Known",
    "complete",
    "definitions",
    "fingerprint",
    "json_schema",
    "load",
    "parse",
    "planning",
    "read_file",
    "read_script",
    "reference",
    "rehearsed",
    "select",
    "written",
]
