"""The logarithm of the gamma function, and its first two derivatives: digamma and trigamma.

For large x, Stirling's series: lgamma x = (x − ½) (log x − 1) + ½ log 2π − ½ + P(1/x²) / x, and digamma x = log x −
1/(2x) − P(1/x²) / x². With as many terms as here, such a sum is good from 2.5 on. log x is taken in two parts, as the
product makes much of what rounding would take from it.

Below, lgamma(1 + u) = u (u − 1) (½ + R(u)), and digamma(1 + u) = (1 + u − x₀) (¾ + R(u)) with the zero x₀, where R is a
quotient of polynomials: like this, zeros keep their digits. Trigamma has none, and is 1/x + R(1/x) / x² from 1 on. The
recurrence leads there from smaller x.

If one of the lanes is negative, all of them are reflected too: lgamma(−a) = −log(a |sin πa| / π) − lgamma(a), and its
derivatives. With the distance r from the next integer, sin πa is a polynomial, and so are π cot πa − 1/r and
π² / sin² πa − 1/r². Between the poles at negative integers, lgamma and digamma have zeros. There, the error is small
beside the two terms, of which the sum is taken.

In single precision, this is computed in double with fewer terms. Formulas: NIST Digital Library of Mathematical
Functions, 5.5, 5.11 and 5.15. P and R are fitted by least squares, with weights that make the greatest error almost as
small as it can be (C. L. Lawson, 1961). They leave some 2⁻⁵⁵ of the result in double, and 2⁻²⁷ in single.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import (
    at_most,
    in_double,
    instead,
    polynomial,
    product,
    sum_of_ordered,
    where_some,
)
from funcgrad.compiler.native.vectormath.logarithm import log_in_parts


class _Table(NamedTuple):
    """Polynomials, and quotients of two."""

    lgamma_near: tuple[Sequence[float], Sequence[float]]
    lgamma_far: Sequence[float]
    digamma_near: tuple[Sequence[float], Sequence[float]]
    digamma_far: Sequence[float]
    trigamma: tuple[Sequence[float], Sequence[float]]
    sine: Sequence[float]
    cotangent: Sequence[float]
    square: Sequence[float]


_DOUBLE = _Table(
    lgamma_near=(
        (
            0.07721566490153287, 0.055434272235891785, -0.3222717912125825, -0.6285236683590038, -0.4716052016456878,
            -0.17199254257153127, -0.030377780303352142, -0.0022675330605897706, -4.8442504720932964e-05,
        ),
        (
            1.0, 3.894101554935947, 6.181746657833153, 5.146985213608756, 2.40881218151521, 0.6305835782161437,
            0.08643575028871633, 0.005301821319448654, 9.856601949834814e-05,
        ),
    ),
    lgamma_far=(
        0.08333333333333331, -0.0027777777777507912, 0.0007936507835464879, -0.0005952365876550806,
        0.0008416320232743046, -0.001911821612454921, 0.006227976860104491, -0.025415800168803866,
        0.10890235218930187, -0.4103633763640836, 1.1652221402831562, -2.111778251099013, 1.7905677756562963,
    ),
    digamma_near=(
        (
            0.5003801375034054, 0.2560136547893254, -0.2684060092717319, -0.22439479357884373, -0.056075784881668915,
            -0.00533448886877167, -0.00015358213487298613, -2.16468461029576e-08,
        ),
        (
            1.0, 2.2197264282568647, 1.7512908553767372, 0.632896573140801, 0.10949136727355481, 0.00836816160039608,
            0.00020894156221942046,
        ),
    ),
    digamma_far=(
        0.0833333333333312, -0.00833333333202805, 0.003968253686172967, -0.00416663556178731, 0.007573692860003226,
        -0.021001995372230912, 0.0805095580658586, -0.3778251823680706, 1.8638359294200955, -8.344883440938215,
        30.069963059274254, -78.22699898746131, 127.75632299983059, -97.26883427860929,
    ),
    trigamma=(
        (
            0.5000000000000007, 5.787483526485667, 32.00718318224742, 106.9186542019315, 232.53083152085173,
            334.8227080839401, 311.87955252762697, 173.7080940423484, 45.59080817239809,
        ),
        (
            1.0, 11.24163371963846, 60.26715512456477, 193.8149233651564, 401.2061307407541, 539.8802326226979,
            456.184674051427, 219.29888446257215, 45.59080981297603,
        ),
    ),
    sine=(
        1.0, -1.6449340668482264, 0.8117424252833536, -0.19075182412208255, 0.026147847817611952,
        -0.002346081034815612, 0.00014842878720582693, -6.975840840570714e-06, 2.5300988262866966e-07,
        -7.093152142649e-09,
    ),
    cotangent=(
        3.289868133696453, 2.1646464674221115, 2.034686124009677, 2.0081547082763036, 2.0019893731998315,
        2.000484793609095, 2.000283607626815, 1.9976028556263143, 2.0259309743204827, 1.8014501610530722,
        3.089787397362994, -2.21837767262503, 13.082202812172714, -16.206173266193133, 17.23614289025329,
    ),
    square=(
        3.2898681336964524, 6.493939402267578, 10.173430619656312, 14.057083007019589, 18.017901154196906,
        22.005458062627383, 26.000502604926787, 30.01929406802788, 33.7658048177839, 40.13034337291286,
        27.783052502885774, 115.20340901035297, -190.76985488981958, 628.0063736717393, -802.0556650567762,
        715.0519943609119,
    ),
)  # fmt: skip
_FLOAT = _Table(
    lgamma_near=(
        (0.0772156651, -0.08889724143, -0.237933357, -0.1037465172, -0.009593542522),
        (1.0, 2.024901666, 1.33706429, 0.318299262, 0.02027052929),
    ),
    lgamma_far=(0.0833333332, -0.00277773431, 0.0007912995152, -0.0005489388431, 0.0004263515004),
    digamma_near=(
        (0.5003801373, -0.03083887657, -0.2889109106, -0.0582671456, -0.0001284257776),
        (1.0, 1.646457159, 0.7311187657, 0.0844263366),
    ),
    digamma_far=(
        0.08333333179, -0.008333129947, 0.003959205421, -0.003974350452, 0.00532351952, -0.005019955532,
    ),
    trigamma=(
        (0.5000000133, 1.654029366, 2.599722441, 2.078508072, 0.7462715131),
        (1.0, 2.974727222, 4.207825643, 2.821592195, 0.7467172314),
    ),
    sine=(1.0, -1.644934062, 0.8117421961, -0.1907479019, 0.02611746777, -0.002237226827),
    cotangent=(
        3.289868122, 2.164650408, 2.034434438, 2.014692967, 1.915908719, 2.621118903, -0.4297401977, 6.533228823,
    ),
    square=(
        3.289867719, 6.494034101, 10.1680033, 14.19115087, 16.30180781, 34.14899007, -20.77020997, 115.2527303,
    ),
)  # fmt: skip
# where lgamma takes the recurrence, and where Stirling's series begin
_SHIFTED, _FAR = 0.7, 2.5
# x₀ − 1, where x₀ is the zero of digamma: this difference is exact, and then what is left of x₀ when it is rounded
_ZERO = (1.4616321449683622 - 1, 9.549995429965697e-17)
# ½ log 2π − ½
_CONSTANT = 0.41893853320467274
# beyond, lgamma is infinite
_LARGEST = 2.5599833278516383e305
# all numbers from here on are integers
_WHOLE = 2.0**53


def lgamma(b: Builder, x: Value) -> Value:
    """The logarithm of the absolute value of the gamma function; −∞ at −∞, as SciPy has it."""
    return _computed(b, x, _lgamma)


def digamma(b: Builder, x: Value) -> Value:
    """The derivative of lgamma; NaN at negative integers and at −∞, and −1/x at zeros."""
    return _computed(b, x, _digamma)


def trigamma(b: Builder, x: Value) -> Value:
    """The derivative of digamma; ∞ at zeros and at negative integers, and at −∞, as SciPy has it."""
    return _computed(b, x, _trigamma)


def _computed(b: Builder, x: Value, code: Callable[[Builder, Value, _Table], Value]) -> Value:
    if x.type.lane == "double":
        return code(b, x, _DOUBLE)
    return b.cast("fptrunc", code(b, in_double(b, x), _FLOAT), "float")


def _lgamma(b: Builder, x: Value, table: _Table) -> Value:
    a = b.intrinsic("fabs", x)
    small, near = (b.compare("olt", a, b.like(a, limit)) for limit in (_SHIFTED, _FAR))
    u = b.select(small, a, b.op("fsub", a, b.like(a, 1)))
    top, bottom = (polynomial(b, u, c) for c in table.lgamma_near)
    # one division for the quotient and for 1/a
    q = b.op("fdiv", b.select(near, top, b.like(a, 1)), b.select(near, bottom, a))
    product_of_zeros = b.op("fmul", u, b.op("fsub", u, b.like(u, 1)))
    at_near = b.op("fmul", product_of_zeros, b.op("fadd", q, b.like(q, 0.5)))
    high, low = log_in_parts(b, a)
    far_high, far_low = _stirling(b, a, high, low, q, table)
    zero = b.like(a, 0)
    y = b.select(near, at_near, far_high)
    rest = b.select(near, zero, far_low)
    positive = b.op(
        "fadd",
        b.select(small, b.negative(high), y),
        b.select(small, b.op("fsub", at_near, low), rest),
    )
    below = b.compare("olt", x, zero)

    def reflected() -> list[Value]:
        r = b.intrinsic("fabs", _from_integer(b, a))
        sine = b.op("fmul", r, polynomial(b, b.op("fmul", r, r), table.sine))
        # 1 + a has no factor a
        first, second = log_in_parts(b, b.select(small, sine, b.op("fmul", a, sine)))
        sum_ = b.op("fadd", b.op("fadd", first, y), b.op("fadd", second, rest))
        return [instead(b, r, 0, b.negative(sum_), math.inf)]

    (y,) = where_some(b, below, reflected, [positive])
    y = b.select(b.compare("ogt", a, b.like(a, _LARGEST)), b.like(a, math.inf), y)
    return instead(b, x, -math.inf, instead(b, a, 0, y, math.inf), -math.inf)


def _stirling(b: Builder, a: Value, high: Value, low: Value, t: Value, table: _Table) -> tuple[Value, Value]:
    """Stirling's series at a ≥ 2.5 as a sum of two numbers, from the parts of log a and from t = 1/a."""
    less, lost = sum_of_ordered(b, high, b.like(a, -1))
    factor = b.op("fsub", a, b.like(a, 0.5))
    y, rest = product(b, factor, less)
    rest = b.fma(factor, b.op("fadd", low, lost), rest)
    tail = b.fma(t, polynomial(b, b.op("fmul", t, t), table.lgamma_far), b.like(a, _CONSTANT))
    return y, b.op("fadd", rest, tail)


