"""The error function and its complement.

erfc a = exp(−a²) q P(q) with q = 1 / (1 + a/c) for a ≥ 0: that product without the exponential is a smooth function of
q up to a = ∞ (M. M. Shepherd and J. G. Laframboise, Chebyshev approximation of (1 + 2x) exp(x²) erfc x, Mathematics of
Computation 36, 1981). a² and q are taken with the digits that rounding takes away. Near 0, erf x = x P(x²), and in
single precision, beyond 1, it is a polynomial too. The polynomials are those with the smallest greatest error (Remez),
2⁻⁵⁵ of the result in double and 2⁻²⁵ in single.
"""

from __future__ import annotations

from funcgrad.compiler.native.machine.builder import Builder, Value
from funcgrad.compiler.native.vectormath.arithmetic import at_most, polynomial, product
from funcgrad.compiler.native.vectormath.exponential import expm1_near_zero, reduced
from funcgrad.compiler.native.vectormath.scaling import scaled

# erf x / x by powers of x², for |x| < ½ in double and |x| < 1 in single
_NEAR = {
    "double": (
        1.1283791670955126, -0.37612638903183465, 0.11283791670924812, -0.026866170632715566, 0.005223977370324167,
        -0.0008548297524277296, 0.00012053324310243343, -1.4845583693927394e-05, 1.4723215244101908e-06,
    ),
    "float": (1.12837917, -0.376126258, 0.112835852, -0.0268538126, 0.00518832916, -0.00080102077, 7.85391035e-05),
}  # fmt: skip
# erf a by powers of a − 2.5, for 1 ≤ a < 3.95
_BEYOND = (
    0.999593071, 0.00217806775, -0.0054467545, 0.00835338265, -0.00861467327, 0.00610277934, -0.00281964041,
    0.000570965924, 0.000287992322, -0.000279227222, 6.12007352e-05, 2.11049927e-05, -9.00656223e-06,
)  # fmt: skip
# P by powers of q − ½
_COMPLEMENT = {
    "double": (
        0.27399891525012277, 0.4882743645404412, 0.7732087022652409, 1.081707662626376, 1.3234063515111636,
        1.3920874979318114, 1.2221042386276284, 0.8438417061319503, 0.39117155852257623, 0.035962761092026535,
        -0.11649340345010348, -0.09052872576206979, -0.0037235997293089524, 0.03863480965944693, 0.01923792014341072,
        -0.011734952767987727, -0.01390248680521526, 0.002846635668998819, 0.008149771144436758,
        -0.0012602923626912105, -0.0036283483656485284, 0.0014505908268440271,
    ),
    "float": (
        0.510791357, 0.687160925, 0.558943044, 0.145743608, -0.172022673, -0.102963365, 0.0973751489, 0.0464854382,
        -0.0677384315, 0.0119909012,
    ),
}  # fmt: skip
# the size of a for which q is ½
_HALFWAY = {"double": 4.0, "float": 2.0}
# where erfc is 0
_FAR = {"double": 27.25, "float": 10.1}


def erf(b: Builder, x: Value) -> Value:
    """The error function."""
    a = b.intrinsic("fabs", x)
    near = b.op("fmul", a, polynomial(b, b.op("fmul", a, a), _NEAR[x.type.lane]))
    if x.type.lane == "double":
        limit, beyond = 0.5, b.op("fsub", b.like(x, 1), _complement(b, at_most(b, a, 6.0)))
    else:
        limit, beyond = 1.0, polynomial(b, b.op("fsub", at_most(b, a, 3.95), b.like(x, 2.5)), _BEYOND)
    return b.intrinsic("copysign", b.select(b.compare("olt", a, b.like(x, limit)), near, beyond), x)


def erfc(b: Builder, x: Value) -> Value:
    """The complement of the error function, 1 − erf x; for negative x it is 1 + erf(−x)."""
    y = _complement(b, at_most(b, b.intrinsic("fabs", x), _FAR[x.type.lane]))
    return b.select(b.compare("olt", x, b.like(x, 0)), b.op("fsub", b.like(x, 2), y), y)


def _complement(b: Builder, a: Value) -> Value:
    """1 − erf a for a ≥ 0."""
    lane = a.type.lane
    one = b.like(a, 1)
    part = b.op("fmul", a, b.like(a, 1 / _HALFWAY[lane]))
    q = b.op("fdiv", one, b.op("fadd", one, part))
    # what rounding has taken from q
    rest = b.op("fmul", q, b.fma(b.negative(q), part, b.op("fsub", one, q)))
    p = polynomial(b, b.op("fadd", b.op("fsub", q, b.like(a, 0.5)), rest), _COMPLEMENT[lane])
    p = b.fma(p, q, b.op("fmul", p, rest))
    square, lost = product(b, a, a)
    k, r = reduced(b, b.negative(square))
    return scaled(b, b.fma(p, expm1_near_zero(b, b.op("fsub", r, lost)), p), k)
