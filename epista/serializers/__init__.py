"""
Bytes and Python objects, both ways: a registry, and one file per format.

Pure: no wire, no disk, nothing heavy at import. A format's module imports its libraries in its functions.
"""

from epista.serializers.conversion import Serialized, check_options, deserialize, reader_for, serialize
from epista.serializers.json_values import to_json
from epista.serializers.picture import Picture
from epista.serializers.registry import Row, Rows, formats, register_serializer
from epista.serializers.serializer import Serializer, Written

__all__ = [
    "serialize",
    "deserialize",
    "Serialized",
    "reader_for",
    "check_options",
    "formats",
    "Row",
    "Rows",
    "register_serializer",
    "Serializer",
    "Written",
    "Picture",
    "to_json",
]