def _digamma(b: Builder, x: Value, table: _Table) -> Value:
    a = b.intrinsic("fabs", x)
    small, near = (b.compare("olt", a, b.like(a, limit)) for limit in (1, _FAR))
    u = b.select(small, a, b.op("fsub", a, b.like(a, 1)))
    top, bottom = (polynomial(b, u, c) for c in table.digamma_near)
    distance = u
    for part in _ZERO:
        distance = b.op("fsub", distance, b.like(u, part))
    at_near = b.op("fmul", distance, b.op("fadd", b.op("fdiv", top, bottom), b.like(u, 0.75)))
    signed = b.op("fdiv", b.like(x, 1), x)
    t = b.intrinsic("fabs", signed)
    high, low = log_in_parts(b, a)
    square = b.op("fmul", t, t)
    tail = b.fma(square, polynomial(b, square, table.digamma_far), b.fma(t, b.like(t, 0.5), b.negative(low)))
    zero = b.like(a, 0)
    y = b.select(near, at_near, high)
    rest = b.select(near, zero, b.negative(tail))
    positive = b.op("fadd", y, b.select(small, b.negative(signed), rest))

    def reflected() -> list[Value]:
        r = _from_integer(b, a)
        following = b.op("fadd", y, b.op("fadd", rest, b.select(small, zero, t)))
        inverse = b.op("fdiv", b.like(r, 1), r)
        cotangent = b.fma(b.negative(r), polynomial(b, b.op("fmul", r, r), table.cotangent), inverse)
        z = b.op("fadd", cotangent, following)
        return [instead(b, r, 0, z, math.nan)]

    (y,) = where_some(b, b.compare("olt", x, zero), reflected, [positive])
    y = instead(b, x, -math.inf, y, math.nan)
    return instead(b, x, math.inf, y, math.inf)


def _trigamma(b: Builder, x: Value, table: _Table) -> Value:
    a = b.intrinsic("fabs", x)
    one, zero = b.like(a, 1), b.like(a, 0)
    small = b.compare("olt", a, one)
    t = b.op("fdiv", one, b.select(small, b.op("fadd", a, one), a))
    top, bottom = (polynomial(b, t, c) for c in table.trigamma)
    square = b.op("fmul", t, t)
    y = b.fma(square, b.op("fdiv", top, bottom), t)
    inverse = b.op("fdiv", one, a)
    positive = b.op("fadd", y, b.select(small, b.op("fmul", inverse, inverse), zero))

    def reflected() -> list[Value]:
        r = _from_integer(b, at_most(b, a, _WHOLE))
        following = b.op("fsub", y, b.select(small, zero, square))
        others = b.op("fsub", polynomial(b, b.op("fmul", r, r), table.square), following)
        inverse = b.op("fdiv", one, r)
        return [b.fma(inverse, inverse, others)]

    (y,) = where_some(b, b.compare("olt", x, zero), reflected, [positive])
    return y


def _from_integer(b: Builder, a: Value) -> Value:
    """The distance from the next integer, with its sign; it is exact."""
    return b.op("fsub", a, b.intrinsic("rint", a))
