"""Named tuples in memory: `store_record` and `load_record`.

A kernel can so go through arguments of one type whose number is not known when it is compiled. A record refers to the memory of
its arrays and keeps none of them alive.
"""

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from .compiling import kernel
from .vectors import address


def _record(context, builder, memory, arguments, record):
    return builder.bitcast(address(context, builder, memory, arguments), context.get_data_type(record).as_pointer())


@intrinsic
def _store(typing_context, memory, place, record):
    def generate(context, builder, signature, arguments):
        pointer = _record(context, builder, memory, arguments, record)
        builder.store(context.data_model_manager[record].as_data(builder, arguments[2]), pointer, align=8)
        return context.get_dummy_value()

    return types.void(memory, types.intp, record), generate


@intrinsic
def load_record(typing_context, memory, place, example):
    """Return the record, of the type of `example`, that begins at memory[place]."""

    def generate(context, builder, signature, arguments):
        pointer = _record(context, builder, memory, arguments, example)
        return context.data_model_manager[example].from_data(builder, builder.load(pointer, align=8))

    return example(memory, types.intp, example), generate


@intrinsic
def _size(typing_context, example):
    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(example)))

    return types.intp(example), generate


@kernel
def record_size(example):
    """Return the bytes of a record, a multiple of 8."""
    return -(-_size(example) // 8) * 8


@kernel
def store_record(memory, place, record):
    """Write a record to memory[place], memory[place + 1], .., bytes."""
    _store(memory, place, record)


def stored(records):
    """Return memory that holds records of one type, one after the other, and the size of each."""
    size = record_size(records[0])
    memory = np.zeros(size * len(records) // 8, np.int64).view(np.uint8)
    for number, record in enumerate(records):
        store_record(memory, number * size, record)
    return memory, size
