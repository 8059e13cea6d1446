"""Vectors of numbers inside compiled kernels: `load`, `store`, `spread`, and + - * between them.

A compiler vectorizes a loop only where it can prove that no store aliases a later load. Over a dozen rows of one array, as in
a kernel with several smoothing steps in flight, it cannot. So the vectors are explicit here. A vector is `BYTES` long, longer
than any register: the compiler splits it into as many registers as the machine needs, and so has independent instructions to
schedule between dependent ones.

Rows must be C-contiguous; nothing is checked.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

BYTES = 128  # measured at 32, 64, 128, 256: the first that is within 2 % of the fastest, 12 % faster than 64
_FLAGS = ("contract", "nsz")  # not "reassoc": sums keep the order in which they are written, wherever they are compiled in


class Vector(types.Type):
    """The type of a vector of `lanes` numbers."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = 8 * BYTES // dtype.bitwidth
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(manager.lookup(vector.dtype).get_value_type(), vector.lanes))


def _place(context, builder, row, arguments):
    """Return the address of row[index]."""
    array = cgutils.create_struct_proxy(row)(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


def _of_vector(context, builder, place, vector):
    return builder.bitcast(place, context.get_value_type(vector).as_pointer())


@intrinsic
def lanes_of(typing_context, row):
    """Return the numbers per vector, of a row's type. (`itemsize` is no constant to the compiler.)"""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, Vector(row.dtype).lanes)

    return types.intp(row), generate


@intrinsic
def load(typing_context, row, index):
    """Return row[index], row[index + 1], .. as a vector."""
    vector = Vector(row.dtype)

    def generate(context, builder, signature, arguments):
        place = _of_vector(context, builder, _place(context, builder, row, arguments), vector)
        return builder.load(place, align=row.dtype.bitwidth // 8)

    return vector(row, types.intp), generate


@intrinsic
def load_for(typing_context, row, index, other):
    """Return row[index], row[index + 1], .. as a vector of the precision of another row, which may be the wider one."""
    vector = Vector(other.dtype)

    def generate(context, builder, signature, arguments):
        narrow = ir.VectorType(context.get_value_type(row.dtype), vector.lanes)
        place = builder.bitcast(_place(context, builder, row, arguments), narrow.as_pointer())
        numbers = builder.load(place, align=row.dtype.bitwidth // 8)
        return numbers if row.dtype == other.dtype else builder.fpext(numbers, context.get_value_type(vector))

    return vector(row, types.intp, other), generate


@intrinsic
def store(typing_context, row, index, vector):
    """Write a vector to row[index], row[index + 1], .."""

    def generate(context, builder, signature, arguments):
        place = _of_vector(context, builder, _place(context, builder, row, arguments), vector)
        builder.store(arguments[2], place, align=row.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(row, types.intp, vector), generate


@intrinsic
def spread(typing_context, number):
    """Return the vector that holds a number in every lane."""
    vector = Vector(number)

    def generate(context, builder, signature, arguments):
        kind, integer = context.get_value_type(vector), ir.IntType(32)
        nothing = ir.Constant(kind, ir.Undefined)
        first = builder.insert_element(nothing, arguments[0], integer(0))
        everywhere = ir.Constant(ir.VectorType(integer, vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(first, nothing, everywhere)

    return vector(number), generate


def _shuffle(begin, step):
    """Return an intrinsic that takes every `step`-th number, from `begin` on, of two concatenated vectors."""

    @intrinsic
    def shuffle(typing_context, first, second):
        def generate(context, builder, signature, arguments):
            chosen = [begin + step * lane for lane in range(first.lanes)]
            return builder.shuffle_vector(*arguments, ir.Constant(ir.VectorType(ir.IntType(32), first.lanes), chosen))

        return first(first, second), generate

    return shuffle


evens, odds = _shuffle(0, 2), _shuffle(1, 2)


def _zip(half):
    """Return an intrinsic that interleaves the lower (0) or the upper (1) halves of two vectors."""

    @intrinsic
    def zipped(typing_context, first, second):
        def generate(context, builder, signature, arguments):
            lanes = first.lanes
            chosen = [half * lanes // 2 + lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
            return builder.shuffle_vector(*arguments, ir.Constant(ir.VectorType(ir.IntType(32), lanes), chosen))

        return first(first, second), generate

    return zipped


zip_low, zip_high = _zip(0), _zip(1)


@intrinsic
def reciprocal(typing_context, vector):
    """Return one over a vector, zero where that is zero."""

    def generate(context, builder, signature, arguments):
        kind, number = context.get_value_type(vector), context.get_value_type(vector.dtype)
        nothing, ones = (ir.Constant(kind, [ir.Constant(number, value)] * vector.lanes) for value in (0.0, 1.0))
        quotient = builder.fdiv(ones, arguments[0])
        return builder.select(builder.fcmp_ordered("==", arguments[0], nothing), nothing, quotient)

    return vector(vector), generate


@intrinsic
def prefetch(typing_context, row, index):
    """Prefetch the cache line that holds row[index], which need not lie inside the row."""

    def generate(context, builder, signature, arguments):
        place = builder.bitcast(_place(context, builder, row, arguments), ir.IntType(8).as_pointer())
        integer = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, integer, integer, integer])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [place, integer(0), integer(3), integer(1)])  # to read, keep it near, data
        return context.get_dummy_value()

    return types.void(row, types.intp), generate


def _arithmetic(instruction):
    @intrinsic
    def arithmetic(typing_context, first, second):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments, flags=_FLAGS)

        return first(first, second), generate

    def chosen(first, second):
        if isinstance(first, Vector) and first == second:
            return lambda first, second: arithmetic(first, second)
        return None

    return chosen


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    overload(_symbol)(_arithmetic(_instruction))
