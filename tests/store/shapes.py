"""Values of every event: any at all for Hypothesis, and one fixed sample of each for the golden files.

Both follow the types of the fields, so a new event or field is covered as soon as it exists.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from skep.core.events import Event

#: Every event, in the order in which they are declared.
KINDS: tuple[type[Event], ...] = get_args(Event)

_INTEGERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text()  # without halves of surrogate pairs
#: What survives a round trip unchanged where a field may hold anything: tuples come back as lists.
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)


def events() -> st.SearchStrategy[Any]:
    """Any event with any values."""
    return st.one_of([_any_of(inspect.type_info(kind)) for kind in KINDS])


def samples() -> list[Event]:
    """One of every event, each field filled with something else than its default."""
    return [_sample(inspect.type_info(kind), kind.__name__) for kind in KINDS]


def _any_of(shape: inspect.Type) -> st.SearchStrategy[Any]:
    match shape:
        case inspect.AnyType():
            return _ANYTHING
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return _INTEGERS
        case inspect.FloatType():
            return _FLOATS
        case inspect.StrType():
            return _TEXT
        case inspect.LiteralType(values):
            return st.sampled_from(values)
        case inspect.UnionType(types):
            return st.one_of([_any_of(one) for one in types])
        case inspect.VarTupleType(item_type):
            return st.lists(_any_of(item_type), max_size=2).map(tuple)
        case inspect.TupleType(item_types):
            return st.tuples(*map(_any_of, item_types))
        case inspect.ListType(item_type):
            return st.lists(_any_of(item_type), max_size=2)
        case inspect.DictType(key_type, value_type):
            return st.dictionaries(_any_of(key_type), _any_of(value_type), max_size=2)
        case inspect.StructType(cls, fields):
            return st.fixed_dictionaries({field.name: _any_of(field.type) for field in fields}).map(lambda values: cls(**values))
    raise TypeError(f"no strategy for {shape}")


def _sample(shape: inspect.Type, name: str) -> Any:
    match shape:
        case inspect.AnyType():
            return {"any": [1, 2.5, None, True, "ü", b"\x00\xff"]}
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 1_700_000_000_000 + len(name)
        case inspect.FloatType():
            return 0.25 + len(name)
        case inspect.StrType():
            return f"{name} ü"
        case inspect.LiteralType(values):
            return values[-1]
        case inspect.UnionType(types):
            return _sample(next(one for one in types if not isinstance(one, inspect.NoneType)), name)
        case inspect.VarTupleType(item_type):
            return (_sample(item_type, f"{name}0"), _sample(item_type, f"{name}1"))
        case inspect.TupleType(item_types):
            return tuple(_sample(one, f"{name}{number}") for number, one in enumerate(item_types))
        case inspect.ListType(item_type):
            return [_sample(item_type, f"{name}0")]
        case inspect.DictType(_, value_type):
            return {f"{name} key": _sample(value_type, name)}
        case inspect.StructType(cls, fields):
            return cls(**{field.name: _sample(field.type, field.name) for field in fields})
    raise TypeError(f"no sample for {shape}")


def by_name(event: Event) -> dict[str, Any]:
    """An event as its golden file tells it: everything by name, JSON-ready."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return {"event": type(event).__struct_config__.tag, **msgspec.to_builtins(fields, str_keys=True)}
